"""Options that define a run, and the search for an unfinished one."""

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from src.common.errors import InputError
from src.training.resume.identity import composed_identity, differing_keys, require_complete_config, run_identity
from src.training.resume.run_dirs import find_unfinished_run, mark_finished, mark_started


@pytest.mark.parametrize(
    "override",
    [
        *("workers=5", "data.cache_mib=2", "output_dir=elsewhere", "resume=auto", "compile=true"),
        *("callbacks.sample_images=null", "callbacks.last.minutes=1", "logger=[]", "trainer.log_every_n_steps=3"),
        *("trainer.accelerator=gpu", "trainer.devices=[1]", "trainer.max_time=00:01:00:00", "mask_seed=0"),
    ],
)
def test_execution_options_do_not_define_a_run(composed, override):
    assert composed_identity(composed("model=pconv", override)) == composed_identity(composed("model=pconv"))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("batch_size=1", "batch_size"),
        ("mask_seed=1", "mask_seed"),
        ("data.seed=1", "data.seed"),
        ("data.reduced_decode=true", "data.reduced_decode"),
        ("mask=rectangles", "mask.name"),
        ("callbacks=ema", "callbacks.ema"),
        ("trainer.max_steps=4", "trainer.max_steps"),
        ("trainer.devices=2", "trainer.devices"),
        ("start_from=a.ckpt", "start_from"),
        ("model.network._target_=src.networks.lbam.LBAM", "model.network"),
    ],
)
def test_computed_options_define_a_run(composed, override, key):
    one, other = (composed_identity(composed("model=pconv", *changes)) for changes in ([], [override]))
    assert any(found.startswith(key) for found in differing_keys(one, other))
    assert run_identity(one) == one


def test_incomplete_config_is_rejected():
    with pytest.raises(InputError, match=r"old\.ckpt does not record how its run was trained.* lacks model\.network"):
        require_complete_config("old.ckpt", {"seed": 0})


def test_finds_only_an_unfinished_unlocked_run_of_the_same_identity(composed, tmp_path):
    cfg = composed("model=pconv")
    for name in "abcde":
        mark_started(tmp_path / name, cfg if name != "e" else composed("model=pconv", "seed=1"))
    assert find_unfinished_run(tmp_path, composed("model=pconv", "workers=3")) == tmp_path / "d"
    mark_finished(tmp_path / "d", {}, {})
    with FileLock(tmp_path / "c" / "lock"):
        assert find_unfinished_run(tmp_path, cfg) == tmp_path / "b"
    (tmp_path / "c" / "command.yaml").write_text("- task=1\n_target_: x\n")  # corrupt, or a multirun's
    (tmp_path / "b" / "command.yaml").write_text("3")
    assert find_unfinished_run(tmp_path, cfg) == tmp_path / "a"
    assert find_unfinished_run(tmp_path, OmegaConf.merge(cfg, {"batch_size": "${gone}"})) is None
