from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from src.networks.discriminators.patches import FeatureVolumeDiscriminator, PatchDiscriminator, SampleDropout

NARROW = 1 / 16


def make_released(width: float = 1.0) -> FeatureVolumeDiscriminator:
    return FeatureVolumeDiscriminator(width, dilation=1)


def rows_in_receptive_field(score: torch.Tensor, image: torch.Tensor) -> tuple[int, int]:
    """Return the first and last row of the image that a score depends on."""
    (gradient,) = torch.autograd.grad(score, image)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    return int(rows[0]), int(rows[-1])


def test_parameters_of_table_a3():  # weights and biases of five 5x5 convolutions
    expected = 25 * (3 * 64 + 64 * 128 + 128 * 256 + 2 * 256 * 256) + 64 + 128 + 3 * 256
    for discriminator in (FeatureVolumeDiscriminator(), make_released()):
        assert sum(p.numel() for p in discriminator.parameters()) == expected


def test_parameters_of_the_patch_discriminator():  # 4x4, no biases; one channel of edges, three of colour
    expected = 16 * (4 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 1)
    assert sum(p.numel() for p in PatchDiscriminator().parameters()) == expected


@pytest.mark.parametrize(("make", "field"), [(FeatureVolumeDiscriminator, 249), (make_released, 125)])
def test_receptive_field_covers_the_image_with_dilation(make, field):
    torch.manual_seed(0)
    discriminator, image = make(NARROW).eval().double(), torch.rand(1, 3, 256, 16).double().requires_grad_()
    volume = discriminator(image, image[:, :1])
    first, last = rows_in_receptive_field(volume[0, :, 4].sum(), image)
    assert last - first + 1 == field
    assert first + last == 2 * 128  # five halvings put the fourth feature at row 4 * 32


def test_receptive_field_of_a_patch_is_70():
    torch.manual_seed(0)
    discriminator, image = PatchDiscriminator(width=NARROW).eval().double(), torch.rand(1, 3, 160, 48).double()
    edges = torch.rand(1, 1, 160, 48).double().requires_grad_()
    scores = discriminator(edges, image)[-1]
    first, last = rows_in_receptive_field(scores[0, 0, scores.shape[2] // 2].sum(), edges)
    assert last - first + 1 == 70


@pytest.mark.parametrize("extent", [(64, 64), (48, 64), (70, 33)])
@pytest.mark.parametrize("make", [FeatureVolumeDiscriminator, make_released])
def test_volume_shape_and_batch_of_singles(make, extent):
    torch.manual_seed(0)
    discriminator, image = make(NARROW).eval(), torch.rand(3, 3, *extent)
    volume = discriminator(image, image[:, :1])
    assert volume.shape == (3, 16, -(-extent[0] // 32), -(-extent[1] // 32))
    assert_close(torch.cat([discriminator(one[None], one[None, :1]) for one in image]), volume)


def test_layers_of_the_patch_discriminator():
    layers = PatchDiscriminator(width=1 / 8)(torch.rand(2, 1, 48, 64), torch.rand(2, 3, 48, 64))
    assert [tuple(layer.shape[1:]) for layer in layers] == [
        (8, 24, 32), (16, 12, 16), (32, 6, 8), (64, 5, 7), (1, 4, 6),
    ]  # fmt: skip
    smallest = PatchDiscriminator(width=1 / 8)(torch.rand(2, 1, 24, 24), torch.rand(2, 3, 24, 24))
    assert smallest[-1].shape == (2, 1, 1, 1)


def test_features_are_activated_and_scores_are_not():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(width=NARROW).eval()
    edges, image = torch.rand(2, 1, 48, 64), torch.rand(2, 3, 48, 64)
    before = torch.cat([edges, image], dim=1)
    for layer, stride, features in zip(discriminator.layers, (2, 2, 2, 1, 1), discriminator(edges, image), strict=True):
        expected = F.conv2d(before, layer[0].weight, stride=stride, padding=1)
        before = expected if features.shape[1] == 1 else F.leaky_relu(expected, 0.2)
        assert_close(features, before)
    assert (before < 0).any()


def test_every_convolution_is_spectrally_normalised():
    torch.manual_seed(0)
    for discriminator in (FeatureVolumeDiscriminator(NARROW), PatchDiscriminator(width=NARROW)):
        convolutions = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
        assert len(convolutions) == 5
        with torch.no_grad():
            for conv in convolutions:
                conv.parametrizations.weight.original.mul_(100)
                for _ in range(200):  # each training call is one step of the power iteration
                    weight = conv.weight
                assert_close(torch.linalg.matrix_norm(weight.flatten(1), 2), torch.tensor(1.0), atol=1e-2, rtol=0)


def test_printed_dropout_is_before_last_convolution_and_off_in_eval():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 64)
    discriminator = FeatureVolumeDiscriminator(1.0, dropout=partial(SampleDropout, 0.5))
    assert not torch.equal(discriminator(image, image[:, :1]), discriminator(image, image[:, :1]))
    seen = {}
    last = discriminator.features[-2]
    last.register_forward_pre_hook(lambda module, args: seen.update(share=(args[0] == 0).float().mean().item()))
    volume = discriminator(image, image[:, :1])
    assert 0.4 < seen["share"] < 0.6
    assert (volume != 0).all()
    discriminator.eval()
    assert torch.equal(discriminator(image, image[:, :1]), discriminator(image, image[:, :1]))


@pytest.mark.parametrize("make", [FeatureVolumeDiscriminator, make_released])
def test_without_dropout_equal_images_have_equal_scores(make):
    """With dropout, the Lorentzian term would penalise every pair, even of equal images."""
    torch.manual_seed(0)
    discriminator, image = make(NARROW).train(), torch.rand(2, 3, 64, 64)
    discriminator(image, image[:, :1])  # a call updates the estimate of the spectral norm
    with torch.no_grad():
        for layer in discriminator.modules():
            layer.training = isinstance(layer, nn.Dropout)
        assert torch.equal(discriminator(image, image[:, :1]), discriminator(image, image[:, :1]))
    assert not [layer for layer in discriminator.modules() if isinstance(layer, nn.Dropout)]


def test_images_are_scaled_to_minus_one_to_one():
    discriminator, seen = make_released(NARROW), []
    discriminator.features.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = torch.rand(1, 3, 64, 64)
    discriminator(image, image[:, :1])
    assert_close(seen[0], 2 * image - 1)


def test_rejects_wrong_shapes():
    with pytest.raises(ValueError, match=r"image must be \(B, 3, H, W\)"):
        FeatureVolumeDiscriminator(NARROW)(torch.rand(2, 1, 64, 64), torch.rand(2, 1, 64, 64))
    for edges in ((2, 1, 48, 48), (1, 1, 48, 64), (2, 3, 48, 64)):
        with pytest.raises(ValueError, match="edges must be"):
            PatchDiscriminator(width=NARROW)(torch.rand(edges), torch.rand(2, 3, 48, 64))
