import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.testing import assert_close

from src.networks.layers.residual_block import ResidualBlock
from src.networks.mecnet import MECNet

SMALL = {"width": 1 / 16, "blocks": 2}
VARIANTS = {"default": {}, "S": {"scales": 1}, "ML": {"supervised_scales": 4}}


def build(variant="default", **numbers):
    torch.manual_seed(0)
    network = MECNet(**SMALL, **VARIANTS[variant], **numbers)
    for layer in network.modules():  # initial filters are small
        if getattr(layer, "bias", None) is not None:
            nn.init.normal_(layer.bias, std=0.3)
    return network


def make_inputs(height=64, width=64):
    generator = torch.Generator().manual_seed(1)
    gray = torch.rand(2, 1, height, width, generator=generator)
    edges = (torch.rand(2, 1, height, width, generator=generator) > 0.8).float()
    mask = torch.ones(2, 1, height, width)
    mask[0, ..., height // 4 : height // 2, 10:50] = 0
    mask[1, ..., : height // 3, :] = 0
    return gray, edges, mask


def test_parameters_by_hand():
    """EdgeConnect's layers, its body once, and a deconvolution for each step between the scales."""
    encoder = 49 * 3 * 64 + 64 + 16 * 64 * 128 + 128 + 16 * 128 * 256 + 256
    body = 8 * 2 * 9 * 256 * 256  # no biases; instance norms have no parameters
    between = 16 * 256 * 256 + 256 + 2 * (16 * 512 * 256 + 256)

    def decoder(channels):
        return 16 * channels * 128 + 128 + 16 * 128 * 64 + 64 + 49 * 64 + 1

    def count(**variant):
        return sum(p.numel() for p in MECNet(**variant).parameters())

    default = encoder + body + between + decoder(512)
    assert count() == default == 16_529_025
    assert count(scales=1) == encoder + body + decoder(256) == 10_761_089  # MECNet(S)
    assert count(supervised_scales=4) == default + decoder(256) + 2 * decoder(512) == 19_553_668  # MECNet(ML)


def slow_conv(x, conv, pad, **how):
    """EdgeConnect's block: reflection padding, convolution and instance norm."""
    return slow_norm(F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), conv.weight, conv.bias, **how))


def slow_norm(x):
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    return centred / (centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5).sqrt()


def slow_deconv(x, deconv):
    return slow_norm(F.conv_transpose2d(x, deconv.weight, deconv.bias, stride=2, padding=1)).relu()


def slow_mecnet(network, gray, edges, mask):
    """Sec. 3.3 for four scales, one after the other."""
    hole = 1 - mask
    x = torch.cat([gray * mask + hole, edges * mask, hole], 1)
    encoder, decoder = network.encoder, network.decoders[-1]
    x = slow_conv(x, encoder[1], 3).relu()
    for place in (4, 7):
        conv = encoder[place]
        x = slow_norm(F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)).relu()

    def body(x):
        for block in network.body:
            y = slow_conv(x, block.layers[1], 2, dilation=2).relu()
            x = x + slow_conv(y, block.layers[5], 1)
        return x

    def shrunk(factor):
        height, width = x.shape[-2:]
        return x.view(2, -1, height // factor, factor, width // factor, factor).mean(dim=(3, 5))

    h = body(shrunk(8))
    for factor, upsample in zip((4, 2, 1), network.upsamples, strict=True):
        h = torch.cat([body(shrunk(factor)), slow_deconv(h, upsample[0])], 1)
    h = slow_deconv(slow_deconv(h, decoder[0]), decoder[3])
    last = decoder[7]
    return 1 / (1 + torch.exp(-F.conv2d(F.pad(h, (3,) * 4, mode="reflect"), last.weight, last.bias)))


def test_follows_the_paper_step_by_step():
    network, inputs = build().eval(), make_inputs(128, 192)  # 4 x 6 at the coarsest scale: plain reflection needs 3
    with torch.no_grad():
        assert_close(network(*inputs)[0], slow_mecnet(network, *inputs), atol=1e-5, rtol=1e-5)


def test_filters_have_spectral_norm_1_except_between_scales_and_in_the_last_layer():
    network = build("ML").train()
    for _ in range(30):
        for layer in network.modules():
            if parametrize.is_parametrized(layer):
                _ = layer.weight  # a step of the power iteration
    network.eval()
    free = {f"upsamples.{i}.0" for i in range(3)} | {f"decoders.{i}.7" for i in range(4)}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert parametrize.is_parametrized(layer) is (name not in free)
            if name not in free:
                weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
                assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_each_call_steps_the_power_iteration_once_though_the_body_runs_on_four_scales():
    network, inputs = build().train(), make_inputs()
    conv = network.body[0].layers[1]
    original = conv.parametrizations.weight.original.detach().flatten(1)
    u, v = (getattr(conv.parametrizations.weight[0], name).clone() for name in ("_u", "_v"))
    network(*inputs)
    u = F.normalize(original @ v, dim=0)
    v = F.normalize(original.T @ u, dim=0)
    assert_close(conv.parametrizations.weight[0]._u, u)
    assert_close(conv.parametrizations.weight[0]._v, v)


def test_filters_are_normalised_in_float32_under_autocast():
    network, seen = build().train(), []
    for layer in network.modules():
        if parametrize.is_parametrized(layer):
            layer.parametrizations.weight[0].register_forward_hook(
                lambda module, args, output: seen.append((torch.is_autocast_enabled("cpu"), output.dtype))
            )
    with torch.autocast("cpu", torch.bfloat16):
        network(*make_inputs())
    assert seen == [(False, torch.float32)] * 9  # 3 of the encoder, 4 of two blocks, 2 of the decoder, once each


def test_every_scale_uses_the_same_blocks():
    seen, network = [], build().eval()
    network.body[0].register_forward_hook(lambda module, args, output: seen.append(tuple(args[0].shape[-2:])))
    network(*make_inputs(64, 128))
    assert seen == [(2, 4), (4, 8), (8, 16), (16, 32)]  # 1/8, 1/4, 1/2 and 1 of the finest, which is 1/4 of the image


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_predict_at_the_scales_they_name(variant):
    network, inputs = build(variant).eval(), make_inputs(64, 128)
    edges, pyramid = network(*inputs)
    assert edges.shape == (2, 1, 64, 128)
    assert [tuple(p.shape) for p in pyramid] == (
        [(2, 1, 8, 16), (2, 1, 16, 32), (2, 1, 32, 64)] if variant == "ML" else []
    )
    assert all(p.min() >= 0 and p.max() <= 1 for p in (edges, *pyramid))


def test_ml_differs_from_the_default_only_in_coarser_decoders():
    plain, supervised, inputs = build().eval(), build("ML").eval(), make_inputs()
    state = {key.replace("decoders.3.", "decoders.0."): v for key, v in supervised.state_dict().items()
             if not key.startswith(("decoders.0.", "decoders.1.", "decoders.2."))}  # fmt: skip
    plain.load_state_dict(state)
    assert torch.equal(plain(*inputs)[0], supervised(*inputs)[0])


def test_s_has_no_coarser_branch():
    assert set(build("S").state_dict()) == {key for key in build().state_dict() if not key.startswith("upsamples")}


@pytest.mark.parametrize("part", ["upsamples.0.0", "upsamples.2.0", "body.1.layers.5.parametrizations.weight"])
def test_every_branch_affects_edges(part):
    network, inputs = build().eval(), make_inputs()
    with torch.no_grad():
        before = network(*inputs)[0]
        layer = network.get_submodule(part)
        (layer.original if "weight" in part else layer.weight).normal_()
        assert not torch.allclose(before, network(*inputs)[0], atol=1e-4)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
def test_hole_pixels_are_never_read(poison):
    network, (gray, edges, mask) = build("ML").eval(), make_inputs()
    poisoned = [torch.where(mask > 0, t, poison) for t in (gray, edges)]
    expected, pyramid = network(gray, edges, mask)
    found, found_pyramid = network(*poisoned, mask)
    assert torch.equal(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(found_pyramid, pyramid, strict=True))
    assert not torch.equal(expected, network(gray, edges, torch.ones_like(mask))[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_equals_its_images_one_by_one(variant):
    network, inputs = build(variant).eval(), make_inputs()
    singles = [network(*(t[i : i + 1] for t in inputs))[0] for i in range(2)]
    assert_close(network(*inputs)[0], torch.cat(singles), atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("known", [None, 0.0, 1.0], ids=["some known", "all hole", "all known"])
def test_gradients_are_finite_and_reach_every_weight(known, training):
    network, (gray, edges, mask) = build("ML").train(training), make_inputs()
    mask = mask if known is None else torch.full_like(mask, known)
    for inputs in ((gray, edges, mask), (torch.zeros_like(gray), torch.zeros_like(edges), mask)):
        network.zero_grad()
        found, pyramid = network(*inputs)
        sum((p - 0.3).square().mean() for p in (found, *pyramid)).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        if known is None:
            # A bias before an instance norm has no effect, nor have 2 x 2 features after a norm.
            weights = {name: p.grad for name, p in network.named_parameters() if not name.endswith("bias")}
            assert [name for name, grad in weights.items() if not grad.any()] == []


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_half_precision_stays_finite_and_near(training):
    network, inputs = build("ML").train(training), make_inputs()
    state = {key: v.clone() for key, v in network.state_dict().items()}
    with torch.autocast("cpu", torch.bfloat16):
        rough, pyramid = network(*inputs)
    assert rough.dtype == torch.float32
    assert all(p.isfinite().all() for p in (rough, *pyramid))
    sum(p.float().sum() for p in (rough, *pyramid)).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    network.load_state_dict(state)
    assert (rough - network(*inputs)[0]).abs().mean() < 0.05


def test_state_dict_restores_power_iteration():
    """Two steps equal one step, a reload and another step, including the estimates of the spectral norms."""

    def steps(network, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            network(*make_inputs())[0].square().mean().backward()
            optimiser.step()

    def fresh(seed):
        torch.manual_seed(seed)
        network = MECNet(**SMALL).train()
        return network, torch.optim.Adam(network.parameters(), lr=1e-2)

    straight, resumed = fresh(0), fresh(0)
    steps(*straight, 2)
    steps(*resumed, 1)
    states = [part.state_dict() for part in resumed]
    other = fresh(1)
    for part, state in zip(other, states, strict=True):
        part.load_state_dict(state)
    steps(*other, 1)
    for key, value in straight[0].state_dict().items():
        assert torch.equal(value, other[0].state_dict()[key]), key


def test_small_features_are_reflected_repeatedly():
    block = ResidualBlock(4, start=nn.Identity()).eval()
    assert block(torch.rand(1, 4, 2, 3)).shape == (1, 4, 2, 3)


def test_rejects_invalid_numbers():
    with pytest.raises(ValueError, match="scales must be >= 1, got 0"):
        MECNet(scales=0)
    with pytest.raises(ValueError, match=r"supervised_scales must be between 1 and scales=2, got 3"):
        MECNet(scales=2, supervised_scales=3)
    with pytest.raises(ValueError, match=r"multiples of 64, got \(48, 64\)"):
        build()(*make_inputs(48, 64))
