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
from src.benchmark import benchmark, measure_forward, threads, timing
from src.errors import InputError
from src.networks.interface import InpaintingNetwork, InpaintingOutput

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
        yield lambda *overrides: compose(
            "benchmark", overrides=[*quick, f"output={tmp_path / 'made' / 'here.parquet'}", *overrides]
        )


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
    read = pd.read_parquet(tmp_path / "made" / "here.parquet")
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


def test_the_command_prints_and_writes(tmp_path):
    quick = ["models=mean_colour", "sizes=32", "masks=rectangles", "mask_sizes=32", "min_runs=1", "min_seconds=0"]
    command = [sys.executable, "-m", "src.benchmark", *quick]
    run = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "rectangles" in run.stdout
    assert "mean_colour" in run.stdout
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == ["outputs/benchmark.parquet"]
