"""The contextual attention networks, against appendix D of the paper."""

from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.testing import assert_close

from src.networks.contextual_attention import (
    CoarseOnly,
    CoarseToFine,
    EncoderDecoder,
    TwoBranch,
    released_contextual_attention,
)
from src.networks.interface import composite
from src.networks.layers.attention_scores import attention_offsets
from src.networks.layers.coarse_to_fine import ConvBlock, UpsampleConvBlock, edge_pad, mirror_pad, zero_pad
from src.networks.layers.contextual_attention import ContextualAttention, FeatureAttention, known_cells
from src.networks.layers.released_contextual_attention import ReleasedContextualAttention
from src.networks.layers.warping import Convolution, appearance_flow, spatial_transformer


def make_inputs(height=48, width=64):
    """Return two images with different holes."""
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(2, 3, height, width, generator=generator), torch.ones(2, 1, height, width)
    mask[0, :, 12:30, 20:44] = 0
    mask[1, :, : height // 3, 40:] = 0
    return image, mask


def small(**parts):
    torch.manual_seed(0)
    return CoarseToFine(1 / 8, **parts).eval()


def two_branch(attention):
    return partial(TwoBranch, attention=attention)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Appendix D, in kernel side, input and output channels; a bias for each output channel:
ENCODER = [(5, 4, 32), (3, 32, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128), (3, 128, 128)]
DILATED = [(3, 128, 128)] * 4
DECODER = [(3, 128, 128), (3, 128, 128), (3, 128, 64), (3, 64, 64), (3, 64, 32), (3, 32, 16), (3, 16, 3)]
AFTER_ATTENTION = [(3, 128, 128)] * 2
WIDE_DECODER = [(3, 256, 128), *DECODER[1:]]  # after the concatenation


def count(layers):
    return sum(side * side * i * o + o for side, i, o in layers)


def test_full_width_has_the_parameters_of_the_appendix():
    """The paper's 2.9 M is what its baseline has: two encoder-decoders. Its full model has 3.8 M."""
    coarse = count(ENCODER + DILATED + DECODER)
    refinement = count(ENCODER + DILATED) + count(ENCODER + AFTER_ATTENTION) + count(WIDE_DECODER)
    assert parameters(CoarseOnly()) == coarse == 1_447_427
    assert parameters(CoarseToFine()) == coarse + refinement == 3_765_158
    assert parameters(CoarseToFine(refinement=EncoderDecoder)) == 2 * coarse == 2_894_854


def list_layers(module):
    return [
        (m.conv.kernel_size[0], m.conv.dilation[0], m.conv.stride[0], m.conv.out_channels, type(m.activation))
        for m in module.modules()
        if isinstance(m, (ConvBlock, UpsampleConvBlock))
    ]


def test_layers_match_the_appendix():
    first = [(5, 1, 1, 32), (3, 1, 2, 64), (3, 1, 1, 64), (3, 1, 2, 128), (3, 1, 1, 128), (3, 1, 1, 128)]
    dilated = [(3, 2, 1, 128), (3, 4, 1, 128), (3, 8, 1, 128), (3, 16, 1, 128)]
    last = [(3, 1, 1, 128)] * 2 + [(3, 1, 1, 64)] * 2 + [(3, 1, 1, 32), (3, 1, 1, 16), (3, 1, 1, 3)]

    def with_elu(layers):
        return [(*layer, nn.ELU if layer[-1] != 3 else nn.Identity) for layer in layers]

    network = CoarseToFine()
    assert list_layers(network.coarse) == with_elu(first + dilated + last)
    assert list_layers(network.refinement.hallucinate) == with_elu(first + dilated)
    assert list_layers(network.refinement.before_attention) == with_elu(first)
    assert list_layers(network.refinement.after_attention) == with_elu([(3, 1, 1, 128)] * 2)
    assert list_layers(network.refinement.decode) == with_elu(last)
    assert {m.pad for m in network.modules() if isinstance(m, ConvBlock)} == {mirror_pad}
    assert {m.pad for m in network.modules() if isinstance(m, UpsampleConvBlock)} == {edge_pad}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_released_network_has_layers_of_weight_file():
    """Channels and kernel sizes as in the state dict; layers that equal the paper's are counted above."""
    release, paper = released_contextual_attention(), CoarseToFine()
    assert list_layers(release.coarse) == list_layers(paper.coarse)
    assert list_layers(release.refinement.decode) == list_layers(paper.refinement.decode)
    assert list_layers(release.refinement.after_attention) == list_layers(paper.refinement.after_attention)

    def branch(channels, last):
        sides, strides, activations = (5, 3, 3, 3, 3, 3), (1, 2, 1, 2, 1, 1), [nn.ELU] * 5 + [last]
        return list(zip(sides, [1] * 6, strides, channels, activations, strict=True))

    dilated = [(3, dilation, 1, 128, nn.ELU) for dilation in (2, 4, 8, 16)]
    assert list_layers(release.refinement.hallucinate) == branch((32, 32, 64, 64, 128, 128), nn.ELU) + dilated
    assert list_layers(release.refinement.before_attention) == branch((32, 32, 64, 128, 128, 128), nn.ReLU)
    assert {m.pad for m in release.modules() if isinstance(m, (ConvBlock, UpsampleConvBlock))} == {zero_pad}
    assert parameters(release) == 3_601_542


def test_follows_the_release_step_by_step():
    torch.manual_seed(0)
    network, (image, mask) = released_contextual_attention(1 / 8).eval(), make_inputs()
    with torch.no_grad():
        output = network(image, mask)
        ones, hole = torch.ones_like(mask), 1 - mask
        z = (2 * image - 1) * mask
        coarse = network.coarse.layers(torch.cat([z, ones, hole], 1))
        x = torch.cat([z * mask + coarse * hole, ones, hole], 1)
        parts = network.refinement
        features = parts.before_attention(x)
        attended = parts.attention(features, features, mask[..., ::4, ::4])
        both = torch.cat([parts.hallucinate(x), parts.after_attention(attended)], 1)
        assert_close(output.prediction, (parts.decode(both) + 1) / 2)
        assert_close(output.coarse, (coarse + 1) / 2)


def test_follows_the_paper_step_by_step():
    network, (image, mask) = small(), make_inputs()
    with torch.no_grad():
        output = network(image, mask)
        z = (2 * image - 1) * mask
        coarse = network.coarse.layers(torch.cat([z, mask], 1))
        x = torch.cat([z * mask + coarse * (1 - mask), mask], 1)
        parts = network.refinement
        features = parts.before_attention(x)
        attended = parts.attention(features, features, known_cells(mask, 4))
        both = torch.cat([parts.hallucinate(x), parts.after_attention(attended)], 1)
        assert_close(output.prediction, (parts.decode(both) + 1) / 2)
        assert_close(output.coarse, (coarse + 1) / 2)


def test_both_stages_get_gray_holes_and_mask():
    """The hole is 0 for the first stage, and the first stage's result for the second; 1 = known for both."""
    network, (image, mask), seen = small(), make_inputs(), {}
    for name in ("coarse", "refinement"):
        network.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: (*args, output)})
        )
    with torch.no_grad():
        network(image, mask)
    hole = (mask == 0).expand_as(image)
    first, second = seen["coarse"], seen["refinement"]
    assert (first[0][hole] == 0).all()
    assert_close(first[0][~hole], (2 * image - 1)[~hole])
    assert torch.equal(second[0][hole], first[2][hole])
    assert_close(second[0][~hole], (2 * image - 1)[~hole])
    assert torch.equal(first[1], mask)
    assert torch.equal(second[1], mask)


def test_attention_can_be_recorded():
    network, (image, mask) = small(), make_inputs()
    with torch.no_grad():
        without, output = network(image, mask), network(image, mask, maps=True)
    assert without.maps == {}
    (attention,) = output.maps.values()
    assert list(output.maps) == ["attention"]
    assert attention.shape == (2, 6 * 8, 6, 8)  # 48 x 64 pixels, of 8
    assert_close(attention.sum(1), torch.ones(2, 6, 8))
    assert attention_offsets(attention, (6, 8)).shape == (2, 2, 6, 8)


def test_cell_with_single_hole_pixel_is_unknown():
    network, (image, _), seen = small(), make_inputs(), []
    network.refinement.attention.register_forward_hook(lambda module, args, output: seen.append(args[2]))
    mask = torch.ones(2, 1, 48, 64)
    mask[0, 0, 7, 11] = 0
    with torch.no_grad():
        network(image, mask)
    expected = torch.ones(2, 1, 12, 16)
    expected[0, 0, 1, 2] = 0
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize("side", [0, 1], ids=["foreground", "background"])
def test_foreground_and_background_are_the_same_features_and_both_learn(side):
    class Pick(FeatureAttention):
        def forward(self, *given):
            return given[side]

    network, (image, mask) = small(refinement=two_branch(lambda channels: Pick())), make_inputs()
    network(image, mask).prediction.sum().backward()
    assert all((p.grad != 0).any() for p in network.refinement.before_attention.parameters())


def test_every_branch_and_stage_affects_prediction():
    image, mask = make_inputs()
    for part in ("coarse", "refinement.hallucinate", "refinement.before_attention", "refinement.after_attention"):
        network = small()
        with torch.no_grad():
            before = network(image, mask)
            for p in network.get_submodule(part).parameters():
                p.mul_(1.1).add_(0.01)
            after = network(image, mask)
        assert not torch.equal(before.prediction, after.prediction)
        assert torch.equal(before.coarse, after.coarse) is (part != "coarse")


def test_initial_outputs_vary_within_an_image():
    """PyTorch's default initialisation gives a single colour, up to 1e-5."""
    network, (image, mask) = small(), make_inputs()
    with torch.no_grad():
        output = network(nn.functional.avg_pool2d(image, 9, 1, 4), mask)
    assert output.coarse.std((2, 3)).min() > 1e-3
    assert output.prediction.std((2, 3)).min() > 1e-3
    assert all((p == 0).all() for name, p in network.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("known", [0.0, 1.0, None], ids=["all hole", "all known", "one of each"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_gradients_are_finite_and_reach_every_filter(known, half):
    network, (image, mask) = small().train(), make_inputs()
    mask = torch.stack([torch.zeros_like(mask[0]), mask[1]]) if known is None else torch.full_like(mask, known)
    image = torch.where(mask > 0, image, torch.nan).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        output = network(image, mask)
    composited = composite(image.detach().nan_to_num(), torch.zeros_like(mask), output)
    ((composited.float() - 0.3).square().mean() + (output.coarse.float() - 0.3).square().mean()).backward()
    assert output.prediction.isfinite().all()
    assert all(p.grad.isfinite().all() for p in (image, *network.parameters()))
    if known != 0:  # nothing to attend to otherwise
        assert all((p.grad != 0).any() for p in network.parameters())


def test_half_precision_is_close():
    network, (image, mask) = small(), make_inputs()
    with torch.no_grad():
        full = network(image, mask)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(image, mask)
    assert_close(half.prediction.float(), full.prediction, atol=0.02, rtol=0)
    assert_close(half.coarse.float(), full.coarse, atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [(48, 64), (50, 37), (9, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("build", [small, lambda: CoarseOnly(1 / 8), lambda: small(refinement=EncoderDecoder)])
def test_any_size(build, size):
    image, mask = make_inputs(*size)
    with torch.no_grad():
        output = build()(image, mask)
    for one in (output.prediction, output.coarse):
        assert one is None or (one.shape == image.shape and 0 <= one.min() <= one.max() <= 1)


def test_batch_equals_its_samples():
    network, (image, mask) = small(), make_inputs()
    with torch.no_grad():
        singles = [network(image[i : i + 1], mask[i : i + 1]).prediction for i in range(2)]
        assert_close(network(image, mask).prediction, torch.cat(singles), atol=1e-5, rtol=0)


# Overrides for each ablation, as listed in conf/model/contextual_attention.yaml.
HERE = "src.networks.contextual_attention"
PAPER_SCALE = ["scale.attention_downscale=2", "scale.dilations=[2,4,8,16]"]
ABLATIONS = {
    "baseline": [
        f"model.network.refinement._target_={HERE}.EncoderDecoder",
        "~model.network.refinement.attention",
    ],
    "coarse": [f"model.network._target_={HERE}.CoarseOnly", "~model.network.refinement"],
    "spatial_transformer": ["model/attention=spatial_transformer"],
    "appearance_flow": ["model/attention=appearance_flow"],
    "convolution": ["model/attention=convolution"],
    "full_resolution": ["scale.attention_downscale=1"],
    "no_propagation": ["+model.network.refinement.attention.reach=0"],
}
EXPECTED = {
    "baseline": lambda width: CoarseToFine(width, EncoderDecoder),
    "coarse": CoarseOnly,
    "spatial_transformer": lambda width: CoarseToFine(width, two_branch(spatial_transformer)),
    "appearance_flow": lambda width: CoarseToFine(width, two_branch(appearance_flow)),
    "convolution": lambda width: CoarseToFine(width, two_branch(Convolution)),
    "full_resolution": lambda width: CoarseToFine(width, two_branch(lambda c: ContextualAttention(c, downscale=1))),
    "no_propagation": lambda width: CoarseToFine(width, two_branch(lambda c: ContextualAttention(c, reach=0))),
}
MAPS = {"spatial_transformer": ["flow"], "appearance_flow": ["flow"], "full_resolution": ["attention"]}
MAPS |= {"no_propagation": ["attention"]}


def seeded(make):
    """Set weights by name, so that layers of equal names have equal weights in all networks."""
    network = make().eval()
    for name, p in network.named_parameters():
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        p.data = torch.randn(p.shape, generator=generator) * (p[0].numel() ** -0.5 if p.ndim > 1 else 0.05)
    return network


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_config_changes_only_named_part(name, composed):
    config = composed("model=contextual_attention", *PAPER_SCALE, *ABLATIONS[name])
    network, (image, mask) = seeded(lambda: instantiate(config.model.network)), make_inputs()
    full = seeded(lambda: CoarseToFine(1 / 8))
    with torch.no_grad():
        output, by_hand = network(image, mask, maps=True), seeded(lambda: EXPECTED[name](1 / 8))(image, mask)
        unchanged = full(image, mask)
    assert_close(output.prediction, by_hand.prediction)
    assert not torch.allclose(output.prediction, unchanged.prediction)
    assert list(output.maps) == MAPS.get(name, [])
    ours, its = ({key: tuple(p.shape) for key, p in n.named_parameters()} for n in (full, network))
    different = {key for key, shape in (ours.items() ^ its.items())}
    if name == "coarse":
        assert output.coarse is None
        assert_close(output.prediction, unchanged.coarse)
        assert all(key.startswith("refinement.") for key in different)
    else:
        assert_close(output.coarse, unchanged.coarse)
        swapped = "refinement." if name == "baseline" else "refinement.attention."
        assert all(key.startswith(swapped) for key in different)


@pytest.mark.parametrize("downscale", [1, 2])
def test_release_config_matches_released_network(composed, downscale):
    config = composed("model=contextual_attention_release", *PAPER_SCALE, f"scale.attention_downscale={downscale}")
    by_hand = seeded(
        lambda: released_contextual_attention(1 / 8, lambda c: ReleasedContextualAttention(c, downscale=downscale))
    )
    network, (image, mask) = seeded(lambda: instantiate(config.model.network)), make_inputs()
    with torch.no_grad():
        output = network(image, mask, maps=True)
        assert_close(output.prediction, by_hand(image, mask).prediction)
    assert list(output.maps) == ["attention"]
    assert network.state_dict().keys() == by_hand.state_dict().keys()
    paper = composed("model=contextual_attention")
    assert config.model.training == paper.model.training


RELEASED_ABLATIONS = {
    "convolution": ["model/attention=convolution"],
    "papers_attention": ["model/attention=contextual"],
    "baseline": [
        f"model.network.refinement._target_={HERE}.released_encoder_decoder",
        "~model.network.refinement.attention",
    ],
    "coarse": [f"model.network._target_={HERE}.CoarseOnly", "~model.network.refinement"],
}


@pytest.mark.parametrize("name", RELEASED_ABLATIONS)
def test_released_ablation_keeps_other_parts(name, composed):
    full = seeded(lambda: instantiate(composed("model=contextual_attention_release").model.network))
    config = composed("model=contextual_attention_release", *RELEASED_ABLATIONS[name])
    network, (image, mask) = seeded(lambda: instantiate(config.model.network)), make_inputs()
    first = [m.conv for m in network.modules() if isinstance(m, ConvBlock) and m.conv.kernel_size == (5, 5)]
    assert {conv.in_channels for conv in first} == {5}
    with torch.no_grad():
        output, unchanged = network(image, mask), full(image, mask)
    assert not torch.allclose(output.prediction, unchanged.prediction)
    assert_close(output.prediction if name == "coarse" else output.coarse, unchanged.coarse)


def test_configured_network_matches_the_paper(composed):
    config = composed("model=contextual_attention", "scale=paper")
    network = instantiate(config.model.network)
    assert parameters(network) == 3_765_158
    assert isinstance(network.refinement.attention, ContextualAttention)
    assert network.refinement.attention.downscale == 2
    assert network.refinement.attention.scores.scale == 50  # the paper has none; by the number of attended patches
    assert network.refinement.attention.scores.reach == 1
    assert config.model.batch_size == 16
    assert config.model.training.critic_steps == 5
    assert list(config.model.training.optimizer.betas) == [0.5, 0.9]
