"""metrics.csv of a resumed run: rows before its checkpoint are kept, later rows are logged again."""

import pytest

from src.common.errors import InputError
from src.loggers.csv import CSVLog


def raises(error):
    def fail(*_):
        raise error

    return fail


def make_log(folder, **options):
    return CSVLog(str(folder), name="csv", version="", **options)


def log_rows(folder, rows, **options):
    """Log rows of one named value each, save after every row, and return the file's text."""
    log = make_log(folder, **options)
    for step, (name, value) in enumerate(rows, start=log.rows):
        log.log_metrics({name: value}, step)
        log.save()
    return (folder / "csv" / "metrics.csv").read_text()


ROWS = [("train/loss", 3.0), ("train/loss", 2.5), ("val/psnr", 20.25), ("train/loss", 0.1), ("a", 7.0)]


@pytest.mark.parametrize("kept", range(6))
def test_resumed_log_equals_uninterrupted_log(tmp_path, kept):
    uninterrupted = log_rows(tmp_path / "uninterrupted", ROWS)
    log_rows(tmp_path / "killed", ROWS)
    with (tmp_path / "killed" / "csv" / "metrics.csv").open("a") as file:
        file.write("0.3,7")  # killed while writing a row
    assert log_rows(tmp_path / "killed", ROWS[kept:], keep_rows=kept) == uninterrupted


@pytest.mark.parametrize("left", ["", None, "train/loss,step\n", "train/loss,step\n3.0,0\n2.5"])
def test_lost_rows_are_reported(tmp_path, caplog, left):
    log_rows(tmp_path, ROWS)
    path = tmp_path / "csv" / "metrics.csv"
    path.unlink() if left is None else path.write_text(left)
    rows = int(left is not None and left.endswith("2.5"))
    assert make_log(tmp_path, keep_rows=3).rows == rows
    assert f"metrics.csv has only {rows} of the 3 rows logged before the checkpoint" in caplog.text


@pytest.mark.parametrize(
    "content", [b"\xff\x00\x01" * 99, b"step,a\n" + b"1,2\n1\n" * 9, b"a,b\n1,2\n", b"step,step\n1,2\n"]
)
def test_foreign_file_is_named_and_kept(tmp_path, content):
    path = tmp_path / "csv" / "metrics.csv"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"metrics\.csv is (corrupt|not the log)"):
        _ = make_log(tmp_path, keep_rows=9).rows
    assert path.read_bytes() == content


def test_full_disk_is_named(tmp_path, monkeypatch):
    log = make_log(tmp_path)
    log.log_metrics({"a": 1.0}, 0)
    monkeypatch.setattr("lightning.fabric.loggers.csv_logs._ExperimentWriter.save", raises(OSError(28, "x")))
    with pytest.raises(InputError, match=r"metrics\.csv can't be written: No space left"):
        log.save()


def test_row_count_includes_kept_rows(tmp_path):
    log_rows(tmp_path, ROWS)
    log = make_log(tmp_path, keep_rows=3)
    log.log_metrics({"train/loss": 1.0}, 3)
    assert log.rows == 4


def test_new_log_replaces_existing_file(tmp_path):
    log_rows(tmp_path, ROWS)
    assert log_rows(tmp_path, ROWS[:1]) == log_rows(tmp_path / "other", ROWS[:1])


def test_kill_while_adding_a_column_loses_no_row(tmp_path, monkeypatch):
    before = log_rows(tmp_path, ROWS[:2])
    log = make_log(tmp_path, keep_rows=2)
    log.log_metrics({"val/psnr": 20.0}, 2)
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        log.save()
    assert (tmp_path / "csv" / "metrics.csv").read_text() == before
