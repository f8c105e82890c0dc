from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.networks.layers.partial_conv import PartialConv2d
from src.networks.ops.asymmetric_gaussian import clamp_straight_through
from src.networks.pconv import IMAGENET_MEAN, IMAGENET_STD, PConv, released_pconv


def make_inputs():
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(2, 3, 48, 64, generator=generator), torch.ones(2, 1, 48, 64)
    mask[..., 12:36, 20:50] = 0
    return image, mask


# Liu et al.'s table of the network: kernel^2 x in x out; biases and batch norm's scale and shift.
ENCODER = 49 * 3 * 64 + 25 * 64 * 128 + 25 * 128 * 256 + 9 * 256 * 512 + 3 * 9 * 512 * 512
DECODER = 9 * (3 * 1024 * 512 + (512 + 256) * 256 + (256 + 128) * 128 + (128 + 64) * 64 + (64 + 3) * 3)
BIAS = 64 + 3  # the first and the last layer, which have no batch norm
NORM = 2 * (128 + 256 + 4 * 512) + 2 * (3 * 512 + 256 + 128 + 64)


@pytest.mark.parametrize(("levels", "more"), [(7, 0), (8, 9 * 512 * 512 + 9 * 1024 * 512 + 4 * 512)])
def test_full_width_has_the_parameters_of_the_table(levels, more):
    expected = ENCODER + DECODER + BIAS + NORM + more
    assert sum(p.numel() for p in PConv(levels=levels).parameters()) == expected


def test_kernels_and_strides():
    network = PConv(width=1 / 8, levels=8)
    assert [stage.conv.kernel_size for stage in network.encoder] == [7, 5, 5, 3, 3, 3, 3, 3]
    assert [stage.conv.stride for stage in network.encoder] == [2] * 8
    assert [(stage.conv.kernel_size, stage.conv.stride) for stage in network.decoder] == [(3, 1)] * 8
    assert network.stride == 256


def test_batch_norm_in_all_layers_except_the_first_and_last():
    network = PConv(width=1 / 8, levels=4)
    stages = [*network.encoder, *network.decoder]
    assert [isinstance(s.norm, nn.BatchNorm2d) for s in stages] == [False, *[True] * 6, False]
    assert [isinstance(s.conv.bias, nn.Parameter) for s in stages] == [True, *[False] * 6, True]
    assert [type(s.activation) for s in stages] == [nn.ReLU] * 4 + [nn.LeakyReLU] * 3 + [nn.Identity]


def test_only_the_encoder_batch_norms_can_be_frozen():
    network, (image, mask) = PConv(width=1 / 8, levels=4).train(), make_inputs()
    frozen = list(network.encoder_batch_norms())
    assert len(frozen) == 3
    for layer in frozen:
        layer.eval()
    before = {key: v.clone() for key, v in network.state_dict().items() if "running" in key}
    network(image, mask)
    moved = {key.partition(".")[0] for key, v in before.items() if not torch.equal(v, network.state_dict()[key])}
    assert moved == {"decoder"}


def test_mask_shrinks_as_windows_reach_into_the_hole():
    network, (image, mask) = PConv(width=1 / 8, levels=3).eval(), make_inputs()
    maps = network(image, mask, maps=True).maps
    # Output i of the 7x7 layer depends on inputs 2i - 3 to 2i + 3, and rows 12 to 35 are the hole.
    rows = (maps["encoder_1"][0, 0, :, 17] == 0).nonzero().flatten().tolist()
    assert rows == [i for i in range(24) if 2 * i - 3 >= 12 and 2 * i + 3 <= 35]
    assert set(torch.cat([m.unique() for m in maps.values()]).tolist()) <= {0.0, 1.0}
    assert [tuple(maps[f"{side}_{level}"].shape) for side, level in (("encoder", 3), ("decoder", 1))] == [
        (2, 1, 6, 8),
        (2, 1, 48, 64),
    ]


def test_skip_and_upsampled_features_have_separate_masks():
    network, (image, mask) = PConv(width=1 / 8, levels=2).eval(), make_inputs()
    received = []
    network.decoder[-1].conv.register_forward_pre_hook(lambda module, args: received.append(args))
    network(image, mask)
    (features, masks) = received[0]
    assert [f.shape[1] for f in features] == [8, 3]  # upsampled first, the image second
    assert torch.equal(masks[1], mask)
    assert torch.equal(masks[0][..., ::2, ::2], masks[0][..., 1::2, 1::2])  # nearest
    assert masks[0].mean() > masks[1].mean()


def test_image_without_known_pixels_gets_imagenet_mean():
    network, (image, mask) = PConv(width=1 / 8, levels=4).eval(), make_inputs()
    prediction = network(image, torch.zeros_like(mask)).prediction
    assert_close(prediction, torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand_as(image))


def test_clamp_is_exact_and_passes_the_gradient():
    x = torch.tensor([-5.3, -1e-8, 0.0, 0.4, 1.0, 1.0000001, 7.1], requires_grad=True)
    clamped = clamp_straight_through(x, 0, 1)
    (clamped * torch.arange(7.0)).sum().backward()
    assert torch.equal(clamped, x.detach().clamp(0, 1))
    assert x.grad.tolist() == list(range(7))


def test_release_has_a_bias_only_in_the_last_layer_and_equal_names():
    paper, release = PConv(width=1 / 8, levels=4).state_dict(), released_pconv(width=1 / 8, levels=4).state_dict()
    assert paper.keys() - release.keys() == {"encoder.0.conv.bias"}
    assert {key for key in release if key.endswith("conv.bias")} == {"decoder.3.conv.bias"}


def test_release_equals_the_paper_with_filters_scaled_by_the_window():
    """The factor converts checkpoints of one into the other."""
    printed = partial(PartialConv2d, together=True)
    paper, release = PConv(width=1 / 8, levels=4, conv=printed).eval(), released_pconv(width=1 / 8, levels=4).eval()
    state = release.state_dict()
    filters = {key: t / t[0].numel() for key, t in state.items() if t.ndim == 4}
    paper.load_state_dict(state | filters | {"encoder.0.conv.bias": torch.zeros(8, 1, 1)})
    with torch.no_grad():
        assert_close(release(*make_inputs()).prediction, paper(*make_inputs()).prediction)


def test_release_scales_initial_filters_without_batch_norm():
    torch.manual_seed(0)
    paper = PConv(width=1 / 8, levels=4).state_dict()
    torch.manual_seed(0)
    release = released_pconv(width=1 / 8, levels=4).state_dict()
    larger = {"encoder.0.conv.conv.weight": 3 * 49, "decoder.3.conv.conv.weight": (8 + 3) * 9}
    for key, started in release.items():
        assert_close(started, paper[key] * larger.get(key, 1))


def test_prediction_is_denormalised_and_clamped():
    network, (image, mask) = released_pconv(width=1 / 8, levels=4).eval(), make_inputs()
    torch.nn.init.normal_(network.decoder[-1].conv.bias, std=5.0)  # out of range
    with torch.no_grad():
        normalised = network.normalised(image * mask, mask)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        assert (normalised * std + mean).abs().max() > 2
        assert_close(network(image, mask).prediction, (normalised * std + mean).clamp(0, 1))
