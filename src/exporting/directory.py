"""Write an export directory: a checkpoint as weights, config, graphs and a model card, independent of its run."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.checkpoints.export_directory import CARD, CONFIG, WEIGHTS, write_export_directory
from src.checkpoints.reading import Checkpoint
from src.common.errors import InputError
from src.common.provenance import HashedFile, code_revision
from src.common.untrusted_files import read_yaml
from src.evaluation.leaderboard import leaderboard
from src.evaluation.record_files import read_listed
from src.exporting.formats import FILES, GraphFile, write_graphs
from src.exporting.graph import Graph, Size
from src.exporting.model_card import WeightsOrigin, describe_sizes, model_card
from src.training.resume.run_dirs import read_finished

SCORES = ("psnr", "ssim", "l1_percent", "lpips")
"""Scores of an evaluation that a model card shows."""

_DIRECTORIES = re.compile(r"(?<![^\[{,:= '\"])/(?:[^/,\[\]{}'\"]+/)*(?=[^/,\[\]{}'\"])")
"""The directories of an absolute path within the value of an override; addresses such as hf://user/name have none."""


@dataclass(frozen=True)
class ExportContents:
    """Contents of an export directory beyond weights and config, as conf/export.yaml describes them.

    `records` are what `read_listed` takes, or None; one of the methods must have been scored with these weights.
    """

    formats: Sequence[str] = ()
    size: Size = None
    edges_given: bool = False
    license: str = "other"
    records: Any = None
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


def _origin(checkpoint: Checkpoint, records: Any) -> WeightsOrigin:
    sha256 = HashedFile.of(checkpoint.path).sha256
    run_dir = checkpoint.path.parent.parent
    run = read_finished(run_dir) if checkpoint.path.name == "best.ckpt" else None
    psnr = (run or {}).get("best_val_psnr")
    return WeightsOrigin(
        checkpoint.config,
        checkpoint.step,
        sha256,
        code=str(code_revision()),
        psnr=psnr if isinstance(psnr, float) else None,
        scores="" if records is None else _scores(records, sha256),
        command=_training_command(run_dir) if checkpoint.path.parent.name == "checkpoints" else "",
    )


def _training_command(run_dir: Path) -> str:
    """Return the command of a run that Hydra started, with absolute paths shortened to their last part.

    Without a record of Hydra, the string is empty. Options that only say where a run writes are left out.
    """
    file = run_dir / ".hydra" / "overrides.yaml"
    saved = read_yaml(file) if file.is_file() else None
    overrides = [str(one) for one in (saved if isinstance(saved, list) else [])]
    kept = [_DIRECTORIES.sub("", one) for one in overrides if not one.startswith(("output_dir=", "resume=", "hydra."))]
    return shlex.join(["python", "-m", "src.train", *kept]) if kept else ""


def _scores(records: Any, sha256: str) -> str:
    """Return a Markdown table of these weights' scores by hole ratio, beside those of other methods in `records`."""
    methods = read_listed(records)
    by_sha256 = {made.checkpoint.sha256: one for one in methods if (made := one.origin.provenance).checkpoint}
    if (own := by_sha256.get(sha256)) is None:
        raise InputError(
            f"records={records} are of other weights than ckpt=: pass the records of an evaluation of this checkpoint"
        )
    made = own.origin.provenance
    masks = f"{made.config.get('mask', {}).get('name', 'unknown')} (bank {made.mask_bank_hash[:12]})"
    return (
        f"Scores of the composite, computed by `python -m src.evaluate`; this network is {own.origin.method}. "
        f"Masks: {masks}.\n\n{leaderboard(methods).text(only=SCORES).to_markdown().rstrip()}"
    )
