"""The switches of conf/train.yaml that change how a network is run, and not what is trained."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from src.checkpoints.reading import load_checkpoint
from src.training.optimizers import fuse, match_state_memory_format
from src.training.run import train

MODELS = ("lbam", "pconv", "contextual_attention", "mpga_gla", "edge_lbam")


def weights(trainer):
    return trainer.lightning_module.state_dict()


@pytest.mark.parametrize("model", MODELS)
def test_gradient_checkpointing_trains_to_the_same_weights(composed, model):
    asked = [f"model={model}", "trainer.limit_val_batches=0", "callbacks.best=null"]
    plain = weights(train(composed(*asked)))
    assert_close(weights(train(composed(*asked, "gradient_checkpointing=true"))), plain, atol=0, rtol=0)


@pytest.mark.parametrize("switch", ["channels_last", "gradient_checkpointing"])
def test_a_run_goes_on_with_another_switch(composed, tmp_path, switch, caplog):
    train(composed("model=lbam", f"{switch}=true", f"output_dir={tmp_path / 'half'}"))
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    trainer = train(composed("model=lbam", "trainer.max_steps=5", f"resume={last}"))
    assert trainer.global_step == 5
    assert f"{switch}" not in caplog.text
    for optimizer in trainer.optimizers:  # the fused step goes through memory
        for p, state in optimizer.state.items():
            assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == p.stride()


def test_a_fused_step_with_moments_of_another_layout_is_that_of_the_loop():
    def stepped(fused):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
        p.grad = torch.randn_like(p)
        optimizer = torch.optim.Adam([p], foreach=False if not fused else None)
        fuse(optimizer)
        assert bool(optimizer.param_groups[0]["fused"]) == fused  # who chose is left alone
        optimizer.step()
        for name in ("exp_avg", "exp_avg_sq"):  # as a checkpoint may bring them
            optimizer.state[p][name] = optimizer.state[p][name].contiguous()
        match_state_memory_format(optimizer)
        optimizer.step()
        return p.detach()

    assert_close(stepped(fused=True), stepped(fused=False))


def test_channels_last_is_no_part_of_a_checkpoint(composed, tmp_path):
    train(composed("model=lbam", "channels_last=true", "trainer.max_steps=1"))
    network = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").network
    assert all(p.is_contiguous() for p in network.parameters())


@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of torch, as it traces
def test_compiled_network_and_features_train_to_the_same_weights(composed, monkeypatch):
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain, compiled = train(composed("model=lbam")), train(composed("model=lbam", "compile=true"))
    assert_close(weights(compiled), weights(plain), atol=1e-4, rtol=1e-4)
    module = compiled.lightning_module
    assert "forward" in vars(module.loss.extractor)
    assert "forward" not in vars(module.loss.adversarial["adversarial"].critic)
