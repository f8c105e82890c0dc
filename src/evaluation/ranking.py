"""Which methods differ: paired tests between every two methods of a table, and the ranks that follow from them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from src.evaluation.bootstrap import Bootstrap, Estimate, image_means
from src.evaluation.formats import HOW_TO_READ, interval_text, number, text_table
from src.evaluation.records import score_column
from src.evaluation.significance import ALPHA, holm, signed_rank_p
from src.evaluation.tables import ScoreGroup, ScoreTable, require_same_samples, sort_records
from src.metrics.metric import Metric
from src.metrics.set_scores import SET_METRICS
from src.rendering.text_table import NO_VALUE, Cell, Heading, Section, TextTable

Ranks = Mapping[tuple[str, str], tuple[int, int]]
"""The best and the worst rank of a method in a metric, by the names of metric and method."""


@dataclass(frozen=True)
class PairTest:
    """A test of the difference between two methods in one metric, over all records.

    Attributes:
        difference: mean of `better` minus that of `worse`, with its interval; 0 if they are equal.
        p: of the Wilcoxon signed-rank test over images; `p_holm` is adjusted for all tests of the table.
    """

    metric: Metric
    better: str
    worse: str
    difference: Estimate
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the adjusted p is below `ALPHA`."""
        return self.p_holm < ALPHA


def pair_tests(records: pd.DataFrame, metrics: Sequence[Metric], bootstrap: Bootstrap) -> list[PairTest]:
    """Test every two methods in every metric; p values are adjusted together by Holm's method.

    Pairs with a score that is not finite, and metrics whose scores are all 0, have no test.

    Args:
        records: rows as in `src.evaluation.records`; composites are compared.
    Raises:
        InputError: the methods were not scored on the same images and masks.
    """
    by_method = {str(name): sort_records(rows) for name, rows in records.groupby("method", sort=False)}
    require_same_samples(by_method)
    first = next(iter(by_method.values()))
    images = (first["data"].astype(str) + "/" + first["path"].astype(str)).to_numpy(str)
    tests, differences = [], []
    for metric in (each for each in metrics if score_column("composite", each.name) in records):
        scores = {
            name: rows[score_column("composite", metric.name)].to_numpy(float) for name, rows in by_method.items()
        }
        if not any(values.any() for values in scores.values()):
            continue  # the error of known pixels, which composites do not have: its tests would only weaken the others
        for one, other in itertools.combinations(scores, 2):
            difference = scores[one] - scores[other]
            if not np.isfinite(difference).all():
                continue
            of_images = image_means(difference, images)
            # The direction is that of the test, whose mean is over images. Its sign is that of the mean over records,
            # unless images have different numbers of masks.
            one_is_better = (of_images.mean() >= 0) == metric.higher_is_better
            better, worse, sign = (one, other, 1) if one_is_better else (other, one, -1)
            mean = Estimate(sign * float(difference.mean()))
            tests.append(PairTest(metric, better, worse, mean, signed_rank_p(of_images), 1.0))
            differences.append(sign * difference)
    if not tests:
        return []
    intervals = bootstrap.intervals(np.stack(differences, axis=1), images)
    return [
        replace(test, difference=replace(test.difference, interval=interval), p_holm=adjusted)
        for test, interval, adjusted in zip(tests, intervals, holm([test.p for test in tests]), strict=True)
    ]


def ranks_of(tests: Sequence[PairTest]) -> Ranks:
    """Return the ranks of the methods of each metric that are consistent with its significant differences.

    The best rank is 1 plus the number of methods that are significantly better, the worst is the number of methods
    minus the number of those that are significantly worse.
    """
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for name in dict.fromkeys(test.metric.name for test in tests):
        own = [test for test in tests if test.metric.name == name]
        methods = {method for test in own for method in (test.better, test.worse)}
        for method in methods:
            better = sum(test.significant and test.worse == method for test in own)
            worse = sum(test.significant and test.better == method for test in own)
            found[name, method] = (1 + better, len(methods) - worse)
    return found


def sort_by_rank(table: ScoreTable) -> ScoreTable:
    """Return a table with the rows of each metric in the order of their means over all records, the best first."""

    def sort(group: ScoreGroup) -> ScoreGroup:
        sign = -1 if group.metric.higher_is_better else 1
        by_mean = sorted(group.rows, key=lambda row: (math.isnan(row.means[-1]), sign * row.means[-1]))
        return replace(group, rows=tuple(by_mean))

    return replace(table, groups=tuple(sort(group) for group in table.groups))


def ranked_table(table: ScoreTable, ranks: Ranks, *, intervals: bool = True) -> TextTable:
    """Return a table of scores as text, with a last column of ranks; a range where the tests leave the order open."""
    text = text_table(table, intervals=intervals)
    sections = []
    for section, group in zip(text.sections, table.groups, strict=True):
        rows: list[tuple[Cell, ...]] = []
        for cells, row in zip(section.rows, group.rows, strict=True):
            best, worst = ranks.get((group.metric.name, row.method), (0, 0))
            rows.append((*cells, NO_VALUE if not best else str(best) if best == worst else f"{best}-{worst}"))
        sections.append(replace(section, rows=tuple(rows)))
    notes = [note for note in text.notes if note != HOW_TO_READ]
    how_to_read = [HOW_TO_READ, rank_note(table)] if intervals else [rank_note(table)]
    headings = (*text.headings, Heading("rank"))
    return replace(text, headings=headings, sections=tuple(sections), notes=(*how_to_read, *notes))


def rank_note(table: ScoreTable) -> str:
    """Return how the ranks of a table were found."""
    tested = [group for group in table.groups if group.metric.name not in SET_METRICS]
    without = "" if len(tested) == len(table.groups) else "; scores of the whole set have no test and no rank"
    return (
        f"Rank: by the mean over all, as a range if a test can't tell methods apart: Wilcoxon signed-rank tests over "
        f"images between every two methods, adjusted together by Holm's method, at a level of {ALPHA}{without}."
    )


def few_images_notes(images: int, tests: int) -> list[str]:
    """Return a note if no test can be significant, whatever the scores: the smallest p of n images is 2^(1 - n)."""
    if not tests or tests * 2.0 ** (1 - images) < ALPHA:
        return []
    return [f"{images} images are too few for any of {tests} tests to be significant, however large the differences."]


def pair_table(tests: Sequence[PairTest]) -> TextTable:
    """Return all tests as text, by metric: the differences with their intervals, and their p values."""

    def row(test: PairTest) -> tuple[Cell, ...]:
        difference = f"{number(test.difference.mean, test.metric)} {interval_text(test.difference, test.metric)}"
        verdict = "yes" if test.significant else "no"
        return (test.better, test.worse, difference.strip(), f"{test.p:.2g}", f"{test.p_holm:.2g}", verdict)

    names = dict.fromkeys(test.metric.name for test in tests)
    grouped = [[test for test in tests if test.metric.name == name] for name in names]
    sections = tuple(Section(tuple(map(row, own)), own[0].metric.heading) for own in grouped)
    headings = [Heading("better", left=True), Heading("worse", left=True), Heading("difference"), Heading("p")]
    return TextTable(
        f"Paired tests of {len(tests)} differences",
        (*headings, Heading("p, Holm"), Heading(f"below {ALPHA}")),
        sections,
        (
            "Better minus worse over all records, with 95% bootstrap intervals over images. p: Wilcoxon signed-rank "
            f"test over images, two-sided; p, Holm: adjusted for all {len(tests)} tests of this table.",
        ),
    )


def pair_frame(tests: Sequence[PairTest]) -> pd.DataFrame:
    """Return one row per test, with unrounded values."""
    return pd.DataFrame(
        [
            {
                "metric": test.metric.label,
                "unit": test.metric.unit,
                "better": test.better,
                "worse": test.worse,
                "difference": test.difference.mean,
                **dict(zip(("low", "high"), test.difference.interval or (None, None), strict=True)),
                "p": test.p,
                "p_holm": test.p_holm,
                "significant": test.significant,
            }
            for test in tests
        ]
    )
