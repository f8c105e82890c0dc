"""Multiruns: resumed Optuna searches, launchers, failed runs, and the table at the end."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from src.training.resume.hydra_callback import ResumeInterruptedRun
from src.training.resume.run_dirs import FINISHED
from src.training.sweep_table import TABLE, read_sweep, swept_keys
from tests.commands import Ended
from tests.conftest import CONF

KILLED = -9
SEARCHES = sorted(path.stem for path in (CONF / "hydra" / "sweeper").glob("*.yaml"))


@pytest.fixture
def sweep(commands, photo_folder, tmp_path) -> Callable[..., Ended]:
    """`sweep(*overrides)` runs a multirun of PConv in a directory of the test."""
    common = [
        *("-m", "model=pconv", "scale=smoke", "data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0"),
        *("callbacks.progress=null", "callbacks.sample_images=null", "trainer.enable_progress_bar=false"),
        *("bank_masks_per_bin=2", "callbacks.last.minutes=0"),
    ]
    return lambda *overrides, cwd=tmp_path: commands("train", *common, *overrides, cwd=cwd)


def only_directory(where: Path) -> Path:
    (folder,) = (where / "multirun").iterdir()
    return folder


def test_multirun_ends_with_a_table_of_its_runs_best_first(sweep, tmp_path):
    ended = sweep("scale.learning_rate=1e-5,1e-3")
    assert ended.code == 0, ended.err
    folder = only_directory(tmp_path)
    table = pd.read_csv(folder / TABLE)
    assert sorted(table["run"]) == ["0_pconv", "1_pconv"]
    assert table["best_val_psnr"].is_monotonic_decreasing
    assert set(table["ended"]) == {"finished"}
    assert swept_keys(table) == ["scale.learning_rate"]
    printed = ended.out[ended.out.index("run scale.learning_rate  best_val_psnr") :].splitlines()
    assert [line.split()[0] for line in printed[1:3]] == list(table["run"])
    assert printed[-1].endswith(f"{folder.name}/{TABLE}")


def test_diverged_run_does_not_end_the_multirun_and_is_repeated(sweep, tmp_path):
    arguments = (
        "scale.learning_rate=1e30,1e-3",
        "trainer.max_steps=4",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=1",
    )
    for _ in range(2):  # the same command is the same multirun
        ended = sweep(*arguments)
        assert ended.code == 1
        assert "error: 1 of 2 runs failed: 0_pconv" in ended.err
        assert "Traceback" not in ended.err
        folder = only_directory(tmp_path)
        assert not (folder / FINISHED).exists()
        table = pd.read_csv(folder / TABLE).set_index("run")
        assert list(table.index) == ["1_pconv", "0_pconv"]
        assert table["ended"]["1_pconv"] == "finished"
        assert table["ended"]["0_pconv"].startswith("generator step 2")


def test_table_of_a_killed_multirun_is_ordered_by_number(tmp_path):
    for number in (10, 9):
        saved = tmp_path / f"{number}_pconv" / ".hydra" / "overrides.yaml"
        saved.parent.mkdir(parents=True)
        OmegaConf.save(OmegaConf.create([f"seed={number}", "+callbacks.ema.decay=0.9"]), saved)
    table = read_sweep(tmp_path)
    assert list(table["run"]) == ["9_pconv", "10_pconv"]
    assert set(table["ended"]) == {"unfinished"}
    assert swept_keys(table) == ["seed"]
    assert read_sweep(tmp_path / "none").empty


def test_killed_search_equals_an_uninterrupted_one(sweep, tmp_path):
    """Kill every trial once, at its third batch of four; the search proposes the same trials again."""
    pytest.importorskip("optuna", reason="the searches need the extra `sweeps`")
    kill = "+callbacks.kill={_target_:tests.killing.Kill,moment:on_train_batch_end,count:3}"
    arguments = ("hydra/sweeper=optuna_lr", "hydra.sweeper.n_trials=2", "trainer.max_steps=4")
    for expected in (KILLED, KILLED, 0):
        ended = sweep(*arguments, kill)
        assert ended.code == expected, ended.err
    assert "0_pconv is finished" in ended.err
    (tmp_path / "whole").mkdir()
    assert sweep(*arguments, cwd=tmp_path / "whole").code == 0
    tables = [pd.read_csv(only_directory(where) / TABLE) for where in (tmp_path, tmp_path / "whole")]
    assert tables[0]["scale.learning_rate"].nunique() == 2
    for column in ("run", "scale.learning_rate", "best_val_psnr"):
        assert list(tables[0][column]) == list(tables[1][column])
    best = OmegaConf.load(only_directory(tmp_path) / "optimization_results.yaml")
    assert best.best_value == tables[0]["best_val_psnr"].max()

    folder = only_directory(tmp_path)
    more = sweep(*arguments, "hydra.sweeper.n_trials=3", f"hydra.sweep.dir={folder}")
    assert more.code == 0, more.err
    assert len(pd.read_csv(folder / TABLE)) == 3
    assert list((tmp_path / "multirun").iterdir()) == [folder]


@pytest.mark.parametrize(
    ("first", "then", "resumes"),
    [
        ([], [], True),
        ([], ["+hydra.sweeper.params.seed='choice(0,1)'"], False),  # another search
        ([], ["hydra/sweeper=basic"], False),
        (
            ["hydra.sweeper.sampler.seed=null"],
            ["hydra.sweeper.sampler.seed=null"],
            False,
        ),  # it would propose other runs
        (
            ["hydra.sweeper.storage=sqlite:///a.db"],
            ["hydra.sweeper.storage=sqlite:///a.db"],
            False,
        ),  # trials would add up
        ([], ["hydra/launcher=joblib"], True),  # the launcher does not define the runs
    ],
)
def test_search_resumes_only_if_it_proposes_the_same_runs(tmp_path, monkeypatch, first, then, resumes):
    pytest.importorskip("optuna", reason="the searches need the extra `sweeps`")
    monkeypatch.chdir(tmp_path)

    def start(*overrides: str, name: str) -> Path:
        arguments = ["hydra/sweeper=optuna_lr", *overrides, f"hydra.sweep.dir=multirun/{name}"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", arguments, return_hydra_config=True)
        with open_dict(cfg):  # as if the directory were named by the time
            cfg.hydra.overrides.hydra = [one for one in cfg.hydra.overrides.hydra if "sweep.dir" not in one]
        ResumeInterruptedRun().on_multirun_start(cfg)
        return Path(cfg.hydra.sweep.dir)

    assert start(*first, name="1") == Path("multirun/1")
    assert start(*then, name="2") == Path("multirun/1" if resumes else "multirun/2")


@pytest.mark.parametrize("value", ["null", "[a]"])
def test_an_output_directory_that_is_no_text_ends_the_command_before_one_is_created(value):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"output_dir={value}"], return_hydra_config=True)
    with pytest.raises(SystemExit, match="error: output_dir must be a directory, got"):
        ResumeInterruptedRun().on_run_start(cfg)


@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_maximises_over_existing_keys(search):
    pytest.importorskip("optuna", reason="the searches need the extra `sweeps`")
    model = search.removeprefix("optuna_")
    model = model if (CONF / "model" / f"{model}.yaml").is_file() else "pconv"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"hydra/sweeper={search}", f"model={model}", "scale=mini"], return_hydra_config=True)
    sweeper = cfg.hydra.sweeper
    assert sweeper.direction == "maximize"
    assert sweeper.sampler.seed is not None
    for key, space in sweeper.params.items():
        assert OmegaConf.select(cfg, key) is not None
        (parsed,) = OverridesParser.create().parse_overrides([f"{key}={space}"])
        assert parsed.is_sweep_override()
        assert parsed.value().start < OmegaConf.select(cfg, key) < parsed.value().end
