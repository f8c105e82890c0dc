import subprocess
import sys
import time
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src import benchmark as subject
from src.benchmark import benchmark, measure_forward, threads, timed_table, timing
from src.errors import InputError
from src.experiments import FOLDER
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.reporting.papers import read_paper_file

CONF = Path(__file__).parents[1] / "conf"
CPU = torch.device("cpu")


class OneConvolution(InpaintingNetwork):
    def __init__(self):
        super().__init__()
        self.conv, self.modes = nn.Conv2d(3, 3, 5, padding=2), []

    def inpaint(self, image, mask, edges):
        self.modes.append((self.training, torch.is_grad_enabled()))
        return InpaintingOutput(self.conv(image))


@pytest.fixture
def composed(tmp_path):
    quick = ["scale=smoke", "min_runs=2", "min_seconds=0", "masks_per_run=2", "mask_sizes=32", "device=cpu"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: compose("benchmark", overrides=[*quick, f"output_dir={tmp_path / 'made'}", *overrides])


def test_a_timing_counts_every_run_but_the_first():
    calls = []

    def slow_at_first():
        calls.append(time.sleep(0.2 if not calls else 0.01))

    timed = timing(slow_at_first, CPU, min_runs=4, min_seconds=0.0)
    assert timed["runs"] == 4
    assert len(calls) == 5
    assert 0.01 <= timed["lower_quartile_s"] <= timed["median_s"] <= timed["upper_quartile_s"] < 0.2


def test_a_timing_lasts_as_long_as_asked():
    timed = timing(lambda: time.sleep(0.002), CPU, min_runs=1, min_seconds=0.05)
    assert timed["runs"] * timed["upper_quartile_s"] > 0.03
    assert timed["runs"] <= 25


def test_size_and_work_of_a_convolution_by_hand(composed):
    network = OneConvolution()
    record = measure_forward(network, 32, 4, CPU, composed())
    assert record["parameters"] == 3 * 3 * 5 * 5 + 3
    assert record["flops"] == 2 * 32 * 32 * 3 * 3 * 5 * 5  # of one image; a multiplication and an addition are two
    assert record["per_second"] == pytest.approx(4 / record["median_s"])
    assert set(network.modes) == {(False, False)}


def test_the_records_of_the_shipped_configurations(composed, tmp_path):
    frame = benchmark(composed())
    read = pd.read_parquet(tmp_path / "made" / "records.parquet")
    assert frame["name"].tolist() == read["name"].tolist()
    masks, networks = read[read["what"] == "masks"], read[read["what"] == "forward"]
    assert masks["name"].tolist() == ["random_shapes", "strokes", "rectangles", "irregular"]
    assert (masks["per_second"] > 0).all()
    weightless = networks["name"].isin(["mean_colour", "telea", "navier_stokes", "biharmonic"])
    assert (networks["parameters"] > 0).tolist() == (~weightless).tolist()
    assert networks["flops"].notna().tolist() == (~weightless).tolist()
    assert set(networks["side_px"]) == {64}  # of the smoke scale
    for column in ("device", "torch", "python", "revision", "scale"):
        assert read[column].astype(bool).all()
    assert [table.row_count for table in subject._tables(read)] == [4, len(networks)]


def test_the_scale_reaches_the_networks(composed):
    parameters = [
        benchmark(composed("masks=[]", "models=pconv", f"scale.width={width}"))["parameters"][0]
        for width in (0.0625, 0.125)
    ]
    assert parameters[0] < parameters[1]


def test_sizes_and_batches_are_crossed(composed):
    frame = benchmark(composed("masks=[]", "models=mean_colour", "sizes=[16,24]", "batch_sizes=[1,3]"))
    assert list(zip(frame["side_px"], frame["batch_size"], strict=True)) == [(16, 1), (16, 3), (24, 1), (24, 3)]


def test_thread_counts_are_put_back():
    before = torch.get_num_threads(), cv2.getNumThreads()
    with threads(1):
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["models=nothing"], "models=nothing: .*'model/nothing'"),
        (["masks=nothing"], "masks=nothing: .*'mask/nothing'"),
        (["models=[]", "masks=[]"], "nothing to measure"),
        (["masks=[]", "device=cuda"], "not to be had"),
        (["masks=folder"], "mask.root"),
    ],
)
def test_wrong_keys_are_named(composed, monkeypatch, overrides, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Exception, match="(?s)" + message) as caught:
        benchmark(composed("models=mean_colour", *overrides))
    assert isinstance(caught.value, InputError) or isinstance(caught.value.__cause__, InputError)  # as Hydra wraps it


MEASURED = {
    "device": "a processor",
    "parameters": 1_000_000,
    "flops": 2e9,
    "lower_quartile_s": 0.1,
    "median_s": 0.2,
    "upper_quartile_s": 0.3,
}

TIMED = ("lbam/timing", "contextual_attention/timing", "mpga_gla/table4")


@pytest.mark.parametrize("name", TIMED)
def test_a_papers_table_is_measured_beside_what_is_printed(composed, tmp_path, name):
    made, paper = timed_table(name, composed()), read_paper_file(FOLDER / f"{name}.yaml")
    folder = tmp_path / "made" / name
    assert sorted(path.name for path in folder.iterdir()) == ["records.parquet", "table.csv", "table.md", "table.tex"]
    records = pd.read_parquet(folder / "records.parquet")
    built = [row for row in paper.rows if row.row]
    assert records["name"].tolist() == [f"{name}/{row.row}" for row in built]
    assert set(records["side_px"]) == {64}
    assert set(records["batch_size"]) == {1}
    for group in made.groups:
        assert [line.method for line in group.lines] == [row.method for row in paper.rows]
        measurable = group.metric.ours is not None and group.metric.device != "cuda"
        for line, row in zip(group.lines, paper.rows, strict=True):
            assert line.printed == row.values[group.metric.name]["all"]
            assert (line.ours is not None) == (measurable and row.row is not None)
            assert (line.why_not_measured is None) == (line.ours is not None)
            assert (line.why_not_printed is None) == (line.printed is not None)
    assert any("64x64 px" in note for note in made.how)
    assert any("not to be compared" in note for note in made.how)


def test_printed_units_are_seconds_and_millions(composed, tmp_path):
    made = timed_table("mpga_gla/table4", composed())
    records = pd.read_parquet(tmp_path / "made" / "mpga_gla" / "table4" / "records.parquet")
    parameters, time_s = ([line.ours for line in group.lines if line.ours] for group in made.groups)
    assert records["parameters"].max() < 1_000_000  # of the smoke scale
    assert [ours.value for ours in parameters] == pytest.approx((records["parameters"] / 1e6).tolist())
    assert [ours.value for ours in time_s] == pytest.approx(records["median_s"].tolist())
    assert [ours.quartiles[1] for ours in time_s] == pytest.approx(records["upper_quartile_s"].tolist())


def test_pictures_are_as_large_as_the_papers_unless_typed_otherwise(composed, monkeypatch):
    seen = []
    monkeypatch.setattr(subject, "measure_forward", lambda *args: seen.append(args[1:3]) or dict(MEASURED))
    made = timed_table("mpga_gla/table4", composed("scale=paper"))
    assert set(seen) == {(512, 1)}
    assert not any("not to be compared" in note for note in made.how)
    timed_table("mpga_gla/table4", composed("scale=paper", "sizes=[256]"))
    assert seen[-1] == (256, 1)


@pytest.mark.parametrize(
    ("typed", "gpu_here", "measured_on"),
    [
        ("auto", False, (None, "cpu")),
        ("cpu", True, (None, "cpu")),
        ("auto", True, ("cuda", "cpu")),
        ("cuda", True, ("cuda", None)),
    ],
)
def test_a_column_of_one_device_never_holds_the_others_times(composed, monkeypatch, typed, gpu_here, measured_on):
    def chosen(name):
        if name == "cuda" and not gpu_here:
            raise InputError("no GPU")
        return torch.device(name if name != "auto" else "cuda" if gpu_here else "cpu")

    monkeypatch.setattr(subject, "chosen_device", chosen)
    monkeypatch.setattr(
        subject, "measure_forward", lambda n, s, b, device, c: MEASURED | {"device": device.type, "parameters": 5}
    )
    made = timed_table("contextual_attention/timing", composed(f"device={typed}"))
    times = {group.metric.name: group for group in made.groups}
    for name, device in zip(("time_gpu", "time_cpu"), measured_on, strict=True):
        assert times[name].device == device
        first = times[name].lines[0]
        assert (first.ours is None) == (device is None)
        assert (first.why_not_measured is None) == (device is not None)
    assert times["parameters"].lines[0].ours.value == 5e-6


@pytest.mark.parametrize(
    ("table", "overrides", "message"),
    [
        ("lbam/table9", [], "no table or figure at .*table9"),
        ("lbam/table2", [], "table=lbam/table2: no table whose rows are timed"),
        ("lbam/fig8", [], "table=lbam/fig8: no table whose rows are timed"),
        ("lbam/timing", ["sizes=[64,128]"], "one of sizes="),
        ("lbam/timing", ["batch_sizes=[2]"], "leave batch_sizes= out"),
        ("lbam/timing", ["device=cuda"], "not to be had"),
    ],
)
def test_what_no_table_can_be_measured_with_is_refused(composed, monkeypatch, table, overrides, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        timed_table(table, composed(*overrides))


def test_the_command_measures_a_table(tmp_path):
    quick = ["table=lbam/timing", "scale=smoke", "min_runs=1", "min_seconds=0", "device=cpu"]
    run = subprocess.run(
        [sys.executable, "-m", "src.benchmark", *quick], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "Context Attention" in run.stdout
    assert "GTX 1080Ti" in run.stdout.replace("\n", " ")
    assert "outputs/benchmark/smoke/lbam/timing/table.md" in run.stdout


def test_the_command_prints_and_writes(tmp_path):
    quick = ["models=mean_colour", "sizes=32", "masks=rectangles", "mask_sizes=32", "min_runs=1", "min_seconds=0"]
    command = [sys.executable, "-m", "src.benchmark", *quick]
    run = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "rectangles" in run.stdout
    assert "mean_colour" in run.stdout
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
        "outputs/benchmark/paper/records.parquet"
    ]
