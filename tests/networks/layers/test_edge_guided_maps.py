import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.networks.layers.attention_map import AsymmetricGaussian, NoMaps, learnable_maps, non_negative, power_relu
from src.networks.layers.edge_guided_maps import (
    EdgeGuidedConv,
    edge_concatenated_maps,
    edge_guided_maps,
)

CHANNELS = [6, 8, 5]


def make_inputs(height=24, width=32):
    """Return two masks, one with a hole in the left half, and two edge maps."""
    generator = torch.Generator().manual_seed(3)
    mask = (torch.rand(2, 1, height, width, generator=generator) > 0.4).float()
    mask[0, ..., : width // 2] = 0
    return mask, (torch.rand(2, 1, height, width, generator=generator) > 0.8).float()


def randomise(maps: nn.Module) -> nn.Module:
    """Set large filters and norms, as initial ones are near 0."""
    generator = torch.Generator().manual_seed(4)
    for name, value in (*maps.named_parameters(), *maps.named_buffers()):
        if "num_batches" not in name:
            with torch.no_grad():
                noise = torch.randn(value.shape, generator=generator)
                value.copy_(1 + 0.3 * noise.abs() if value.ndim <= 1 else 1.5 * noise / value[0].numel() ** 0.5)
    return maps


# --- Eqs. 14, 19 and 20, window by window ---


def slow_conv(x, weight, bias, stride):
    """Convolution with padding 1, one output at a time."""
    out_channels, _, size, _ = weight.shape
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    rows = (x.shape[-2] + 2 - size) // stride + 1
    columns = (x.shape[-1] + 2 - size) // stride + 1
    out = torch.zeros(len(x), out_channels, rows, columns)
    for row in range(rows):
        for column in range(columns):
            window = padded[:, :, stride * row : stride * row + size, stride * column : stride * column + size]
            for channel in range(out_channels):
                out[:, channel, row, column] = (window * weight[channel]).sum(dim=(1, 2, 3))
                if bias is not None:
                    out[:, channel, row, column] += bias[channel]
    return out


def slow_norm(x, norm):
    """Batch norm in eval mode, then LeakyReLU(0.2)."""
    by_channel = [t.view(1, -1, 1, 1) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)]
    mean, variance, scale, shift = by_channel
    y = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
    return torch.where(y > 0, y, 0.2 * y)


def slow_maps(maps, mask, edges):
    m_in, e_in = mask.repeat(1, 3, 1, 1), edges
    attention_maps = []
    for level in range(len(CHANNELS)):
        conv = maps.mask_convs[level]
        first, norm, _, second, _ = conv.edge_attention
        m_int = slow_conv(m_in, conv.mask_conv.weight, None, stride=2)
        hidden = slow_norm(slow_conv(torch.cat([m_in, e_in], 1), first.weight, None, stride=1), norm)
        a_e = 1 / (1 + torch.exp(-slow_conv(hidden, second.weight, second.bias, stride=2)))
        m_c = m_int * a_e  # Eqs. 14 and 19: one A^E for all channels
        attention_maps.append(AsymmetricGaussian(*[p.item() for p in maps.attend[level].parameters()])(m_c))  # Eq. 12
        m_in = torch.where(m_c > 0, m_c.clamp_min(1e-30) ** 0.8, 0.0)  # Eqs. 11 and 20
        if level + 1 < len(CHANNELS):
            carry, norm, _ = maps.edge_convs[level]
            e_in = slow_norm(slow_conv(e_in, carry.weight, None, stride=2), norm)
    return attention_maps


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_maps_follow_the_equations(direction):
    mask, edges = make_inputs(8, 16)
    mask = mask if direction == "forward" else 1 - mask
    maps = randomise(edge_guided_maps(CHANNELS)).eval()
    with torch.no_grad():
        for ours, by_hand in zip(maps(mask, edges), slow_maps(maps, mask, edges), strict=True):
            assert_close(ours, by_hand, atol=1e-5, rtol=1e-5)


def test_open_gate_gives_lbams_maps():
    """With A^E = 1 the edges have no effect, and Eq. 14 is Eq. 10."""

    class Open(nn.Module):
        def forward(self, x):
            return torch.ones_like(x)

    guided, plain, (mask, edges) = edge_guided_maps(CHANNELS), learnable_maps(CHANNELS), make_inputs()
    for ours, theirs in zip(guided.mask_convs, plain.mask_convs, strict=True):
        ours.edge_attention[-1] = Open()
        theirs.load_state_dict(ours.mask_conv.state_dict())
    for ours, theirs in zip(guided(mask, edges), plain(mask, None), strict=True):
        assert_close(ours, theirs)


def test_non_negative_filters_with_an_open_gate_map_known_windows_to_1_and_holes_to_0():
    torch.manual_seed(0)
    maps = edge_guided_maps([32, 64, 64], start=partial(non_negative, all_known=1 / 0.88))
    edges, seen = (torch.rand(4, 1, 64, 64) > 0.9).float(), []
    for attend in maps.attend:
        attend.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    with torch.no_grad():
        maps(torch.ones_like(edges), edges)
        assert [m[..., 1:-1, 1:-1].mean().item() for m in seen] == pytest.approx([1, 1, 1], abs=0.1)
        seen.clear()
        maps(torch.zeros_like(edges), edges)
        assert all((m == 0).all() for m in seen)


def test_gate_is_open_initially():
    torch.manual_seed(0)
    conv, (mask, edges) = EdgeGuidedConv(1, 1, 4), make_inputs()
    with torch.no_grad():
        gate = conv.edge_attention(torch.cat([mask, edges], dim=1))
    assert gate.mean().item() == pytest.approx(1 / (1 + math.exp(-2)), abs=0.05)


def test_gradients_reach_the_deepest_mask_filters_at_the_start():
    """A gate of 0.5 halves the mask at each of four levels."""
    mask, edges = make_inputs(64, 64)
    sizes = []
    for gate_bias in (0.0, 2.0):
        torch.manual_seed(0)
        maps = edge_guided_maps([16, 16, 16, 16])
        for conv in maps.mask_convs:
            nn.init.constant_(conv.edge_attention[3].bias, gate_bias)
        sum(m.square().mean() for m in maps(mask, edges)).backward()
        sizes.append(maps.mask_convs[-1].mask_conv.weight.grad.abs().mean())
    assert sizes[1] > 4 * sizes[0]


def test_closed_gate_stops_the_mask():
    conv, (mask, edges) = randomise(EdgeGuidedConv(1, 1, 4)).eval(), make_inputs()
    with torch.no_grad():
        conv.edge_attention[3].bias.fill_(-200.0)
        assert (conv(mask, edges).abs() < 1e-30).all()


def test_concatenated_maps_are_lbams_with_one_more_channel():
    maps, (mask, edges) = randomise(edge_concatenated_maps(CHANNELS)), make_inputs(8, 16)
    m = torch.cat([mask, mask, mask, edges], dim=1)
    with torch.no_grad():
        for level, ours in enumerate(maps(mask, edges)):
            m_c = slow_conv(m, maps.mask_convs[level].weight, None, stride=2)
            assert_close(ours, maps.attend[level](m_c), atol=1e-5, rtol=1e-5)
            m = power_relu(m_c)


# --- properties of the maps ---


def test_edges_do_not_make_pixels_known():
    """A hole stays a hole until a window reaches beyond it, regardless of edges in it."""
    maps = randomise(edge_guided_maps([6, 8])).eval()
    mask = torch.cat([torch.zeros(2, 1, 48, 32), torch.ones(2, 1, 48, 32)], dim=-1)
    updated = {}
    for level, update in enumerate(maps.update):
        update.register_forward_hook(lambda module, args, output, level=level: updated.__setitem__(level, output))
    with torch.no_grad():
        for edges in (torch.ones_like(mask), torch.rand_like(mask)):
            maps(mask, edges)
            # Output i depends on inputs 2i - 1 to 2i + 2, and input 32 is the first that is known.
            assert (updated[0][..., :15] == 0).all()
            assert (updated[0][..., 15:] > 0).any()
            assert (updated[1][..., :7] == 0).all()
            assert (updated[1][..., 7:] > 0).any()
            maps(torch.zeros_like(mask), edges)
            assert all((u == 0).all() for u in updated.values())


def test_edge_affects_every_level_at_its_position():
    maps, (mask, edges) = randomise(edge_guided_maps(CHANNELS)).eval(), make_inputs()
    poked = edges.clone()
    poked[0, 0, 11, 20] = 1 - poked[0, 0, 11, 20]
    with torch.no_grad():
        for level, (before, after) in enumerate(zip(maps(mask, edges), maps(mask, poked), strict=True), start=1):
            changed = (before != after).any(dim=1)
            assert changed[0].any()
            assert not changed[1].any()  # the other image of the batch
            # A^E's two convolutions cover 2i - 2 ... 2i + 3, so i is within 2 of half the position; one level
            # deeper this is halved, and the reach grows by less than 2.
            rows, columns = changed[0].nonzero().unbind(1)
            assert (rows - 11 / 2**level).abs().max() <= 3
            assert (columns - 20 / 2**level).abs().max() <= 3


@pytest.mark.parametrize("level", [0, 1])
def test_edge_conv_affects_only_deeper_maps(level):
    maps, (mask, edges) = randomise(edge_guided_maps([6, 8, 5, 7])).eval(), make_inputs()
    with torch.no_grad():
        before = maps(mask, edges)
        maps.edge_convs[level][0].weight.mul_(-2)
        changed = [not torch.equal(b, a) for b, a in zip(before, maps(mask, edges), strict=True)]
    assert changed == [i > level for i in range(4)]


MAKERS = {
    "guided": edge_guided_maps,
    "guided sigmoid relu": partial(edge_guided_maps, attend=nn.Sigmoid, update=torch.relu),
    "guided relu sigmoid": partial(edge_guided_maps, attend=nn.ReLU, update=torch.sigmoid),
    "concatenated": edge_concatenated_maps,
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_gradients_are_finite_and_reach_every_weight(make, training):
    mask, edges = make_inputs()
    for values in (mask, torch.zeros_like(mask), torch.ones_like(mask)):
        maps = randomise(make(CHANNELS)).train(training)
        soft, drawn = values.clone().requires_grad_(), edges.clone().requires_grad_()
        (sum(m.square().mean() for m in maps(soft, drawn))).backward()
        grads = {name: p.grad for name, p in maps.named_parameters()} | {"mask": soft.grad, "edges": drawn.grad}
        assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
        if values is mask:
            zero = [name for name, grad in grads.items() if not grad.any()]
            # Only g_A's right side may have no gradient, as no window may be known enough to pass mu.
            assert [name for name in zero if not name.endswith("gamma_r")] == []


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_batch_equals_its_images_one_by_one(make):
    maps, (mask, edges) = randomise(make(CHANNELS)).eval(), make_inputs()
    with torch.no_grad():
        singles = [maps(mask[i : i + 1], edges[i : i + 1]) for i in range(2)]
        for together, *apart in zip(maps(mask, edges), *singles, strict=True):
            assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_half_precision_stays_finite_and_near(make):
    maps, (mask, edges) = randomise(make(CHANNELS)).eval(), make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        rough = maps(mask, edges)
    for ours, expected in zip(rough, maps(mask, edges), strict=True):
        assert ours.isfinite().all()
        assert_close(ours.float(), expected, atol=0.1, rtol=0.1)
    sum(m.float().sum() for m in rough).backward()
    assert all(p.grad.isfinite().all() for p in maps.parameters())


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_maps_and_updated_masks_can_be_recorded(make):
    maps, (mask, edges) = randomise(make(CHANNELS)).eval(), make_inputs()
    recorded = {}
    for kind in ("attend", "update"):
        for level, layer in enumerate(maps.get_submodule(kind)):
            layer.register_forward_hook(lambda module, args, output, key=(kind, level): recorded.update({key: output}))
    returned = maps(mask, edges)
    for level, (expected, channels) in enumerate(zip(returned, CHANNELS, strict=True)):
        assert torch.equal(recorded["attend", level], expected)
        assert recorded["update", level].shape == (2, channels, 24 >> level + 1, 32 >> level + 1)
    assert len(recorded) == 6


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_rejects_missing_edges(make):
    mask, _ = make_inputs()
    with pytest.raises(ValueError, match=r"^this U-Net requires edges of shape \(B, 1, H, W\), got None"):
        make(CHANNELS)(mask, None)


def test_no_maps_record_nothing():
    assert len(NoMaps([4, 4]).update) == 0


def test_parameters_by_hand():
    maps = edge_guided_maps([64, 128, 256])
    mask_convs = 16 * (3 * 64 + 64 * 128 + 128 * 256)
    first = 9 * (4 * 3 + 128 * 64 + 256 * 128) + 2 * (3 + 64 + 128)  # of A^E, and its norm
    second = 16 * (3 + 64 + 128) + 3
    carried = 9 * (1 * 64 + 64 * 128) + 2 * (64 + 128)  # two, as those of the last level are unused
    assert sum(p.numel() for p in maps.parameters()) == mask_convs + first + second + carried + 3 * 4
    concatenated = edge_concatenated_maps([64, 128, 256])
    assert sum(p.numel() for p in concatenated.parameters()) == mask_convs + 16 * 64 + 3 * 4
