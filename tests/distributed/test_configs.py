"""conf/trainer's configs for several processes, on a machine without GPUs."""

import pytest

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


def test_missing_gpu_is_an_input_error(composed):
    with pytest.raises(InputError, match="trainer: No supported gpu backend found"):
        make_trainer(composed("trainer=ddp").trainer)


@pytest.mark.parametrize("options", [("trainer.devices=2",), ("trainer.strategy=ddp", "trainer.num_nodes=2")])
def test_several_processes_require_the_projects_strategy(composed, options):
    with pytest.raises(
        InputError, match=r"trainer\.strategy=\w+ starts one process, but 2 are configured: use trainer=ddp"
    ):
        make_trainer(composed(*options).trainer)
    make_trainer(composed("trainer.strategy=ddp").trainer)
