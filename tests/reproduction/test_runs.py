"""Runs of tables' rows: planned runs, reused runs, rejected options and failures."""

import pandas as pd
import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from src.common.errors import InputError
from src.common.resolvers import FOLDER
from src.evaluation.records import read_records
from src.masks.bank import MaskBank
from src.reproduction.departures import describe_departures
from src.reproduction.execution import run_all, run_row
from src.reproduction.papers import read_paper_file
from src.reproduction.planning import plan_runs
from src.reproduction.row_tests import draw_test_bank, mask_for_testing
from src.reproduction.runs import Run
from src.training.resume.run_dirs import FINISHED

FULL, SIGMOID = "lbam/table2/full", "lbam/table2/sigmoid"


@pytest.mark.parametrize(
    ("table", "row", "note"),
    [
        ("table1", "patchmatch", "Data: folder instead of places365."),  # a row without loss, as it is not trained
        ("fig5", "baseline", "Test masks: centre instead of contextual_attention."),
    ],
)
def test_departures_from_the_paper_are_described(asked, table, row, note):
    cfg = asked(f"table=contextual_attention/{table}")
    runs = plan_runs(cfg, [f"contextual_attention/table1/{row}"])
    assert note in describe_departures(cfg, read_paper_file(FOLDER / f"{cfg.table}.yaml"), runs)


def test_every_row_runs_with_every_seed_and_complete_tables_come_first(asked):
    runs = plan_runs(asked("seeds=2", "seed=5"), [FULL, SIGMOID])
    assert [(run.row, run.seed) for run in runs] == [(FULL, 5), (SIGMOID, 5), (FULL, 6), (SIGMOID, 6)]
    assert [run.config.seed for run in runs] == [5, 5, 6, 6]
    assert len({run.directory for run in runs}) == 4
    assert len({run.bank for run in runs}) == 1
    sigmoid = runs[1].config.model.network.forward_maps.attend
    assert sigmoid._target_ == "torch.nn.Sigmoid"


def test_built_in_data_and_masks_replace_files_below_paper_scale_unless_overridden(asked):
    (run,) = plan_runs(asked(data=()), [FULL])
    assert (run.config.data.name, run.config.mask.name) == ("photos", "random_shapes")
    (run,) = plan_runs(asked("mask=strokes"), [FULL])
    assert (run.config.data.name, run.config.mask.name) == ("folder", "strokes")
    (run,) = plan_runs(asked("data.masks_per_bin=2", "mask.hole_ratio=[0.1,0.5]", data=()), [FULL])
    assert (run.config.data.name, run.config.mask.name) == ("photos", "random_shapes")
    (run,) = plan_runs(asked("data.root=paris", "overrides={mask.root:masks/}", data=()), [FULL])
    assert (run.config.data.name, run.config.mask.name) == ("paris_streetview", "lbam")
    (run,) = plan_runs(asked("table=mpga_gla/table5"), ["mpga_gla/table5/full"])
    assert run.config.mask.name == "strokes"  # needs no files
    (run,) = plan_runs(asked("scale=paper", data=()), [FULL])
    assert (run.config.data.name, run.config.mask.name) == ("paris_streetview", "lbam")


def test_a_row_is_tested_with_the_masks_and_size_of_its_table(asked):
    ca, mpga = "contextual_attention/table1/full", "mpga_gla/table1/pconv"

    def bank_of(row, *overrides):
        cfg = asked(f"table={row.rpartition('/')[0]}", *overrides)
        (run,) = plan_runs(cfg, [row])
        draw_test_bank(run.config, run.bank)
        return run, MaskBank.load(run.bank)

    run, bank = bank_of(ca)
    assert run.config.mask.name == "contextual_attention"  # it trains on rectangles
    assert (bank.size, bank.bins) == ((64, 64), ((0.2, 0.3),))
    assert run.identity["test_mask"]["name"] == "centre"
    assert (bank.mask(0, 0) == 0).sum() == 32 * 32
    for override in ("mask=strokes", "test_mask=strokes"):
        _, bank = bank_of(ca, override)
        assert len(bank.bins) == 6
    run, bank = bank_of(mpga)
    assert bank.size == tuple(run.identity["test_size"]) == (128, 170)  # 512x680 at a quarter
    assert "test_mask" not in run.identity
    assert bank_of(mpga, "scale.image_size=32", "scale.shorter_side_px=44")[1].size == (64, 85)
    assert bank_of(mpga, "test_size=[40,48]")[1].size == (40, 48)
    (run,) = plan_runs(asked("table=mpga_gla/table1", "scale=paper"), [mpga])
    assert run.config.test_size == [512, 680]
    assert not {"test_size", "test_mask"} & plan_runs(asked(), [FULL])[0].identity.keys()
    with pytest.raises(InputError, match=r"test_mask=centered is not a file of conf/mask; available: centre, "):
        bank_of(ca, "test_mask=centered")
    with pytest.raises(
        InputError, match=r"test_mask=folder needs mask files, but mask=contextual_attention has no mask.root"
    ):
        bank_of(ca, "test_mask=folder")
    (run,) = plan_runs(asked("mask=lbam", "overrides={mask.root:masks/}", "test_mask=folder"), [FULL])
    assert mask_for_testing(run.config).generator.root == "masks/"
    (run,) = plan_runs(asked("table=contextual_attention/table1"), [ca])
    run.records.parent.mkdir(parents=True)
    run.records.touch()  # from now on the bank stays
    with pytest.raises(
        InputError, match=r"bank\.npz holds masks other than those that mask=, test_mask= and test_size="
    ):
        bank_of(ca, "test_size=[40,48]", "seed=1")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiments=lbam/table2/full", "experiments"),
        ("output_dir=x", "output_dir"),
        ("trainer.devices=2", "on one device"),
        ("checkpoints={fulll:x.ckpt}", "fulll"),
        ("checkpoints=full:x.ckpt", "in quotes"),
        ("overrides={output_dir:x}", "output_dir"),
        ("overrides=[mask.root]", "in quotes"),
        ("seeds=0", "seeds must be an integer >= 1, got 0"),
        ("seeds=1.5", "seeds must be an integer >= 1"),
    ],
)
def test_invalid_overrides_raise_an_error(asked, override, message):
    with pytest.raises(InputError, match=message):
        plan_runs(asked(override), [FULL])


def test_a_run_with_another_config_is_not_resumed(asked):
    cfg = asked("seeds=2")
    runs = plan_runs(cfg, [FULL])
    for run in runs:
        run.directory.mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(run.identity), run.directory / "config.yaml")
        run.records.touch()
    assert run_all(cfg, runs) == {}
    for override, message in {
        "scale.max_steps=4": r"seed_0 .* scale\.max_steps.*seed_1 .* scale\.max_steps.*study=",
        "callbacks=ema": "callbacks",
        "+trainer.overfit_batches=1": r"trainer\.overfit_batches",
        "test_masks_per_bin=3": "test_masks_per_bin",
        "data.reduced_decode=true": r"data\.reduced_decode",
        "overrides={+model.network.forward_maps.attend.gamma_l:2}": r"forward_maps\.attend",
    }.items():
        other = asked(*(["seeds=2"] if "seed_1" in message else []), override)
        with pytest.raises(InputError, match=message):
            run_all(other, plan_runs(other, [FULL]))
    reading = ("workers=1", "data.cache_mib=2", "data.reduced_decode=false")
    harmless = asked(*reading, "logger=[]", "callbacks.sample_images=null", "seeds=2", "trainer.log_every_n_steps=3")
    assert run_all(harmless, plan_runs(harmless, [FULL])) == {}
    averaged = [
        plan_runs(asked("callbacks=ema", *overrides), [FULL])[0] for overrides in ((), ("callbacks.ema.decay=0.5",))
    ]
    assert averaged[0].identity != averaged[1].identity


def test_a_run_that_never_started_may_change_its_config(asked, monkeypatch):
    monkeypatch.setattr("src.reproduction.execution._launch", lambda cfg, overrides: [])
    for override in ("scale.max_steps=4", "test_masks_per_bin=3"):
        cfg = asked(override)
        with pytest.raises(ValueError, match="zip"):
            run_all(cfg, plan_runs(cfg, [FULL]))
    (run,) = plan_runs(cfg, [FULL])
    assert run.changed_keys == []
    assert MaskBank.load(run.bank).per_bin == 3


def test_a_given_checkpoint_is_identified_by_its_weights(asked, tmp_path):
    path = tmp_path / "some.ckpt"
    found = [plan_runs(asked(f"checkpoints={{full:{path}}}"), [FULL])[0].identity["tested"]]
    for content in ("one", "other"):
        path.write_text(content)
        found.append(plan_runs(asked(f"checkpoints={{full:{path}}}"), [FULL])[0].identity["tested"])
    assert len(set(found)) == 3


def config_of_job(run: Run):
    """Return the config that a job of a launcher gets."""
    cfg = run.config
    cfg.output_dir = str(run.directory)
    return cfg


def test_a_row_trains_and_is_tested_on_its_tables_bank(asked, monkeypatch):
    cfg = asked("test_masks_per_bin=3")
    runs = plan_runs(cfg, [FULL, SIGMOID])

    def killed(cfg, overrides):
        raise RuntimeError("a worker was killed")

    monkeypatch.setattr("src.reproduction.execution._launch", killed)
    assert run_all(cfg, runs) == dict.fromkeys(
        runs, "the launcher failed: RuntimeError: a worker was killed"
    )  # the bank is drawn
    for run in runs:
        assert run_row(config_of_job(run)) is None
    (one, made), (other, made_other) = (read_records(run.records) for run in runs)
    assert made.mask_bank_hash == made_other.mask_bank_hash == MaskBank.load(runs[0].bank).hash
    assert MaskBank.load(runs[0].bank).per_bin == 3
    assert (one["path"] == other["path"]).all()
    assert (one["composite_psnr"] != other["composite_psnr"]).any()
    assert made.checkpoint.path == str(runs[0].directory / "checkpoints" / "last.ckpt")


def test_a_run_killed_after_its_last_step_is_tested(asked):
    (run,) = plan_runs(asked(), [FULL])
    assert run_all(asked(), [run]) == {}
    before = read_records(run.records)[0]
    logged = (run.directory / "csv" / "metrics.csv").read_text()
    for path in (run.records, run.directory / FINISHED):
        path.unlink()
    (run,) = plan_runs(asked(), [FULL])
    assert run_all(asked(), [run]) == {}
    pd.testing.assert_frame_equal(read_records(run.records)[0], before)
    assert (run.directory / "csv" / "metrics.csv").read_text() == logged


def test_a_failure_is_returned_as_one_line(asked, caplog):
    (run,) = plan_runs(asked("checkpoints={full:missing.ckpt}"), [FULL])
    run.directory.mkdir(parents=True)
    error = run_row(config_of_job(run))
    assert error.startswith("InputError")
    assert "missing.ckpt" in error
    assert "Traceback" in caplog.text


def test_two_processes_do_not_train_one_run(asked):
    (run,) = plan_runs(asked(), [FULL])
    run.directory.mkdir(parents=True)
    with FileLock(run.directory / "lock"):
        assert "another process" in run_row(config_of_job(run))
