import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from src.networks.discriminators import TwoColumnDiscriminator


def pictures(height=64, width=64):
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(3, 3, height, width, generator=generator), torch.ones(3, 1, height, width)
    mask[..., height // 4 : height // 2, width // 4 :] = 0
    return image, mask


def test_full_width_has_the_tables_parameters():
    # Supplement Table 1, filters 4x4 with biases, per column; then 4x4 on both columns' 512 channels.
    column = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 2 * 512 * 512) + 64 + 128 + 256 + 3 * 512
    norm = 2 * (128 + 256 + 3 * 512)
    expected = 2 * (column + norm) + 16 * 1024 + 1
    assert sum(p.numel() for p in TwoColumnDiscriminator().parameters()) == expected


@pytest.mark.parametrize(("size", "layers"), [(256, 6), (64, 4), (8, 1)])
def test_columns_end_at_4x4(size, layers):
    critic = TwoColumnDiscriminator(size, width=1 / 8)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in critic.known_column) == layers
    assert critic.hole_column(torch.rand(2, 3, size, size)).shape[-2:] == (4, 4)


def test_scores_are_one_probability_an_image():
    torch.manual_seed(0)
    scores = TwoColumnDiscriminator(64, width=1 / 8)(*pictures())
    assert scores.shape == (3,)
    assert ((scores > 0) & (scores < 1)).all()


def test_other_sizes_are_resized_nearest():
    torch.manual_seed(0)
    critic, (image, mask) = TwoColumnDiscriminator(64, width=1 / 8).eval(), pictures(48, 80)
    resized = [F.interpolate(t, size=(64, 64), mode="nearest") for t in (image, mask)]
    assert_close(critic(image, mask), critic(*resized))


def test_each_column_sees_its_own_pixels():
    torch.manual_seed(0)
    critic, (image, mask) = TwoColumnDiscriminator(64, width=1 / 8).eval(), pictures()
    seen = {}
    for name in ("known_column", "hole_column"):
        critic.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen.__setitem__(name, args[0])
        )
    critic(image, mask)
    assert torch.equal(seen["known_column"], image * mask)
    assert torch.equal(seen["hole_column"], image * (1 - mask))


def test_gradient_reaches_every_pixel_and_every_parameter():
    torch.manual_seed(0)
    critic, (image, mask) = TwoColumnDiscriminator(64, width=1 / 8), pictures()
    image.requires_grad_()
    critic(image, mask).log().sum().backward()
    assert (image.grad.abs().sum(1) > 0).float().mean() > 0.99
    assert all(p.grad.isfinite().all() for p in critic.parameters())
    # A bias in front of a batch norm is subtracted again; the release has them nonetheless.
    silent = {n for n, p in critic.named_parameters() if p.grad.abs().max() < 1e-9}
    assert all(n.endswith("bias") for n in silent)


def test_gradient_penalty_can_be_differentiated():
    torch.manual_seed(0)
    critic, (image, mask) = TwoColumnDiscriminator(64, width=1 / 8), pictures()
    image.requires_grad_()
    (slope,) = torch.autograd.grad(critic(image, mask).sum(), image, create_graph=True)
    (slope.flatten(1).norm(dim=1) - 1).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in critic.parameters() if p.grad is not None)
    assert critic.known_column[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("size", [4, 96, 0])
def test_sizes_that_do_not_halve_to_4_are_refused(size):
    with pytest.raises(ValueError, match=f"size must be a power of two and at least 8, got {size}"):
        TwoColumnDiscriminator(size)


@pytest.mark.parametrize(
    ("image", "mask"), [((3, 64, 64), (1, 64, 64)), ((2, 3, 64, 64), (2, 3, 64, 64)), ((2, 3, 64, 64), (2, 1, 64, 32))]
)
def test_wrong_shapes_are_refused(image, mask):
    with pytest.raises(ValueError, match="image must be"):
        TwoColumnDiscriminator(64, width=1 / 8)(torch.rand(image), torch.ones(mask))
