"""A paper's table with our numbers, compared with plain loops over the same records and with SciPy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from src.common.errors import InputError
from src.common.resolvers import FOLDER
from src.evaluation.bootstrap import Bootstrap
from src.evaluation.significance import holm
from src.reproduction.comparison import compare_with_paper
from src.reproduction.outcomes import Failure, RowOutcome
from src.reproduction.papers import PaperMetric, PaperRow, PaperTable, read_paper_file

LOW, HIGH = "(0.1,0.2]", "(0.4,0.5]"
PSNR = PaperMetric("PSNR", "higher", "psnr", unit="dB", decimals=2)
L1 = PaperMetric("l1", "lower", "l1_percent", unit="%", decimals=1)
RNG = np.random.default_rng(0)
IMAGE_SCORES = RNG.normal(25, 3, size=(9, 2))
SCORES = {  # by row and seed; the reference differs from the others in every image
    row: {seed: IMAGE_SCORES + shift + RNG.normal(0, 0.4, size=(9, 2)) for seed in (0, 1)}
    for row, shift in (("plain", -0.5), ("other", 0.1), ("full", 0.0))
}


def row_of(name, low, high, **more):
    return PaperRow(name.title(), name, {"PSNR": {LOW: low, HIGH: high}}, **more)


ROWS = (row_of("plain", 26.0, 20.0), row_of("other", 27.5, 21.25), row_of("full", 27.0, 22.0, reference=True))


def table_of(*rows, bins=(LOW, HIGH), metrics=(PSNR,), kind="training"):
    return PaperTable("T", "P", "Table 1", kind, None, None, {}, (), bins, metrics, rows or ROWS)


@pytest.fixture
def outcomes(write_run):
    return {
        row: RowOutcome({seed: write_run(row, seed, scores) for seed, scores in seeds.items()})
        for row, seeds in SCORES.items()
    }


def made(table, outcomes, **options):
    options = {"caption": "C", "bootstrap": Bootstrap(resamples=200), **options}
    return compare_with_paper(table, outcomes, **options)


def cells_of(found, block=0):
    """Return the cells by method and column."""
    return {
        (line.method, column.label): cell
        for line in found.metrics[block].rows
        for column, cell in zip(found.columns, line.cells, strict=True)
    }


def has_note(found, *words):
    return any(all(word in note for word in words) for note in found.notes)


COLUMNS = {LOW: [0], HIGH: [1], "mean": [0, 1]}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", SCORES)
def test_values_are_means_over_images_masks_and_seeds(outcomes, row, column):
    cell = cells_of(made(table_of(), outcomes))[row.title(), column]
    chosen = {seed: scores[:, COLUMNS[column]] for seed, scores in SCORES[row].items()}
    averaged = (chosen[0] + chosen[1]) / 2
    image_numbers = np.repeat(np.arange(9), len(COLUMNS[column]))
    (interval,) = Bootstrap(resamples=200).intervals(averaged.reshape(-1, 1), image_numbers)
    assert cell.ours.mean == pytest.approx(averaged.mean())
    assert cell.ours.interval == pytest.approx(interval)
    assert cell.ours.by_seed == {seed: pytest.approx(scores.mean()) for seed, scores in chosen.items()}
    printed = next(each for each in ROWS if each.row == row).values["PSNR"]
    assert cell.printed == pytest.approx(np.mean(list(printed.values())) if column == "mean" else printed[column])
    assert cell.gap == pytest.approx(averaged.mean() - cell.printed)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ["plain", "other"])
def test_differences_are_paired_by_image_mask_and_seed(outcomes, row, column):
    found = cells_of(made(table_of(), outcomes))[row.title(), column].difference
    by_seed = {seed: (SCORES[row][seed] - SCORES["full"][seed])[:, COLUMNS[column]] for seed in (0, 1)}
    averaged = (by_seed[0] + by_seed[1]) / 2
    image_numbers = np.repeat(np.arange(9), len(COLUMNS[column]))
    (interval,) = Bootstrap(resamples=200).intervals(averaged.reshape(-1, 1), image_numbers)
    assert found.ours.mean == pytest.approx(averaged.mean())
    assert found.ours.interval == pytest.approx(interval)
    assert found.ours.by_seed == {seed: pytest.approx(each.mean()) for seed, each in by_seed.items()}
    assert found.p == pytest.approx(stats.wilcoxon(averaged.mean(axis=1)).pvalue)
    assert found.seeds_with_mean_sign == sum(
        np.sign(each.mean()) == np.sign(averaged.mean()) for each in by_seed.values()
    )
    printed = {"plain": {LOW: -1.0, HIGH: -2.0, "mean": -1.5}, "other": {LOW: 0.5, HIGH: -0.75, "mean": -0.125}}
    assert found.printed == printed[row][column]


def test_all_tests_of_a_table_are_adjusted_together(write_run):
    rng, outcomes = np.random.default_rng(1), {}
    for row in SCORES:
        l1 = rng.normal(3, 0.3, size=(9, 2))
        outcomes[row] = RowOutcome({0: write_run(row, 0, SCORES[row][0], l1_percent=l1)})
    rows = [replace(row, values={**row.values, "l1": {LOW: 1.0, HIGH: 2.0}}) for row in ROWS]
    found = made(table_of(*rows, metrics=(PSNR, L1)), outcomes)
    differences = [
        cell.difference for block in (0, 1) for cell in cells_of(found, block).values() if cell.difference is not None
    ]
    assert found.tests == len(differences) == 12  # two rows, two metrics, two bins and their mean
    assert [each.p_holm for each in differences] == pytest.approx(holm([each.p for each in differences]))
    assert len({each.p for each in differences}) > 6
    assert has_note(found, "Holm", "all 12 tests")


def test_a_column_that_is_not_printed_has_ours_alone(write_run):
    l1 = np.full((9, 2), 3.0)
    outcomes = {"full": RowOutcome({0: write_run("full", 0, SCORES["full"][0], l1_percent=l1)})}
    found = made(table_of(metrics=(PSNR, replace(L1, printed=False))), outcomes)
    cell = cells_of(found, block=1)["Full", LOW]
    assert (cell.printed, cell.gap, cell.ours.mean) == (None, None, pytest.approx(3.0))
    assert all(agreement is None for agreement in found.metrics[1].agreements)
    assert cells_of(found)["Full", LOW].printed == 27.0


def test_the_reference_and_tables_without_one_have_no_differences(outcomes):
    assert all(
        (cell.difference is None) == (method == "Full")
        for (method, _), cell in cells_of(made(table_of(), outcomes)).items()
    )
    found = made(table_of(*(replace(row, reference=False) for row in ROWS)), outcomes)
    assert (found.reference, found.tests) == (None, 0)
    assert all(cell.difference is None for cell in cells_of(found).values())
    assert not has_note(found, "Wilcoxon")


def test_results_do_not_depend_on_the_order_of_rows_and_records(outcomes, write_run):
    straight = made(table_of(), outcomes)
    rng = np.random.default_rng(0)
    shuffled = {
        row: RowOutcome({
            seed: write_run(row, seed, scores, change=lambda frame: frame.sample(frac=1, random_state=rng))
            for seed, scores in reversed(seeds.items())
        })
        for row, seeds in reversed(SCORES.items())
    }  # fmt: skip
    turned = made(table_of(*ROWS[::-1]), shuffled)
    assert cells_of(turned) == cells_of(straight)
    assert turned.metrics[0].agreements[0].spearman == straight.metrics[0].agreements[0].spearman
    assert [line.method for line in turned.metrics[0].rows] == ["Full", "Other", "Plain"]


def test_seeds_are_not_counted_as_images(write_run):
    once = made(table_of(), {row: RowOutcome({0: write_run(row, 0, s[0])}) for row, s in SCORES.items()})
    thrice = {row: RowOutcome({seed: write_run(row, seed, s[0]) for seed in range(3)}) for row, s in SCORES.items()}
    for place, cell in cells_of(made(table_of(), thrice)).items():
        single = cells_of(once)[place]
        assert cell.ours.interval == pytest.approx(single.ours.interval)
        if cell.difference is not None:
            assert cell.difference.p == pytest.approx(single.difference.p)
            assert cell.difference.seeds_with_mean_sign == len(cell.difference.ours.by_seed) == 3


def test_seeds_pair_by_number_and_means_are_over_all_that_finished(write_run):
    scores = {seed: np.full((4, 2), float(20 + seed)) for seed in range(4)}
    outcomes = {
        "plain": RowOutcome({seed: write_run("plain", seed, scores[seed]) for seed in (0, 3)}),
        "full": RowOutcome({seed: write_run("full", seed, scores[0] + [1.0, 0][seed == 3]) for seed in (1, 3)}),
    }
    found = made(table_of(), outcomes)
    difference = cells_of(found)["Plain", "mean"].difference
    assert difference.ours.mean == 1.0  # (20 + 23) / 2 - (21 + 20) / 2
    assert difference.ours.by_seed == {3: 3.0}
    assert difference.seeds_with_mean_sign == 1
    assert has_note(found, "different seeds", "Plain 0, 3; Full 1, 3")


def test_a_seed_whose_difference_has_another_sign_is_not_counted(write_run):
    base = np.full((4, 2), 20.0)
    outcomes = {
        "plain": RowOutcome({seed: write_run("plain", seed, base + up) for seed, up in enumerate((2.0, -0.5, 0.0))}),
        "full": RowOutcome({seed: write_run("full", seed, base) for seed in range(3)}),
    }
    difference = cells_of(made(table_of(), outcomes))["Plain", "mean"].difference
    assert (difference.seeds_with_mean_sign, len(difference.ours.by_seed)) == (1, 3)


def test_identical_rows_have_zero_difference(write_run):
    outcomes = {row: RowOutcome({0: write_run(row, 0, SCORES["full"][0])}) for row in SCORES}
    found = made(table_of(), outcomes)
    for cell in cells_of(found).values():
        if cell.difference is not None:
            assert (cell.difference.ours.mean, cell.difference.ours.interval) == (0.0, (0.0, 0.0))
            assert (cell.difference.p, cell.difference.p_holm, cell.difference.significant) == (1.0, 1.0, False)
    assert found.metrics[0].agreements[0].spearman is None


@pytest.mark.parametrize(("images", "is_noted"), [(7, True), (8, False)])
def test_a_note_warns_of_too_few_images_for_significance(write_run, images, is_noted):
    full = np.arange(2.0 * images).reshape(-1, 2)
    outcomes = {
        row: RowOutcome({0: write_run(row, 0, full + shift * (1 + full / 100))})  # no ties: the test is exact
        for row, shift in (("plain", -1), ("other", 2), ("full", 0))
    }
    found = made(table_of(), outcomes)
    differences = [cell.difference for cell in cells_of(found).values() if cell.difference is not None]
    assert all(each.p == pytest.approx(2 / 2**images) for each in differences)
    assert any(each.significant for each in differences) != is_noted
    assert has_note(found, f"With {images} images p can't be below") == is_noted


def test_a_single_image_has_no_interval_and_no_significance(write_run):
    outcomes = {row: RowOutcome({0: write_run(row, 0, scores[0][:1])}) for row, scores in SCORES.items()}
    cell = cells_of(made(table_of(), outcomes))["Plain", "mean"]
    assert cell.ours.interval is cell.difference.ours.interval is None
    assert cell.difference.p == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
def test_non_finite_scores_are_neither_tested_nor_dropped(write_run, bad):
    spoiled = {row: scores[0].copy() for row, scores in SCORES.items()}
    spoiled["plain"][2, 0] = spoiled["full"][2, 0] = bad
    found = made(table_of(), {row: RowOutcome({0: write_run(row, 0, scores)}) for row, scores in spoiled.items()})
    cells = cells_of(found)
    assert found.tests == 2  # of the other bin
    assert has_note(found, "PSNR of Plain, seed 0: 1 of 18 records are not finite")
    for column in (LOW, "mean"):
        assert cells["Plain", column].difference.ours is None  # inf - inf is NaN, too
        assert cells["Other", column].difference.p is None
        if np.isnan(bad):
            assert cells["Plain", column].ours is None
        else:
            assert (cells["Plain", column].ours.mean, cells["Plain", column].ours.interval) == (np.inf, None)
    assert cells["Plain", HIGH].difference.p is not None
    assert cells["Other", LOW].ours.interval is not None


def test_a_bin_without_records_is_empty_and_noted(write_run):
    found = made(
        table_of(), {"full": RowOutcome({0: write_run("full", 0, SCORES["full"][0], change=lambda f: f[::2])})}
    )
    assert [column.count for column in found.columns] == [9, 0, 9]
    assert cells_of(found)["Full", HIGH].ours is None
    assert has_note(found, "No record has a hole ratio in (0.4,0.5]")


def test_scores_are_shown_in_the_printed_unit(write_run):
    ssim = PaperMetric("SSIM", "higher", "ssim", unit="%", decimals=2, factor=100.0)
    rows = [replace(row, values={"SSIM": {"all": 90.0 + i}}) for i, row in enumerate(ROWS)]
    outcomes = {
        row: RowOutcome({0: write_run(row, 0, np.ones((2, 2)), ssim=np.full((2, 2), 0.8 + i / 100))})
        for i, row in enumerate(SCORES)
    }
    found = made(table_of(*rows, bins=("all",), metrics=(ssim,)), outcomes)
    assert cells_of(found)["Plain", "all"].ours.mean == pytest.approx(80.0)
    assert cells_of(found)["Plain", "all"].difference.ours.mean == pytest.approx(-2.0)
    assert found.metrics[0].metric.heading == "SSIM (%) ↑"
    assert (found.metrics[0].metric.decimals, found.metrics[0].printed_decimals) == (2, 2)
    assert has_note(found, "SSIM: ", ", times 100")


def test_our_values_have_the_decimals_of_our_score_if_the_paper_has_fewer(outcomes):
    found = made(table_of(metrics=(replace(PSNR, decimals=0),)), outcomes)
    assert (found.metrics[0].metric.decimals, found.metrics[0].printed_decimals) == (2, 0)


def test_every_row_is_listed_with_the_reason_if_it_has_no_number(write_run):
    rows = (
        PaperRow("GL", None, {"PSNR": {LOW: 25.0, HIGH: 19.0}}, why="GL is not implemented here"),
        *(row_of(name, 26.0, 20.0) for name in ("failed", "half", "skipped")),
        row_of("given", 26.0, None, unprinted="the page is torn"),
        ROWS[2],
    )
    failure = Failure("ValueError: no", Path("runs/log.txt"))
    outcomes = {
        "failed": RowOutcome(failures={0: failure, 1: failure}),
        "half": RowOutcome({0: write_run("half", 0, SCORES["plain"][0])}, {1: failure}),
        "given": RowOutcome({0: write_run("given", 0, SCORES["other"][0])}, given=Path("mine.ckpt")),
        "full": RowOutcome({0: write_run("full", 0, SCORES["full"][0])}),
    }
    found = made(table_of(*rows), outcomes, notes=["from the caller"])
    lines = {line.method: line for line in found.metrics[0].rows}
    assert {method: line.status for method, line in lines.items()} == {
        "GL": "not implemented here", "Failed": "failed", "Half": "some seeds failed", "Skipped": "not run",
        "Given": "ok", "Full": "ok",
    }  # fmt: skip
    assert cells_of(found)["GL", LOW].difference.printed == -2.0
    assert cells_of(found)["GL", LOW].ours is cells_of(found)["GL", LOW].difference.ours is None
    assert cells_of(found)["Given", "mean"].printed is None
    assert found.notes[0] == "from the caller"
    assert "GL: GL is not implemented here." in found.notes
    assert "Skipped: not run." in found.notes
    assert "Given: the page is torn." in found.notes
    assert "Given: not trained here, tested with the given checkpoint mine.ckpt." in found.notes
    assert sum("failed with ValueError: no (see runs/log.txt)" in note for note in found.notes) == 3
    assert found.metrics[0].agreements[0].rows == 3  # with both values
    assert found.metrics[0].agreements[1].rows == 2


def test_a_missing_score_leaves_the_papers_numbers_and_a_reason(outcomes, write_run):
    lpips = PaperMetric("LPIPS", "lower", "lpips", decimals=4)
    hours = PaperMetric("hours", "lower", None, decimals=0, why="not measured here")
    rows = [replace(row, values={**row.values, "LPIPS": {LOW: 0.1}, "hours": {LOW: 3}}) for row in ROWS]
    some = {**outcomes, "full": RowOutcome({0: write_run("full", 0, SCORES["full"][0], lpips=np.ones((9, 2)))})}
    found = made(table_of(*rows, metrics=(PSNR, lpips, hours)), some)
    assert {line.method: line.status for line in found.metrics[1].rows} == {
        "Plain": "no score", "Other": "no score", "Full": "ok",
    }  # fmt: skip
    assert cells_of(found, 1)["Plain", LOW].printed == 0.1
    assert cells_of(found, 1)["Plain", LOW].ours is None
    assert cells_of(found, 1)["Plain", LOW].difference.ours is None
    assert "LPIPS of Plain; Other is not shown: AlexNet weights not found." in found.notes
    assert "hours is not scored here: not measured here." in found.notes
    assert found.tests == 6  # of PSNR alone


def test_a_row_has_no_score_if_one_seed_has_none(write_run):
    without = write_run("full", 1, SCORES["full"][1])
    withit = write_run("full", 0, SCORES["full"][0], lpips=np.ones((9, 2)))
    table = table_of(PaperRow("Full", "full", {"LPIPS": {LOW: 0.1}}), metrics=(PaperMetric("LPIPS", "lower", "lpips"),))
    found = made(table, {"full": RowOutcome({0: withit, 1: without})})
    assert cells_of(found)["Full", LOW].ours is None


def test_without_runs_the_papers_table_remains():
    found = made(table_of(), {})
    assert [line.status for line in found.metrics[0].rows] == ["not run"] * 3
    assert [(column.label, column.count) for column in found.columns] == [(LOW, 0), (HIGH, 0), ("mean", 0)]
    assert cells_of(found)["Plain", "mean"].difference.printed == -1.5
    assert found.metrics[0].agreements == (None,) * 3
    assert found.notes == ("All rows: not run.",)


def test_an_unprinted_table_has_only_our_numbers(outcomes):
    rows = [replace(row, values={"PSNR": {LOW: None, HIGH: None}}, unprinted="The paper has none.") for row in ROWS]
    found = made(table_of(*rows, kind="unprinted"), outcomes)
    cell = cells_of(found)["Plain", "mean"]
    assert (cell.printed, cell.gap, cell.difference.printed, cell.difference.has_printed_sign) == (None,) * 4
    assert cell.difference.p is not None
    assert found.metrics[0].agreements == (None,) * 3
    assert "All rows: The paper has none." in found.notes
    assert not has_note(found, "Spearman")
    assert has_note(made(table_of(), outcomes), "Spearman")


def test_the_sign_is_compared_if_the_paper_has_one(outcomes):
    difference = cells_of(made(table_of(), outcomes))["Plain", LOW].difference
    assert difference.ours.mean < 0
    assert [replace(difference, printed=printed).has_printed_sign for printed in (-1.0, 1.0, 0.0, None)] == [
        True, False, None, None,
    ]  # fmt: skip


def test_unknown_rows_scores_and_kinds_raise_an_error(outcomes):
    with pytest.raises(InputError, match="unknown rows missing; available: plain, other, full"):
        made(table_of(), {"missing": RowOutcome()})
    with pytest.raises(InputError, match=r"metric PSNR: ours must be one of psnr, .*got votes"):
        made(table_of(metrics=(replace(PSNR, ours="votes"),)), outcomes)
    with pytest.raises(InputError, match="kind votes"):
        made(table_of(kind="votes"), outcomes)


TRAINED = {
    path.relative_to(FOLDER).as_posix(): read
    for path in sorted(FOLDER.glob("*/*.yaml"))
    if isinstance(read := read_paper_file(path), PaperTable) and read.kind in ("training", "unprinted")
}


@pytest.mark.parametrize("name", TRAINED)
def test_every_table_of_the_papers_can_be_reproduced(name):
    table = TRAINED[name]
    found = made(table, {})
    assert [line.method for line in found.metrics[0].rows] == [row.method for row in table.rows]
    assert len(found.columns) == len(table.bins) + (len(table.bins) > 1)
    assert found.metrics[0].metric.label == table.metrics[0].name
