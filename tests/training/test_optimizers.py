"""Fused steps with moments in another memory format than the weights."""

import torch
from torch.testing import assert_close

from src.training.optimizers import fuse, match_state_memory_format


def test_fused_step_with_moments_in_another_memory_format_matches_the_loop():
    def stepped(fused):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
        p.grad = torch.randn_like(p)
        optimizer = torch.optim.Adam([p], foreach=False if not fused else None)
        fuse(optimizer)
        assert bool(optimizer.param_groups[0]["fused"]) == fused  # an explicit choice is kept
        optimizer.step()
        for name in ("exp_avg", "exp_avg_sq"):  # as a checkpoint may hold them
            optimizer.state[p][name] = optimizer.state[p][name].contiguous()
        match_state_memory_format(optimizer)
        optimizer.step()
        return p.detach()

    assert_close(stepped(fused=True), stepped(fused=False))
