import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.layers.released_edge_maps import (
    EdgeGuidance,
    parameters_to_buffers,
    released_edge_maps,
    released_reverse_edge_maps,
)

CHANNELS = [6, 8, 5]


def make_inputs(height=24, width=32):
    generator = torch.Generator().manual_seed(3)
    mask = (torch.rand(2, 1, height, width, generator=generator) > 0.4).float()
    mask[0, ..., : width // 2] = 0
    return mask, (torch.rand(2, 1, height, width, generator=generator) > 0.8).float()


def randomise(maps: nn.Module) -> nn.Module:
    """Set large filters and norms, as initial ones are near 0."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for value in maps.state_dict().values():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                value.copy_(1 + 0.3 * noise.abs() if value.ndim <= 1 else 1.5 * noise / value[0].numel() ** 0.5)
    return maps.eval()


def stage(x, layer):
    """Convolution, batch norm in eval mode, LeakyReLU(0.2)."""
    conv, norm, _ = layer
    x = F.conv2d(x, conv.weight, padding=conv.weight.shape[-1] // 2)
    mean, variance, scale, shift = (
        t.view(1, -1, 1, 1) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    y = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
    return torch.where(y > 0, y, 0.2 * y)


def nearest(x, size):
    """The pixel at floor(i * from / to), for any sizes."""
    rows, columns = (
        [i * before // after for i in range(after)] for before, after in zip(x.shape[-2:], size, strict=True)
    )
    return x[..., rows, :][..., columns]


def by_hand(maps, mask, edges):
    found = []
    m, e = mask.repeat(1, 3, 1, 1), edges
    for layer in maps.enter_mask:
        m = stage(m, layer)
    for layer in maps.enter_edges:
        e = stage(e, layer)
    for level in range(len(CHANNELS)):
        e, guide = nearest(e, m.shape[-2:]), maps.guides[level]
        share = stage(torch.cat([stage(e, guide.edge_conv), m], 1), guide.agreement)
        assert share.shape[1] == 1
        guided = stage(m, guide.mask_conv) * share + m
        convolved = F.conv2d(guided, maps.mask_convs[level].weight, stride=2, padding=1)
        found.append(maps.attend[level](convolved))
        m = torch.where(convolved > 0, convolved.clamp_min(1e-30) ** 0.8, 0.0)
        e = stage(e, maps.edge_convs[level])
    return found


@pytest.mark.parametrize("size", [(24, 32), (16, 40)], ids=str)
def test_maps_follow_the_release(size):
    maps, (mask, edges) = randomise(released_edge_maps(CHANNELS)), make_inputs(*size)
    with torch.no_grad():
        for ours, expected in zip(maps(mask, edges), by_hand(maps, mask, edges), strict=True):
            assert ours.std() > 1e-3
            assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_guidance_adds_mask():
    guide, mask = randomise(EdgeGuidance(4)), torch.rand(1, 4, 6, 8)
    with torch.no_grad():
        for norm in (guide.agreement[1],):
            norm.weight.zero_()
            norm.bias.zero_()
        assert torch.equal(guide(mask, torch.rand(1, 4, 6, 8)), mask)


def test_last_edge_convolution_is_stored_but_unused():
    maps, (mask, edges) = randomise(released_edge_maps(CHANNELS)), make_inputs()
    last = {f"edge_convs.2.{key}" for key in ("0.weight", "1.weight", "1.bias")}
    assert last <= maps.state_dict().keys()
    assert not last & dict(maps.named_parameters()).keys()
    assert maps.edge_convs[2][0].weight.shape == (5, 8, 3, 3)
    with torch.no_grad():
        before = maps(mask, edges)
        for name, reached in ((2, []), (1, [2]), (0, [1, 2])):
            maps.edge_convs[name][0].weight.mul_(-2)
            after = maps(mask, edges)
            assert [i for i in range(3) if not torch.equal(before[i], after[i])] == reached
            before = after


def test_unlearned_layers_match():
    torch.manual_seed(0)
    layer, x = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).eval(), torch.rand(1, 2, 4, 4)
    before, names = layer(x), set(layer.state_dict())
    assert torch.equal(parameters_to_buffers(layer)(x), before)
    assert set(layer.state_dict()) == names
    assert list(layer.parameters()) == []


@pytest.mark.parametrize("make", [released_edge_maps, released_reverse_edge_maps])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradients_are_finite_and_reach_every_weight(make, training):
    mask, edges = make_inputs()
    for values in (mask, torch.zeros_like(mask), torch.ones_like(mask)):
        maps = randomise(make(CHANNELS)).train(training)
        sum(m.square().mean() for m in maps(values, edges)).backward()
        grads = {name: p.grad for name, p in maps.named_parameters()}
        assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
        if values is mask:
            assert [name for name, g in grads.items() if not g.any() and not name.endswith("gamma_r")] == []


def test_batch_equals_its_images_one_by_one():
    maps, (mask, edges) = randomise(released_edge_maps(CHANNELS)), make_inputs()
    with torch.no_grad():
        singles = [maps(mask[i : i + 1], edges[i : i + 1]) for i in range(2)]
        for together, *apart in zip(maps(mask, edges), *singles, strict=True):
            assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-5)


def test_rejects_missing_edges():
    with pytest.raises(InputError, match="requires edges"):
        released_edge_maps(CHANNELS)(make_inputs()[0], None)
