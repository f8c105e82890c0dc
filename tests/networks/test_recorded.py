"""Traced and exported networks are valid for masks other than the recorded one."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.networks.contextual_attention import CoarseToFine, released_contextual_attention
from src.networks.lbam import LBAM
from src.networks.mpga_gla import MPGAGLA, released_mpga_gla
from src.networks.pconv import PConv

NETWORKS = {
    "lbam": lambda: LBAM(1 / 16, levels=3),
    "pconv": lambda: PConv(1 / 16, levels=3),
    "contextual_attention": lambda: CoarseToFine(1 / 16),
    "contextual_attention_release": lambda: released_contextual_attention(1 / 16),
    "mpga_gla": lambda: MPGAGLA(1 / 16),
    "mpga_gla_release": lambda: released_mpga_gla(1 / 16),
}
ALL = pytest.mark.parametrize("name", NETWORKS)


class Prediction(nn.Module):
    """Wraps a network to return a tensor."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image, mask):
        return self.network.inpaint(image * mask, mask, None).prediction


def build(name):
    torch.manual_seed(0)
    return Prediction(NETWORKS[name]().eval())


def inputs(batch, top, bottom):
    generator = torch.Generator().manual_seed(batch)
    mask = torch.ones(batch, 1, 48, 64)
    mask[:, :, top:bottom, 16:40] = 0
    return torch.rand(batch, 3, 48, 64, generator=generator), mask


@ALL
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace.* is deprecated")
def test_trace_is_valid_for_other_masks(name):
    network = build(name)
    with torch.no_grad():
        traced = torch.jit.trace(network, inputs(2, 8, 16), check_trace=False)
        for other in (inputs(2, 8, 40), inputs(2, 0, 48)):
            assert_close(traced(*other), network(*other), atol=2e-5, rtol=1e-4)


@ALL
def test_export_of_trainable_weights_is_valid_for_other_masks(name):
    network = build(name)
    exported = torch.export.export(network, inputs(2, 8, 16)).module()
    with torch.no_grad():
        for other in (inputs(2, 8, 40), inputs(2, 0, 48)):
            assert_close(exported(*other), network(*other), atol=2e-5, rtol=1e-4)
