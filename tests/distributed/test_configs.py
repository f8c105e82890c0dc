"""conf/trainer's strategies for several processes, as far as they can be made without GPUs."""

from types import SimpleNamespace

import pytest
from hydra.utils import instantiate
from lightning.pytorch.strategies import FSDPStrategy

from src.common.errors import InputError
from src.training.launcher import JobDDPStrategy
from src.training.trainer import make_trainer


@pytest.mark.parametrize(("chosen", "nodes"), [("ddp", 1), ("ddp_multinode", 3)])
def test_ddp_counts_processes_over_machines(composed, chosen, nodes):
    cfg = composed(f"trainer={chosen}", f"trainer.num_nodes={nodes}", "trainer.devices=2", "trainer.accelerator=cpu")
    trainer = make_trainer(cfg.trainer)
    assert isinstance(trainer.strategy, JobDDPStrategy)
    assert trainer.world_size == 2 * nodes
    assert trainer.strategy._timeout.total_seconds() == 30 * 60
    assert trainer.strategy._ddp_kwargs == {"find_unused_parameters": True}


@pytest.mark.parametrize(("model", "refused"), [("lbam", True), ("contextual_attention", True), ("pconv", False)])
def test_fsdp_is_made_and_refuses_gradient_penalties(composed, model, refused):
    cfg = composed(f"model={model}", "trainer=fsdp")
    strategy = instantiate(cfg.trainer.strategy)
    assert isinstance(strategy, FSDPStrategy)
    module = instantiate(cfg.model.training)(
        network=instantiate(cfg.model.network), loss=instantiate(cfg.loss), accumulate=1, clip_norm=1.0
    )
    module.trainer = trainer = SimpleNamespace(strategy=strategy, max_steps=1, max_epochs=None, optimizers=[])
    trainer.precision = "32-true"
    if refused:
        with pytest.raises(InputError, match="trainer=fsdp can't differentiate twice"):
            module.on_train_start()
    else:
        module.on_train_start()


def test_without_gpus_it_says_so(composed):
    with pytest.raises(InputError, match="trainer: No supported gpu backend found"):
        make_trainer(composed("trainer=ddp").trainer)


@pytest.mark.parametrize("asked", [("trainer.devices=2",), ("trainer.strategy=ddp", "trainer.num_nodes=2")])
def test_several_processes_are_not_left_to_lightnings_own_launcher(composed, asked):
    with pytest.raises(
        InputError, match=r"trainer\.strategy=\w+ is for one process, and 2 are asked for: give trainer=ddp"
    ):
        make_trainer(composed(*asked).trainer)
    make_trainer(composed("trainer.strategy=ddp").trainer)
