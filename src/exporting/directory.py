"""Write an export directory: a checkpoint as weights, config, graphs and a model card, independent of its run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.checkpoints.export_directory import CARD, CONFIG, WEIGHTS, write_export_directory
from src.checkpoints.reading import Checkpoint
from src.common.errors import InputError
from src.common.provenance import HashedFile, code_revision
from src.evaluation.records import read_records, score_column
from src.exporting.formats import FILES, GraphFile, write_graphs
from src.exporting.graph import Graph, Size
from src.exporting.model_card import WeightsOrigin, describe_sizes, model_card
from src.training.resume.run_dirs import read_finished

SCORES = {"psnr": "PSNR, dB", "ssim": "SSIM", "l1_percent": "l1, %", "lpips": "LPIPS"}
"""Scores of an evaluation that a model card shows, with their column headings."""


@dataclass(frozen=True)
class ExportContents:
    """Contents of an export directory beyond weights and config, as conf/export.yaml describes them."""

    formats: Sequence[str] = ()
    size: Size = None
    edges_given: bool = False
    license: str = "other"
    records: Path | None = None
    half: bool = False


def write_export(directory: Path, checkpoint: Checkpoint, options: ExportContents) -> dict[str, GraphFile]:
    """Write an export directory and return its graphs by format; if that fails, it keeps its previous files.

    Raises:
        InputError: a graph can't be exported or differs from the network, the records are of other weights, or the
            directory is not writable or holds files that no export wrote.
    """
    require_export_directory(directory)
    graph = Graph(checkpoint.network, edges_given=options.edges_given)
    origin = _origin(checkpoint, options.records)
    metadata = {"model": origin.model, "step": str(origin.step), "checkpoint_sha256": origin.sha256}
    inputs = {"inputs": ", ".join(graph.inputs), "mask": "1 = known, 0 = hole", "sizes": describe_sizes(options.size)}
    graph_metadata = metadata | inputs
    with write_graphs(directory, options.formats, checkpoint.network, graph, options.size, graph_metadata) as files:
        card = model_card(checkpoint.network, graph, options.size, files, origin, options.license)
        write_export_directory(directory, checkpoint.network, checkpoint.config, metadata, card, options.half)
    return files


def require_export_directory(directory: Path, key: str = "") -> None:
    """Raise InputError if an export would replace files of something else; an earlier export always has weights.

    In the message, `key` precedes the directory.
    """
    if (directory / WEIGHTS).exists():
        return
    for name in (CARD, CONFIG, *FILES.values()):
        if (directory / name).exists():
            raise InputError(
                f"{key}{directory} has a {name} but no {WEIGHTS}, so no export wrote it: choose another directory"
            )


def _origin(checkpoint: Checkpoint, records: Path | None) -> WeightsOrigin:
    sha256 = HashedFile.of(checkpoint.path).sha256
    run = read_finished(checkpoint.path.parent.parent) if checkpoint.path.name == "best.ckpt" else None
    psnr = (run or {}).get("best_val_psnr")
    scores = "" if records is None else _scores(records, sha256)
    revision, known_psnr = str(code_revision()), psnr if isinstance(psnr, float) else None
    return WeightsOrigin(checkpoint.config, checkpoint.step, sha256, revision, known_psnr, scores)


def _scores(path: Path, sha256: str) -> str:
    """Return a Markdown table with the mean scores of an evaluation of these weights."""
    rows, provenance = read_records(path)
    if provenance.checkpoint is None or provenance.checkpoint.sha256 != sha256:
        raise InputError(
            f"records={path} are of other weights than ckpt=: pass the records of an evaluation of this checkpoint"
        )
    columns = {label: score_column("composite", name) for name, label in SCORES.items()}
    columns = {label: column for label, column in columns.items() if column in rows}
    masks = f"{provenance.config.get('mask', {}).get('name', 'unknown')} (bank {provenance.mask_bank_hash[:12]})"
    head = ["data", "masks", "images", *columns]
    means = [f"{rows[column].mean():.4g}" for column in columns.values()]
    lines = [head, ["---"] * len(head), [str(rows["data"].iloc[0]), masks, str(len(rows)), *means]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"Scores of the composite, computed by `python -m src.evaluate`:\n\n{table}"
