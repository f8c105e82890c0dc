from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from src.networks.layers.global_attention import ConvolutionInstead, GlobalAttention, multiply_hole_keys
from src.networks.layers.global_local_attention import GlobalLocalAttention, ReleasedGlobalLocalAttention
from src.networks.mpga_gla import MPGAGLA, PrintedInputs, convolution_instead, released_mpga_gla
from src.networks.reference import literal_form

printed_mpga_gla = partial(
    MPGAGLA,
    coarse_attention=partial(GlobalAttention, prune=multiply_hole_keys),
    refinement_attention=partial(GlobalLocalAttention, scale=1.0, prune=multiply_hole_keys),
    inputs=PrintedInputs,
)
MADE = {"default": MPGAGLA, "printed": printed_mpga_gla, "release": released_mpga_gla}
ALL = pytest.mark.parametrize("make", MADE.values(), ids=MADE)
SMALL = 1 / 16
CONF = Path(__file__).parents[2] / "conf"


def make_inputs(count=2):
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(count, 3, 24, 32, generator=generator), torch.ones(count, 1, 24, 32)
    mask[0, :, 4:16, 8:20] = 0
    mask[1:, :, :11, 20:] = 0
    return image * mask, mask


def build(make=MPGAGLA, **parts) -> MPGAGLA:
    torch.manual_seed(0)
    return make(width=SMALL, **parts).eval()


def configured(*overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=["scale=smoke", *overrides]).model


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def conv(i: int, o: int, side: int = 3) -> int:
    return side**2 * i * o + o


# Tables A1 and A2, each convolution with its bias.
REGULAR = conv(4, 32, 5) + conv(32, 32) + conv(32, 64) + conv(64, 64) + conv(64, 128) + 5 * conv(128, 128)
ATTENTION = conv(4, 32, 5) + conv(32, 32) + conv(32, 64) + conv(64, 128) + conv(128, 128) + 2 * conv(128, 128)
SIXTH = conv(128, 128)  # before the module: in the text, not in the tables
DECODER = conv(256, 128) + conv(128, 128) + conv(128, 64) + conv(64, 64) + conv(64, 32) + conv(32, 16) + conv(16, 3)
STAGE = REGULAR + ATTENTION + SIXTH + DECODER
PROJECTIONS = 3 * conv(128, 128, 1)
DISCRIMINATOR = conv(3, 64, 5) + conv(64, 128, 5) + conv(128, 256, 5) + 2 * conv(256, 256, 5) + conv(256, 1, 1)


def test_full_width_has_the_parameters_of_the_table():
    assert parameters(MPGAGLA()) == 2 * STAGE + 2 * PROJECTIONS == 4_402_502
    five_channels = 4 * 32 * 5**2  # two branches in two stages
    assert parameters(released_mpga_gla()) == 2 * STAGE + 3 * PROJECTIONS + five_channels == 4_455_238


def test_parameters_match_printed_8_71_million():
    """Table 4, including the discriminator; no other reading of the tables rounds to it."""
    readings = {
        (convolutions, projections): 2 * (STAGE - (6 - convolutions) * SIXTH) + projections * PROJECTIONS
        for convolutions in (5, 6)
        for projections in (2, 3)
    }
    in_millions = {reading: f"{(count + DISCRIMINATOR) / 1e6:.2f}" for reading, count in readings.items()}
    assert in_millions == {(5, 2): "8.41", (5, 3): "8.46", (6, 2): "8.71", (6, 3): "8.76"}


@pytest.mark.parametrize(
    ("make", "activate", "last"),
    [(MPGAGLA, partial(F.leaky_relu, negative_slope=0.2), partial(F.leaky_relu, negative_slope=0.2)),
     (printed_mpga_gla, partial(F.leaky_relu, negative_slope=0.2), partial(F.leaky_relu, negative_slope=0.2)),
     (released_mpga_gla, F.elu, F.relu)],
)  # fmt: skip
def test_follows_the_tables_step_by_step(make, activate, last):
    """Compute Tables A1 and A2 with zero padding from the state dict."""
    network, (image, mask) = build(make), make_inputs()
    weights, attention = network.state_dict(), {"coarse": network.coarse, "refinement": network.refinement}

    def convolve(x, name, stride=1, dilation=1, activate=activate):
        weight, bias = weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"]
        return activate(F.conv2d(x, weight, bias, stride, dilation * (weight.shape[-1] // 2), dilation))

    def stage(x, name):
        regular, branch = x, x
        for i, stride in enumerate((1, 2, 1, 2, 1, 1)):
            regular = convolve(regular, f"{name}.regular.{i}", stride)
            branch = convolve(branch, f"{name}.before_attention.{i}", stride, activate=last if i == 5 else activate)
        for i, rate in enumerate((2, 4, 8, 16)):
            regular = convolve(regular, f"{name}.regular.6.{i}", dilation=rate)
        branch = attention[name].attention(branch, mask)
        for i in (0, 1):
            branch = convolve(branch, f"{name}.after_attention.{i}")
        x = torch.cat([regular, branch], 1)
        for i in (0, 1):
            x = convolve(x, f"{name}.decoder.{i}")
        x = F.interpolate(x, scale_factor=2)
        for i in (3, 4):
            x = convolve(x, f"{name}.decoder.{i}")
        x = F.interpolate(x, scale_factor=2)
        for i in (6, 7):
            x = convolve(x, f"{name}.decoder.{i}")
        return convolve(x, f"{name}.decoder.8", activate=nn.Identity()).clamp(-1, 1)

    with torch.no_grad():
        output = network(image, mask)
        signed = (2 * image - 1) * mask
        extra = [torch.ones_like(mask), 1 - mask] if make is released_mpga_gla else [mask]
        coarse = stage(torch.cat([signed, *extra], 1), "coarse")
        seen = coarse if make is printed_mpga_gla else torch.where(mask > 0, signed, coarse)
        refined = stage(torch.cat([seen, *extra], 1), "refinement")
    assert_close(output.coarse, (coarse + 1) / 2, atol=1e-5, rtol=0)
    assert_close(output.prediction, (refined + 1) / 2, atol=1e-5, rtol=0)


def test_modules_are_in_the_order_of_the_tables():
    network = build()
    assert isinstance(network.coarse.attention, GlobalAttention)
    assert isinstance(network.refinement.attention, GlobalLocalAttention)
    assert network.refinement.attention.dilation == 2
    assert isinstance(build(released_mpga_gla).refinement.attention, ReleasedGlobalLocalAttention)


@ALL
def test_maps_are_the_scores(make):
    network, (image, mask) = build(make), make_inputs()
    with torch.no_grad():
        maps = network(image, mask, maps=True).maps
    assert {name: tuple(m.shape) for name, m in maps.items()} == dict.fromkeys(
        ("coarse_global", "refinement_global", "refinement_local"), (2, 48, 6, 8)
    )
    assert_close(maps["coarse_global"].sum((2, 3)), torch.ones(2, 48))


@ALL
def test_hole_pixels_are_never_read(make):
    network, (image, mask) = build(make), make_inputs()
    poisoned = torch.where(mask > 0, image, torch.nan).requires_grad_()
    output = network(poisoned, mask)
    with torch.no_grad():
        assert torch.equal(output.prediction, network(image, mask).prediction)
    (output.prediction.square().mean() + output.coarse.square().mean()).backward()
    assert all(p.grad.isfinite().all() for p in (poisoned, *network.parameters()))


@pytest.mark.parametrize(("make", "same"), [(MPGAGLA, False), (printed_mpga_gla, True)])
def test_printed_refinement_gets_known_pixels_only_from_the_coarse_estimate(make, same):
    network, (image, mask) = build(make), make_inputs()
    other = torch.where(mask > 0, image.flip(1), image)
    with torch.no_grad():
        network.coarse.decoder[-2].conv.weight.zero_()
        before, after = network(image, mask), network(other, mask)
    assert torch.equal(before.coarse, after.coarse)
    assert torch.equal(before.prediction, after.prediction) == same


def test_refinement_does_not_see_the_coarse_estimate_of_known_pixels():
    network, (image, mask) = build(), make_inputs()
    seen = []
    network.refinement.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        coarse = network(image, mask).coarse
    assert_close(seen[0][:, :3], 2 * torch.where(mask > 0, image, coarse) - 1)
    assert torch.equal(seen[0][:, 3:], mask)


@ALL
def test_batch_equals_its_images_one_by_one(make):
    network, (image, mask) = build(make), make_inputs(3)
    with torch.no_grad():
        batch = network(image, mask)
        singles = [network(image[i : i + 1], mask[i : i + 1]) for i in range(3)]
    assert_close(batch.prediction, torch.cat([s.prediction for s in singles]), atol=1e-5, rtol=0)
    assert_close(batch.coarse, torch.cat([s.coarse for s in singles]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("known", [0.0, 1.0, None], ids=["all hole", "all known", "some known"])
@ALL
def test_bfloat16_is_close_to_float32_with_finite_gradients(make, known):
    network, (image, mask) = build(make).train(), make_inputs()
    mask = mask if known is None else torch.full_like(mask, known)
    expected = network(image, mask)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(image, mask)
    assert_close(output.coarse.float(), expected.coarse, atol=0.01, rtol=0)
    assert_close(output.prediction.float(), expected.prediction, atol=0.01, rtol=0)
    (output.prediction.float() - 0.3).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_every_filter_has_gradient():
    network, (image, mask) = build(), make_inputs()
    output = network(image, mask)
    ((output.prediction - image).abs().mean() + (output.coarse - image).abs().mean()).backward()
    assert [name for name, p in network.named_parameters() if not (p.grad != 0).any()] == []


@ALL
def test_initial_network_preserves_differences_between_images(make):
    """With PyTorch's default, the estimates of two images differ by 1e-7 and 1e-8, or 1e-5 and 1e-6 with ELU."""
    network, (image, mask) = build(make), make_inputs()
    with torch.no_grad():
        first, second = network(image, mask), network(image.flip(-1) * mask, mask)
    assert (first.coarse - second.coarse).std() > 5e-3
    assert (first.prediction - second.prediction).std() > 1e-4
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("conv.bias"))


def losses_gradients(network, image, mask, **options):
    output = network(image, mask, **options)
    loss = (output.prediction - 0.3).square().mean() + (output.coarse - 0.3).square().mean()
    return output.prediction, torch.autograd.grad(loss, list(network.parameters()))


@ALL
def test_fast_network_matches_the_literal_form(make):
    network, (image, mask) = build(make), make_inputs(3)
    prediction, gradients = losses_gradients(network, image, mask)
    expected, expected_gradients = losses_gradients(literal_form(network), image, mask)
    assert_close(prediction, expected, atol=1e-5, rtol=0)
    assert_close(gradients, expected_gradients, atol=1e-6, rtol=1e-3)


def test_sizes_are_padded_to_the_two_downsamplings():
    network, (image, mask) = build(), make_inputs()
    small = [t[..., :22, :29] for t in (image, mask)]
    by_hand = [F.pad(t, (0, 3, 0, 2), mode="replicate") for t in small]
    with torch.no_grad():
        assert torch.equal(network(*small).prediction, network(*by_hand).prediction[..., :22, :29])


# --- configuration ---

CONVOLUTION = "src.networks.mpga_gla.convolution_instead"


def leaves(node, path=""):
    if not isinstance(node, dict):
        return {path: node}
    return {key: v for name, child in node.items() for key, v in leaves(child, f"{path}.{name}").items()}


def test_config_matches_paper():
    network = instantiate(configured("model=mpga_gla", "scale=paper").network)
    assert str(network) == str(MPGAGLA())


def test_release_config_overrides_only_differences():
    paper, release = configured("model=mpga_gla"), configured("model=mpga_gla_release")
    before, after = (leaves(dict_of(node)) for node in (paper, release))
    assert before.keys() == after.keys()
    assert {key for key in before if before[key] != after[key]} == {
        ".name", ".network._target_", ".network.coarse_attention._target_", ".network.refinement_attention._target_",
    }  # fmt: skip
    assert str(instantiate(release.network)) == str(released_mpga_gla(width=0.125, dilations=(1, 2, 4, 8)))


def test_printed_config_overrides_only_differences():
    default, printed = configured("model=mpga_gla"), configured("model=mpga_gla_printed")
    before, after = (leaves(dict_of(node)) for node in (default, printed))
    assert before.keys() < after.keys()
    assert {key for key in after if after[key] != before.get(key)} == {
        ".name", ".network.inputs._target_", ".network.inputs._partial_", ".network.refinement_attention.scale",
        ".network.coarse_attention.prune._target_", ".network.coarse_attention.prune.path",
        ".network.refinement_attention.prune._target_", ".network.refinement_attention.prune.path",
    }  # fmt: skip
    network = instantiate(printed.network)
    assert str(network) == str(printed_mpga_gla(width=0.125, dilations=printed.network.dilations))
    assert isinstance(network.inputs, PrintedInputs)
    whole, patches = network.refinement.attention.whole, network.refinement.attention.within_patch
    assert {attention.prune for attention in (network.coarse.attention.scores, whole.scores, patches)} == {
        multiply_hole_keys
    }
    assert network.refinement.attention.scores.scale == 1


def dict_of(node):
    return OmegaConf.to_container(node, resolve=False)


@pytest.mark.parametrize(("stage", "other"), [("coarse", "refinement"), ("refinement", "coarse")])
def test_ablations_replace_one_module_by_a_convolution(stage, other):
    full = configured("model=mpga_gla")
    ablated = configured("model=mpga_gla", f"model.network.{stage}_attention._target_={CONVOLUTION}")
    before, after = (leaves(dict_of(node)) for node in (full, ablated))
    assert {key for key in before if before[key] != after[key]} == {f".network.{stage}_attention._target_"}
    with_module, without = instantiate(full.network), instantiate(ablated.network)
    replaced = getattr(without, stage).attention
    assert isinstance(replaced, ConvolutionInstead)
    assert replaced.convolve.activation.negative_slope == 0.2
    assert str(getattr(without, other)) == str(getattr(with_module, other))
    getattr(with_module, stage).attention = replaced
    assert str(with_module) == str(without)
    assert set(without.map_layers()) == {name for name in build().map_layers() if name.startswith(other)}
    image, mask = make_inputs()
    assert without(image, mask, maps=True).prediction.isfinite().all()


def test_both_modules_can_be_replaced():
    network, (image, mask) = (
        build(coarse_attention=convolution_instead, refinement_attention=convolution_instead),
        make_inputs(),
    )
    assert network.map_layers() == {}
    assert network(image, mask, maps=True).maps == {}
    full = MPGAGLA(coarse_attention=convolution_instead, refinement_attention=convolution_instead)
    assert parameters(full) == 2 * (STAGE + conv(128, 128))
