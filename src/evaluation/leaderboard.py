"""Records of different people and machines merged into one table with intervals, paired tests and ranks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console

from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import EvaluateOptions
from src.evaluation.bootstrap import Bootstrap
from src.evaluation.formats import to_frame
from src.evaluation.protocols import protocol_note
from src.evaluation.ranking import (
    PairTest,
    few_images_notes,
    pair_frame,
    pair_table,
    pair_tests,
    ranked_table,
    ranks_of,
    sort_by_rank,
)
from src.evaluation.record_files import read_listed
from src.evaluation.records import MethodRecords, score_column, write_merged_records
from src.evaluation.report import protocol_differences, write_report
from src.evaluation.results_of_programs import results_note
from src.evaluation.same_test import contents_are_known, require_same_test
from src.evaluation.scoring import BEST_NOTE
from src.evaluation.set_scores import set_score_groups, set_score_notes
from src.evaluation.tables import ScoreTable, comparison_table, split_samples
from src.metrics.scores import METRICS
from src.rendering.grids import Grid
from src.rendering.spreadsheet import to_csv
from src.rendering.text_table import Heading, Section, TextTable, write_texts

UNCHECKED_NOTE = (
    "The contents of the images were not compared, as some records have no hash of them: images are the same by name."
)


@dataclass(frozen=True)
class Leaderboard:
    """The scores of several methods on one test.

    Attributes:
        table: each metric's rows are sorted by their means, the best first.
        tests: of the differences between every two methods; none for a single method.
    """

    methods: tuple[MethodRecords, ...]
    table: ScoreTable
    tests: tuple[PairTest, ...]

    def text(self, *, intervals: bool = True, only: Collection[str] = ()) -> TextTable:
        """Return the table with its ranks; without `intervals` and explanations it fits on the console.

        With `only`, names of metrics, it has these and no notes but that on the ranks.
        """
        groups = tuple(group for group in self.table.groups if group.metric.name in only)
        table = replace(self.table, groups=groups, notes=()) if only else self.table
        return ranked_table(table, ranks_of(self.tests), intervals=intervals)


def leaderboard(methods: Sequence[MethodRecords]) -> Leaderboard:
    """Compare methods, as `read_listed` returns them.

    Raises:
        InputError: they were not scored on the same images, crops and masks; the message names the files.
    """
    by_file = {
        f"{each.origin.file.path} ({each.origin.method})": (each.origin.provenance, each.frame) for each in methods
    }
    require_same_test(by_file)
    data = methods[0].frame["data"].iloc[0]  # people may have named the same files differently
    frames = [part for each in methods for part in split_samples(each.frame.assign(data=data))]
    records = pd.concat(frames, ignore_index=True)
    metrics = [metric for name, metric in METRICS.items() if score_column("composite", name) in records]
    made = {each.origin.method: each.origin.provenance for each in methods}
    caption = f"{data}: {records['path'].nunique()} images, {len(frames)} methods"
    absent = {
        f"{score} of {method}": reason
        for method, one in made.items()
        for score, reason in one.absent_scores.items()
        if score not in METRICS or METRICS[score] in metrics
    }
    table = comparison_table(records, metrics, caption=caption, bootstrap=Bootstrap(), absent=absent)
    of_sets = {each.origin.method: list(each.origin.set_scores) for each in methods if each.origin.set_scores}
    features = {name: _features(made[name].config) for name in of_sets}
    notes = [*table.notes]
    if len(set(features.values())) > 1:
        listed = ", ".join(f"{name} {feature}" for name, feature in features.items())
        notes.append(f"FID, KID, U-IDS and P-IDS are not shown, as they are of different features: {listed}.")
        of_sets = {}
    notes += [BEST_NOTE] if len(frames) > len(methods) else []
    protocols = (protocol_note(each.origin.provenance.config, each.frame["path"].nunique()) for each in methods)
    notes += [*set_score_notes(of_sets), *dict.fromkeys(filter(None, protocols)), *protocol_differences(made)]
    notes += results_notes(methods)
    notes += [] if contents_are_known(list(made.values())) else [UNCHECKED_NOTE]
    groups = (*table.groups, *set_score_groups(of_sets, table.columns))
    tests = pair_tests(records, metrics, Bootstrap()) if len(frames) > 1 else []
    notes += few_images_notes(records["path"].nunique(), len(tests))
    return Leaderboard(tuple(methods), sort_by_rank(replace(table, groups=groups, notes=tuple(notes))), tuple(tests))


def merge_records(cfg: DictConfig) -> Leaderboard:
    """Merge the files of `records=` as conf/evaluate.yaml composes; write tables and a report into `output_dir`.

    Raises:
        InputError: an option or a file is invalid, or the records are of different tests.
    """
    check_options(cfg, EvaluateOptions)
    if scored := [
        key for key in ("ckpt", "weights", "model", "methods", "results", "export_inputs") if cfg.get(key) is not None
    ]:
        raise InputError(
            f"records= merges finished evaluations and scores nothing: leave out {', '.join(f'{k}=' for k in scored)}, "
            "score that method first and add its records"
        )
    board = leaderboard(read_listed(cfg.records))
    write_leaderboard(board, Path(cfg.output_dir))
    if cfg.merged is not None:
        write_merged_records(board.methods, Path(cfg.merged).expanduser())
    return board


def write_leaderboard(
    board: Leaderboard, directory: Path, *, first: Sequence[str] = (), grids: Sequence[Grid] = ()
) -> None:
    """Write `table.md`, `table.csv`, `tests.csv` and `report.html`.

    Args:
        first: names of the metrics that the report begins with, the others being folded; empty for all.
        grids: images for the report.
    """
    sources = provenance_table(board.methods)
    pairs = [pair_table(board.tests)] if board.tests else []
    texts = {
        "table.md": "\n".join(table.to_markdown() for table in (board.text(), *pairs, sources)),
        "table.csv": to_csv(to_frame(board.table)),
        **({"tests.csv": to_csv(pair_frame(board.tests))} if board.tests else {}),
    }
    write_texts(directory, texts)
    write_report(
        directory / "report.html",
        board.table.caption,
        tables=[board.text(only=first).to_html()],
        more_tables=[table.to_html() for table in (*([board.text()] if first else []), *pairs, sources)],
        provenance={each.origin.method: each.origin.provenance for each in board.methods},
        grids=grids,
        notes=results_notes(board.methods),
    )


def print_leaderboard(cfg: DictConfig, board: Leaderboard) -> None:
    """Print the table, and name the files that `merge_records` wrote."""
    Console().print(board.text(intervals=False).to_console())
    written = [f"{cfg.output_dir}/table.md", *([] if cfg.merged is None else [str(cfg.merged)])]
    print(f"tables, tests and provenance: {', '.join(written)}, report.html")


def provenance_table(methods: Sequence[MethodRecords]) -> TextTable:
    """Return who scored what with which code: one row for each method."""
    rows = []
    for each in methods:
        made, file = each.origin.provenance, each.origin.file
        weights = "none" if made.checkpoint is None else f"{made.checkpoint.path} (SHA-256 {made.checkpoint.sha256})"
        records = f"{file.path} (SHA-256 {file.sha256})"
        rows.append((each.origin.method, records, weights, str(made.revision), f"{made.started}, {made.device}"))
    headings = ("method", "records", "weights", "code", "scored")
    made = methods[0].origin.provenance
    return TextTable(
        "Provenance",
        tuple(Heading(heading, left=True) for heading in headings),
        (Section(tuple(rows)),),
        (f"Mask bank of all methods: {made.mask_bank_hash}.",),
    )


def results_notes(methods: Sequence[MethodRecords]) -> list[str]:
    """Return what is to be said about images of other programs."""
    origins = [each.origin for each in methods]
    return [results_note(one.method, one.provenance.results) for one in origins if one.provenance.results is not None]


def _features(config: dict[str, object]) -> str:
    """Return the features that set scores were computed with."""
    protocol = config.get("protocol")
    of_protocol = protocol.get("features") if isinstance(protocol, dict) else None
    return str(config.get("features") or of_protocol)
