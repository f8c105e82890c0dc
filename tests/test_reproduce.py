"""Reproducing tables and figures, from the command line and in one process."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from src.common.errors import InputError
from src.common.resolvers import FOLDER
from src.evaluation.records import read_records
from src.reproduction.run import reproduce
from src.training.resume.run_dirs import FINISHED

ROOT = Path(__file__).parents[1]


def overrides(*arguments, study, photo_folder):
    quiet = ["callbacks.progress=null", "trainer.enable_progress_bar=false", "test_masks_per_bin=2"]
    data = ["scale=smoke", "data=folder", f"data.root={photo_folder}", "workers=0", "trainer=cpu", f"study={study}"]
    return [*data, *quiet, *arguments]


@pytest.fixture
def run_command(commands):
    """Return a function that runs `python -m src.reproduce` with overrides in the project's root."""
    return lambda *arguments, killed_at=None, **where: commands(
        "reproduce", *overrides(*arguments, **where), cwd=ROOT, killed_at=killed_at
    )


@pytest.fixture
def asked(asked):
    """The same without loggers: a report's curves take most of its time, and the commands below draw them."""
    return lambda *overrides, **how: asked("logger=[]", *overrides, **how)


def test_rows_run_in_parallel_and_a_second_command_reuses_them(run_command, photo_folder, tmp_path):
    options = ["table=lbam/table2", "rows=[full,sigmoid]", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    ended = run_command(*options, study=tmp_path, photo_folder=photo_folder)
    assert ended.code == 0, ended.err
    folder = tmp_path / "lbam" / "table2"
    table = pd.read_csv(folder / "table.csv")
    ours = table[table["metric"] == "PSNR"].groupby("row", sort=False)["ours"].count()
    assert ours[["sigmoid", "full"]].tolist() == [5, 5]  # four bins and their mean
    assert ours.sum() == 10
    assert table[~table["metric"].str.contains("standard")]["paper"].notna().all()  # of all eight rows
    for name in ("table.md", "table.tex"):
        text = (folder / name).read_text()
        assert all(method in text for method in ("Ours(unlearned)", "28.73", "26.95"))
    page = (folder / "report.html").read_text()
    assert "data:image/png" in page
    assert str(folder / "report.html") in ended.out

    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    assert len(times) == 2
    again = run_command(*options, study=tmp_path, photo_folder=photo_folder)
    assert "2 runs: 2 finished, 0 to go" in again.err
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


def test_a_killed_command_resumes_with_an_identical_result(run_command, photo_folder, tmp_path):
    options = ["table=lbam/table2", "rows=[full]", "scale.max_steps=12", "scale.validate_every=2"]
    where = {"study": tmp_path / "killed", "photo_folder": photo_folder}
    run = where["study"] / "lbam" / "table2" / "full" / "seed_0"
    assert run_command(*options, **where, killed_at=("fsync", 6)).code == -9
    assert not (run / FINISHED).exists()
    ended = run_command(*options, **where)
    assert ended.code == 0, ended.err
    assert re.search(r"resuming from .*last\.ckpt, generator step (2|4|6|8|10)\b", ended.err)

    straight = run_command(*options, study=tmp_path / "straight", photo_folder=photo_folder)
    assert straight.code == 0, straight.err
    other = tmp_path / "straight" / "lbam" / "table2" / "full" / "seed_0"
    one, same = (torch.load(at / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for at in (run, other))
    assert one.keys() == same.keys()
    assert all(torch.equal(one[key], same[key]) for key in one)
    pd.testing.assert_frame_equal(*(read_records(at / "records.parquet")[0] for at in (run, other)))
    assert (run / "csv" / "metrics.csv").read_text() == (other / "csv" / "metrics.csv").read_text()


def test_a_failed_row_is_reported_with_its_log_and_the_others_finish(asked, tmp_path):
    errors = reproduce(asked("rows=[full,sigmoid]", "checkpoints={sigmoid:missing.ckpt}", "batch_size=3"))
    assert [run.name for run in errors] == ["sigmoid"]
    folder = tmp_path / "study" / "lbam" / "table2"
    table = pd.read_csv(folder / "table.csv").set_index("row")
    assert set(table.loc["sigmoid", "status"]) == {"failed"}
    assert table.loc["full", "ours"].notna().all()
    assert "Traceback" in (folder / "sigmoid" / "seed_0" / "log.txt").read_text()
    for text in ((folder / "table.md").read_text(), (folder / "report.html").read_text()):
        assert "missing.ckpt" in text
        assert re.search(r"Overridden on the command line: trainer=cpu batch\\?_size=3\.", text)
        assert "sigmoid/seed_0/log.txt" in text.replace("\\_", "_")


def test_a_given_checkpoint_is_tested_without_training(asked, tmp_path):
    reproduce(asked("rows=[full]"))
    trained = tmp_path / "study" / "lbam" / "table2" / "full" / "seed_0"
    checkpoint = tmp_path / "trained.ckpt"
    (trained / "checkpoints" / "last.ckpt").rename(checkpoint)
    cfg = asked("rows=[full]", f"checkpoints={{full:{checkpoint}}}", f"study={tmp_path / 'given'}", "seeds=3")
    assert reproduce(cfg) == {}
    given = tmp_path / "given" / "lbam" / "table2"
    assert [path.name for path in (given / "full").iterdir()] == ["seed_0"]
    pd.testing.assert_frame_equal(
        *(read_records(at / "records.parquet")[0] for at in (trained, given / "full" / "seed_0"))
    )
    assert "trained.ckpt" in (given / "table.md").read_text()


def test_a_table_is_tested_on_its_own_masks_and_crops(asked, tmp_path):
    """mpga_gla/table1 has 512x680 test images; the report names the reduced size and shows them."""
    reproduce(asked("table=mpga_gla/table1", "rows=[mpga_gla]", "images=2"))
    folder = tmp_path / "study" / "mpga_gla" / "table1"
    records, made = read_records(folder / "mpga_gla" / "seed_0" / "records.parquet")
    assert made.config["test_size"] == made.data["test_size"] == [128, 170]
    assert made.config["mask"]["name"] == "strokes"
    assert records["composite_psnr"].between(1, 60).all()
    note = "Test images: 128x170 px instead of 512x680; training crops are 64x64."
    assert note in (folder / "table.md").read_text()


def test_a_figure_is_drawn_with_the_rows_of_its_papers_tables(asked, tmp_path):
    reproduce(asked("table=lbam/fig8", "images=2"))
    folder = tmp_path / "study" / "lbam"
    assert (folder / "table2" / "full" / "seed_0" / "records.parquet").is_file()
    with Image.open(folder / "fig8" / "table2_full.png") as drawn:
        assert drawn.width > 500
    assert "Fig. 8" in (folder / "fig8" / "report.html").read_text()


def test_the_images_of_a_user_study_are_written(asked, tmp_path):
    rows = "rows=[pconv,edge_lbam]"
    reproduce(asked("table=edge_lbam/table2_places", rows, "images=3", "data.split.test=0.3"))
    folder = tmp_path / "study" / "edge_lbam" / "table2_places" / "images"
    names = {part.name: sorted(path.name for path in part.iterdir()) for part in folder.iterdir()}
    assert names.keys() == {"input", "pconv", "edge_lbam"}
    records, _ = read_records(
        tmp_path / "study" / "edge_lbam" / "table2_places" / "pconv" / "seed_0" / "records.parquet"
    )
    samples = {f"{Path(path).stem}_{index}.png" for path, index in zip(records["path"], records["index"], strict=True)}
    assert all(len(found) == 3 and set(found) <= samples for found in names.values())


def test_unknown_tables_and_rows_raise_an_error_that_lists_the_available_ones(asked):
    with pytest.raises(InputError, match=r"lbam/table9: unknown table; available: .*lbam/table2"):
        reproduce(asked("table=lbam/table9"))
    for override in ("rows=[fulll]", "rows=fulll"):
        with pytest.raises(InputError, match=r"rows=fulll: unknown row of lbam/table2; available: .*sigmoid"):
            reproduce(asked(override))


def test_rows_of_earlier_commands_stay_in_the_report(asked, tmp_path):
    for row in ("full", "sigmoid"):
        reproduce(asked(f"rows={row}"))
    table = pd.read_csv(tmp_path / "study" / "lbam" / "table2" / "table.csv").set_index("row")
    assert table.loc[["full", "sigmoid"], "ours"].notna().all()
    assert set(table.loc["relu", "status"]) == {"not run"}


def test_a_table_of_times_rejects_training_options(asked):
    with pytest.raises(InputError, match=r"trainer.*src\.benchmark table=lbam/timing"):
        reproduce(asked("table=lbam/timing"))


def test_a_table_of_own_images_requires_them_at_paper_scale(asked):
    with pytest.raises(InputError, match=r"needs your own images and masks: pass data=folder"):
        reproduce(asked("table=edge_lbam/fig8", "scale=paper", data=()))


def test_the_files_are_of_the_kinds_that_reproduce_handles():
    kinds = {re.search(r"^kind: (\w+)", path.read_text(), re.M).group(1) for path in FOLDER.glob("*/*.yaml")}
    assert kinds == {"training", "unprinted", "benchmark", "votes", "figure"}
