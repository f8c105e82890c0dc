import sys
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir

from src import benchmark as command
from src.benchmarking import jobs, loading
from src.benchmarking.run import benchmark, set_threads
from src.benchmarking.tables import benchmark_tables
from src.common.errors import IncompleteError, InputError
from src.common.resolvers import FOLDER
from src.networks.classical import MeanColour
from src.reproduction import timing_runs
from src.reproduction.papers import read_paper_file
from src.reproduction.timing_runs import time_table

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


@pytest.fixture
def composed(tmp_path):
    quick = ["scale=smoke", "min_runs=2", "min_seconds=0", "min_steps=1", "device=cpu", "what=forward"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: compose("benchmark", overrides=[*quick, f"output_dir={tmp_path / 'made'}", *overrides])


def test_all_configured_networks_are_measured(composed, tmp_path):
    frame = benchmark(composed())
    read = pd.read_parquet(tmp_path / "made" / "records.parquet")
    assert frame["name"].tolist() == read["name"].tolist()
    weightless = read["name"].isin(["mean_colour", "telea", "navier_stokes", "biharmonic"])
    assert (read["parameters"] > 0).tolist() == (~weightless).tolist()
    assert read["flops"].notna().tolist() == (~weightless).tolist()
    assert set(read["side_px"]) == {64}  # of the smoke scale
    for column in ("device", "torch", "python", "revision", "scale"):
        assert read[column].astype(bool).all()
    (table,) = benchmark_tables(read)
    text = (tmp_path / "made" / "table.md").read_text()
    assert table.caption in text
    assert [len(row) for row in table.sections[0].rows] == [len(table.headings)] * len(read)
    for fact in ("revision", "torch", "device"):
        assert frame[fact].iloc[0] in text


def test_the_scale_reaches_the_networks(composed):
    parameters = [
        benchmark(composed("models=pconv", f"scale.width={width}"))["parameters"][0] for width in (0.0625, 0.125)
    ]
    assert parameters[0] < parameters[1]


def test_every_size_is_measured_with_every_batch_size(composed):
    frame = benchmark(composed("models=mean_colour", "sizes=[16,24]", "batch_sizes=[1,3]"))
    assert list(zip(frame["side_px"], frame["batch_size"], strict=True)) == [(16, 1), (16, 3), (24, 1), (24, 3)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["models=nothing"], "models=nothing: .*'model/nothing'"),
        (["models=[]"], "nothing to measure"),
        (["device=cuda"], "is unavailable"),
        (["what=[forward,speed]"], "what=speed: unknown benchmark; choose from forward, "),
        (["precision=half"], "precision must be one of 32-true, .*got half"),
        (["precision=16-mixed"], "not supported on the CPU: set precision=bf16-mixed"),
        (["literal=yes please"], "literal must be true or false"),
    ],
)
def test_invalid_options_raise_an_error(composed, monkeypatch, overrides, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="(?s)" + message):
        benchmark(composed("models=mean_colour", *overrides))


def test_the_number_of_threads_is_restored():
    before = torch.get_num_threads(), cv2.getNumThreads()
    with set_threads(1):
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


MEASURED = {
    "parameters": 1_000_000,
    "flops": 2e9,
    "lower_quartile_s": 0.1,
    "median_s": 0.2,
    "upper_quartile_s": 0.3,
}

TIMED = ("lbam/timing", "contextual_attention/timing", "mpga_gla/table4")


@pytest.mark.parametrize("name", TIMED)
def test_a_papers_table_is_measured_and_compared_with_the_printed_numbers(composed, tmp_path, name):
    made, paper = time_table(name, composed()), read_paper_file(FOLDER / f"{name}.yaml")
    directory = tmp_path / "made" / name
    assert sorted(path.name for path in directory.iterdir()) == [
        "records.parquet",
        "table.csv",
        "table.md",
        "table.tex",
    ]
    records = pd.read_parquet(directory / "records.parquet")
    implemented = [row for row in paper.rows if row.row]
    assert records["name"].tolist() == [f"{name}/{row.row}" for row in implemented]
    assert set(records["side_px"]) == {64}
    assert set(records["batch_size"]) == {1}
    assert records["parameters"].max() < 1_000_000  # of the smoke scale
    for group in made.metrics:
        assert [line.method for line in group.rows] == [row.method for row in paper.rows]
        measurable = group.metric.ours is not None and group.metric.device != "cuda"
        for line, row in zip(group.rows, paper.rows, strict=True):
            assert line.printed == row.values[group.metric.name]["all"]
            assert (line.ours is not None) == (measurable and row.row is not None)
            assert (line.why_not_measured is None) == (line.ours is not None)
            assert (line.why_not_printed is None) == (line.printed is not None)
    assert any("64x64 px" in note and "float32, compile=false" in note for note in made.how)
    assert any("do not compare" in note for note in made.how)


def test_printed_units_are_seconds_and_millions(composed, monkeypatch):
    monkeypatch.setattr(timing_runs, "measure_forward", lambda *args: dict(MEASURED))
    made = time_table("mpga_gla/table4", composed())
    parameters, time_s = ([row for row in group.rows if row.ours] for group in made.metrics)
    assert {row.ours for row in parameters} == {1.0}
    assert {row.ours for row in time_s} == {0.2}
    assert {row.quartiles for row in time_s} == {(0.1, 0.3)}


def test_images_have_the_papers_size_unless_overridden(composed, monkeypatch):
    calls = []
    monkeypatch.setattr(timing_runs, "instantiate", lambda network: None)  # networks of paper scale take seconds
    monkeypatch.setattr(timing_runs, "measure_forward", lambda *args: calls.append(args[1:3]) or dict(MEASURED))
    made = time_table("mpga_gla/table4", composed("scale=paper"))
    assert set(calls) == {(512, 1)}
    assert not any("do not compare" in note for note in made.how)
    time_table("mpga_gla/table4", composed("scale=paper", "sizes=[256]"))
    assert calls[-1] == (256, 1)


@pytest.mark.parametrize(
    ("device_option", "has_gpu", "measured_on"),
    [
        ("auto", False, (None, "cpu")),
        ("cpu", True, (None, "cpu")),
        ("auto", True, ("cuda", "cpu")),
        ("cuda", True, ("cuda", None)),
    ],
)
def test_a_column_contains_only_times_of_its_own_device(composed, monkeypatch, device_option, has_gpu, measured_on):
    def select_device(name):
        if name == "cuda" and not has_gpu:
            raise InputError("no GPU")
        return torch.device(name if name != "auto" else "cuda" if has_gpu else "cpu")

    monkeypatch.setattr(timing_runs, "select_device", select_device)
    monkeypatch.setattr(timing_runs, "measure_forward", lambda n, s, b, device, *how: MEASURED | {"parameters": 5})
    monkeypatch.setattr(timing_runs, "device_name", lambda device: device.type)
    made = time_table("contextual_attention/timing", composed(f"device={device_option}"))
    times = {group.metric.name: group for group in made.metrics}
    for name, device in zip(("time_gpu", "time_cpu"), measured_on, strict=True):
        assert times[name].device == device
        first = times[name].rows[0]
        assert (first.ours is None) == (device is None)
        assert (first.why_not_measured is None) == (device is not None)
    assert times["parameters"].rows[0].ours == 5e-6


@pytest.mark.parametrize(
    ("table", "overrides", "message"),
    [
        ("lbam/table9", [], "no table or figure at .*table9"),
        ("lbam/table2", [], "table=lbam/table2: not a table of times"),
        ("lbam/fig8", [], "table=lbam/fig8: not a table of times"),
        ("lbam/timing", ["sizes=[64,128]"], "pass a single sizes="),
        ("lbam/timing", ["batch_sizes=[2]"], "remove batch_sizes="),
        ("lbam/timing", ["device=cuda"], "is unavailable"),
        ("contextual_attention/timing", ["precision=16-mixed"], "not supported on the CPU: set precision=bf16-mixed"),
    ],
)
def test_options_that_do_not_apply_to_a_table_raise_an_error(composed, monkeypatch, table, overrides, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        time_table(table, composed(*overrides))


QUICK = ("min_runs=1", "min_seconds=0", "device=cpu")


def test_the_command_measures_a_table(commands, tmp_path):
    ended = commands("benchmark", "table=lbam/timing", "scale=smoke", *QUICK, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "Context Attention" in ended.out
    assert "GTX 1080Ti" in ended.out.replace("\n", " ")
    assert "outputs/benchmark/smoke/lbam/timing/table.md" in ended.out


def test_the_command_prints_and_writes_tables(commands, tmp_path):
    quick = ["scale=smoke", "models=mean_colour", "workers=0", "loading_models=lbam", "loading_batch_size=2"]
    ended = commands("benchmark", *QUICK, *quick, "data_overrides=['mask=rectangles']", cwd=tmp_path)
    assert ended.code == 0, ended.err
    for name in ("mean_colour", "photos, lbam", "mask=rectangles"):
        assert name in ended.out
    assert max(map(len, ended.out.replace("wrote ", "\n").splitlines()[:-3])) <= 120
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
        f"outputs/benchmark/smoke/{name}" for name in ("records.parquet", "table.md")
    ]


def test_training_steps_of_every_procedure(composed):
    models = "models=[contextual_attention,edge_lbam,telea]"
    frame = benchmark(composed("what=training", models, "train_batch_size=2")).set_index("name")
    stages = ["edges", "inpainting", "joint"]
    assert frame.index.tolist() == ["contextual_attention", *(f"edge_lbam/{stage}" for stage in stages)]
    assert frame["images_per_step"].tolist() == [12, 2, 2, 2]  # five batches for the critics, one for the generator
    assert (frame["per_second"] * frame["median_s"]).tolist() == pytest.approx(frame["images_per_step"].tolist())
    assert (frame["peak_bytes"] > 0).all() or sys.platform != "linux"


def test_an_unsupported_image_size_is_a_failure_of_its_row_only(composed):
    frame = benchmark(composed("what=training", "models=lbam", "sizes=[48,64]"))
    assert frame["failure"].str.contains("power of two").fillna(False).tolist() == [True, False]
    assert frame["median_s"].notna().tolist() == [False, True]


def test_running_out_of_memory_is_a_failure_of_its_row_only(composed, tmp_path, monkeypatch):
    def inpaint(self, image, mask, edges):
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(MeanColour, "inpaint", inpaint)
    with pytest.raises(IncompleteError, match=r"measured 1 of 2; skipped:\n  mean_colour \(64 px, batch 1\): out of"):
        command.main.__wrapped__(composed("models=[mean_colour,telea]"))
    frame = pd.read_parquet(tmp_path / "made" / "records.parquet")
    assert frame["failure"].str.contains("out of memory: no more").fillna(False).tolist() == [True, False]
    assert frame["median_s"].notna().tolist() == [False, True]
    assert "mean_colour (64 px, batch 1): out of memory: no more" in (tmp_path / "made" / "table.md").read_text()


def test_running_out_of_memory_is_a_failure_of_its_row_in_a_papers_table(composed, tmp_path, monkeypatch):
    def fail_first(network, *args):
        monkeypatch.setattr(timing_runs, "measure_forward", lambda *args: dict(MEASURED))
        return {"parameters": 7, "failure": "out of memory: no more"}

    monkeypatch.setattr(timing_runs, "measure_forward", fail_first)
    table = time_table("mpga_gla/table4", composed())
    implemented = {row.method for row in read_paper_file(FOLDER / "mpga_gla/table4.yaml").rows if row.row}
    parameters, time_s = ([line for line in group.rows if line.method in implemented] for group in table.metrics)
    assert not any(line.ours is None for line in parameters)
    assert [line.ours is None for line in time_s] == [True] + [False] * (len(implemented) - 1)
    assert time_s[0].why_not_measured == "out of memory: no more"
    assert "out of memory" in (tmp_path / "made" / "mpga_gla" / "table4" / "table.csv").read_text()


def test_loading_is_measured_for_each_number_of_workers(composed, photo_folder, monkeypatch):
    monkeypatch.setattr(loading, "_WARM_UP", 3)
    data = ["data_root=" + str(photo_folder), "loading_batch_size=3"]
    frame = benchmark(composed("what=loading", "workers=[0,1]", *data))
    names = ["folder, lbam"] * 2 + ["folder, edge_lbam"] * 2
    assert list(zip(frame["name"], frame["workers"], strict=True)) == list(zip(names, [0, 1] * 2, strict=True))
    assert any(f"data.root={photo_folder}" in note for note in benchmark_tables(frame)[0].notes)
    assert (frame["samples"] == 3 * frame["runs"]).all()
    assert (frame["per_second"] > 0).all()


def test_records_before_an_error_are_kept(composed, tmp_path, monkeypatch):
    def inpaint(self, image, mask, edges):
        raise KeyboardInterrupt

    monkeypatch.setattr(MeanColour, "inpaint", inpaint)
    with pytest.raises(KeyboardInterrupt):
        benchmark(composed("models=[telea,mean_colour]"))
    assert pd.read_parquet(tmp_path / "made" / "records.parquet")["name"].tolist() == ["telea"]


def test_loading_that_runs_out_of_memory_is_a_failure(composed, monkeypatch):
    def no_memory(*args):
        raise MemoryError("no more")

    monkeypatch.setattr(jobs, "measure_loading", no_memory)
    frame = benchmark(composed("what=loading", "workers=0"))
    assert set(frame["failure"]) == {"out of memory: no more"}
