"""The U-Nets match the literal forms of their layers: images, maps and gradients."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.networks.layers.attention_map import (
    AsymmetricGaussian,
    ClampedAsymmetricGaussian,
    MaskConv2d,
    NoMaps,
    learnable_maps,
    power_relu,
    released_maps,
    unlearned_maps,
)
from src.networks.layers.edge_guided_maps import edge_concatenated_maps, edge_guided_maps
from src.networks.lbam import LBAM, released_edge_lbam_unet, released_lbam
from src.networks.pconv import PConv, released_pconv
from src.networks.reference import literal_form
from src.networks.reference.unets import FORMS

ATTENDS = {
    "lbam": AsymmetricGaussian,
    "clamped": ClampedAsymmetricGaussian,
    "sigmoid": nn.Sigmoid,
    "lrelu": partial(nn.LeakyReLU, 0.2),
    "relu": nn.ReLU,
}
MAPS = {
    **{name: partial(learnable_maps, attend=attend) for name, attend in ATTENDS.items()},
    "3x3": partial(learnable_maps, kernel_size=3),
    "released": released_maps,
    "unlearned": unlearned_maps,
    "none": NoMaps,
    "edge-guided": edge_guided_maps,
    "edge-concatenated": edge_concatenated_maps,
}
NETWORKS = {
    **{f"lbam, maps {name}": partial(LBAM, forward_maps=maps, reverse_maps=maps) for name, maps in MAPS.items()},
    "released lbam": released_lbam,
    "released edge_lbam's U-Net": released_edge_lbam_unet,
    "pconv": PConv,
    "released pconv": released_pconv,
}


def make_inputs(batch=2):
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(batch, 3, 64, 64, generator=generator), torch.ones(batch, 1, 64, 64)
    mask[..., 4:60, 10:62] = 0  # wide enough to remain a hole two levels deeper
    return image, mask, (torch.rand(mask.shape, generator=generator) > 0.8).float()


def randomise(network: nn.Module) -> nn.Module:
    """Set large filters, mostly positive for masks, so that m is on both sides of mu, and unequal gammas."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "mask_convs" in name and value.ndim > 1:
                value.uniform_(-1 / value[0].numel(), 6 / value[0].numel(), generator=generator)
            elif "gamma" in name:
                value.uniform_(0.6, 1.8, generator=generator)
            elif value.ndim > 1:
                value.normal_(std=1.4 / value[0].numel() ** 0.5, generator=generator)
    return network


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_maps_and_gradients_match_the_literal_form(name, training):
    torch.manual_seed(0)
    fast = randomise(NETWORKS[name](width=1 / 8, levels=4)).double().train(training)
    slow, given = literal_form(fast), [t.double() for t in make_inputs()]
    assert {type(m) for m in slow.modules()}.isdisjoint(FORMS)
    outputs = [network(*given, maps=True) for network in (fast, slow)]
    assert_close(outputs[0].prediction, outputs[1].prediction)
    assert outputs[0].maps.keys() == outputs[1].maps.keys()
    for key, recorded in outputs[0].maps.items():
        assert_close(recorded, outputs[1].maps[key])
    for output in outputs:
        output.prediction.square().mean().backward()
    expected = dict(slow.named_parameters())
    for key, parameter in fast.named_parameters():
        assert (parameter.grad is None) == (expected[key].grad is None), key
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), key
            assert_close(parameter.grad, expected[key].grad, msg=lambda m, key=key: f"{key}: {m}")
    with torch.inference_mode():  # more operations are in place here
        again = fast.eval()(*given).prediction
        assert_close(again, slow.eval()(*given).prediction)


@pytest.mark.parametrize("name", ["lbam, maps lbam", "released lbam", "lbam, maps edge-guided", "pconv"])
def test_float32_is_accurate_to_1e_5(name):
    torch.manual_seed(0)
    fast = randomise(NETWORKS[name](width=1 / 8, levels=4)).train()
    slow = literal_form(fast)
    predictions = [network(*make_inputs()).prediction for network in (fast, slow)]
    assert_close(*predictions, atol=1e-5, rtol=0)
    for prediction in predictions:
        prediction.square().mean().backward()
    expected = dict(slow.named_parameters())
    for key, parameter in fast.named_parameters():
        assert_close(parameter.grad, expected[key].grad, atol=1e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


def test_expanded_mask_matches_repeated_mask():
    image, mask, edges = make_inputs(batch=3)
    for name in NETWORKS:
        network = randomise(NETWORKS[name](width=1 / 8, levels=3)).eval()
        with torch.no_grad():
            expanded = network(image, mask[:1].expand(3, -1, -1, -1), edges).prediction
            assert_close(expanded, network(image, mask[:1].repeat(3, 1, 1, 1), edges).prediction)


def test_expanded_mask_is_convolved_once():
    torch.manual_seed(0)
    conv, mask = MaskConv2d(3, 5), torch.rand(2, 1, 12, 16)
    convolved = []
    convolve = conv.convolve
    conv.convolve = lambda x, weight: convolved.append(x.shape[1]) or convolve(x, weight)
    assert_close(conv(mask.expand(-1, 3, -1, -1)), conv(mask.repeat(1, 3, 1, 1)))
    assert convolved == [1, 3]


def test_g_m_has_finite_gradients_in_holes_at_every_level():
    image, mask, _ = make_inputs()
    network = LBAM(width=1 / 8, levels=4).train()
    for values in (mask, torch.zeros_like(mask), torch.ones_like(mask)):
        network.zero_grad()
        network(image, values).prediction.sum().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters())
    m = torch.zeros(3, requires_grad=True)
    power_relu(m).sum().backward()
    assert (m.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_g_a_of_half_precision_is_computed_in_float32(dtype):
    m = torch.linspace(-2, 5, 701).to(dtype).requires_grad_()
    g_a = AsymmetricGaussian(1.3, 0.7, 4.0, 0.5)
    expected = g_a(m.detach().float())
    out = g_a(m)
    assert out.dtype == dtype
    assert torch.equal(out, expected.to(dtype))
    out.sum().backward()
    assert m.grad.dtype == dtype
    assert all(p.grad.dtype == torch.float32 for p in g_a.parameters())
