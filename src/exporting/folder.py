"""A checkpoint as a folder that is used without its run: weights, configuration, graphs and a model card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.checkpoints.export_directory import CARD, CONFIG, WEIGHTS, write_exported
from src.checkpoints.reading import Checkpoint
from src.common.errors import InputError
from src.common.provenance import Checkpoint as HashedFile
from src.common.provenance import code_revision
from src.evaluation.records import read_records, score_column
from src.exporting.formats import FILES, Written, written_graphs
from src.exporting.graph import Graph, Size
from src.exporting.model_card import Origin, model_card, sizes_taken
from src.training.resume.run_dirs import read_finished

SCORES = {"psnr": "PSNR, dB", "ssim": "SSIM", "l1_percent": "l1, %", "lpips": "LPIPS"}
"""Scores that a card shows of an evaluation, and what it calls them."""


@dataclass(frozen=True)
class Wanted:
    """What stands in the folder beside weights and configuration.

    Attributes:
        formats: of graphs, `src.exporting.formats.FILES` names them.
        size: that the graphs are made for.
        given: whether the graphs take edges as they are; see `Graph`.
        license: of the weights, an identifier of the Hub.
        records: an evaluation's, whose scores the card shows.
        half: whether weights are written as float16.
    """

    formats: Sequence[str] = ()
    size: Size = None
    given: bool = False
    license: str = "other"
    records: Path | None = None
    half: bool = False


NOTHING_MORE = Wanted()


def write_folder(folder: Path, checkpoint: Checkpoint, wanted: Wanted = NOTHING_MORE) -> dict[str, Written]:
    """Write it, or leave what was there as it was.

    Returns:
        The graphs, by format.
    Raises:
        InputError: a graph can't be made or computes something else; the records are of other weights; the folder
            can't be written to, or has files of these names that are no export's.
    """
    refuse_no_export(folder)
    graph, origin = Graph(checkpoint.network, given=wanted.given), _origin(checkpoint, wanted.records)
    facts = {"model": origin.model, "step": str(origin.step), "checkpoint_sha256": origin.sha256}
    told = {
        **facts,
        "inputs": ", ".join(graph.inputs),
        "mask": "1 = known, 0 = hole",
        "sizes": sizes_taken(wanted.size),
    }
    with written_graphs(folder, wanted.formats, checkpoint.network, graph, wanted.size, told) as files:
        card = model_card(checkpoint.network, graph, wanted.size, files, origin, wanted.license)
        write_exported(folder, checkpoint.network, checkpoint.config, facts, card, wanted.half)
    return files


def refuse_no_export(folder: Path, key: str = "") -> None:
    """Refuse a folder whose files would be replaced though they are no export's: without weights, which each has.

    Args:
        key: said before the folder in the message.
    Raises:
        InputError: it names the file.
    """
    if (folder / WEIGHTS).exists():
        return
    for name in (CARD, CONFIG, *FILES.values()):
        if (folder / name).exists():
            raise InputError(f"{key}{folder} has a {name} that is no export's: name another folder")


def _origin(checkpoint: Checkpoint, records: Path | None) -> Origin:
    sha256 = HashedFile.of(checkpoint.path).sha256
    run = read_finished(checkpoint.path.parent.parent) if checkpoint.path.name == "best.ckpt" else None
    psnr = (run or {}).get("best_val_psnr")
    return Origin(
        config=checkpoint.config,
        step=checkpoint.step,
        sha256=sha256,
        code=str(code_revision()),
        psnr=psnr if isinstance(psnr, float) else None,
        scores="" if records is None else _scores(records, sha256),
    )


def _scores(path: Path, sha256: str) -> str:
    """The means of an evaluation of these weights."""
    rows, provenance = read_records(path)
    if provenance.checkpoint is None or provenance.checkpoint.sha256 != sha256:
        raise InputError(
            f"records={path} are not of this checkpoint, but of other weights: evaluate it by its own path"
        )
    shown = {label: score_column("composite", name) for name, label in SCORES.items()}
    shown = {label: column for label, column in shown.items() if column in rows}
    masks = f"{provenance.config.get('mask', {}).get('name', 'unknown')} (bank {provenance.mask_bank_hash[:12]})"
    head = ["data", "masks", "pictures", *shown]
    cells = [
        str(rows["data"].iloc[0]),
        masks,
        str(len(rows)),
        *(f"{rows[column].mean():.4g}" for column in shown.values()),
    ]
    lines = [head, ["---"] * len(head), cells]
    return "Of the composite, by `python -m src.evaluate`:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
