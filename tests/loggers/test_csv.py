"""The log of a run that goes on: what its checkpoint knew stays, what came behind is logged again."""

import pytest

from src.loggers.csv import CSVLog


def log_of(folder, **options):
    return CSVLog(str(folder), name="csv", version="", **options)


def logged(folder, rows, **options):
    """Log rows of one value each, by name, and save after every row."""
    log = log_of(folder, **options)
    for step, (name, value) in enumerate(rows, start=log.rows):
        log.log_metrics({name: value}, step)
        log.save()
    return (folder / "csv" / "metrics.csv").read_text()


ROWS = [("train/loss", 3.0), ("train/loss", 2.5), ("val/psnr", 20.25), ("train/loss", 0.1), ("a", 7.0)]


@pytest.mark.parametrize("known", range(6))
def test_a_log_taken_up_ends_like_one_written_in_one_go(tmp_path, known):
    whole = logged(tmp_path / "whole", ROWS)
    logged(tmp_path / "half", ROWS)
    with (tmp_path / "half" / "csv" / "metrics.csv").open("a") as file:
        file.write("0.3,7")  # killed within a row
    assert logged(tmp_path / "half", ROWS[known:], rows_kept=known) == whole


def test_a_log_counts_its_rows_those_kept_included(tmp_path):
    logged(tmp_path, ROWS)
    log = log_of(tmp_path, rows_kept=3)
    log.log_metrics({"train/loss": 1.0}, 3)
    assert log.rows == 4


def test_a_log_that_begins_anew_leaves_nothing_of_the_one_before(tmp_path):
    logged(tmp_path, ROWS)
    assert logged(tmp_path, ROWS[:1]) == logged(tmp_path / "other", ROWS[:1])


def test_a_process_killed_while_a_column_is_added_loses_no_row(tmp_path, monkeypatch):
    before = logged(tmp_path, ROWS[:2])
    log = log_of(tmp_path, rows_kept=2)
    log.log_metrics({"val/psnr": 20.0}, 2)
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        log.save()
    assert (tmp_path / "csv" / "metrics.csv").read_text() == before
