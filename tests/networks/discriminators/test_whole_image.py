import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.discriminators.whole_image import (
    ContextDiscriminator,
    CroppedLocalCritic,
    GlobalCritic,
    MaskedLocalCritic,
    TwoColumnDiscriminator,
)


def make_inputs(height=64, width=64):
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(3, 3, height, width, generator=generator), torch.ones(3, 1, height, width)
    mask[..., height // 4 : height // 2, width // 4 :] = 0
    return image, mask


def test_full_width_has_the_parameters_of_the_table():
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


def test_returns_one_probability_per_image():
    torch.manual_seed(0)
    scores = TwoColumnDiscriminator(64, width=1 / 8)(*make_inputs())
    assert scores.shape == (3,)
    assert ((scores > 0) & (scores < 1)).all()


def test_resizes_other_sizes_to_nearest():
    torch.manual_seed(0)
    critic, (image, mask) = TwoColumnDiscriminator(64, width=1 / 8).eval(), make_inputs(48, 80)
    resized = [F.interpolate(t, size=(64, 64), mode="nearest") for t in (image, mask)]
    assert_close(critic(image, mask), critic(*resized))


def test_columns_get_known_and_hole_pixels():
    torch.manual_seed(0)
    critic, (image, mask) = TwoColumnDiscriminator(64, width=1 / 8).eval(), make_inputs()
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
    critic, (image, mask) = TwoColumnDiscriminator(64, width=1 / 8), make_inputs()
    image.requires_grad_()
    critic(image, mask).log().sum().backward()
    assert (image.grad.abs().sum(1) > 0).float().mean() > 0.99
    assert all(p.grad.isfinite().all() for p in critic.parameters())
    # A bias before batch norm has no effect; the release has them nevertheless.
    silent = {n for n, p in critic.named_parameters() if p.grad.abs().max() < 1e-9}
    assert all(n.endswith("bias") for n in silent)


def test_gradient_penalty_can_be_differentiated():
    torch.manual_seed(0)
    critic, (image, mask) = TwoColumnDiscriminator(64, width=1 / 8), make_inputs()
    image.requires_grad_()
    (slope,) = torch.autograd.grad(critic(image, mask).sum(), image, create_graph=True)
    (slope.flatten(1).norm(dim=1) - 1).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in critic.parameters() if p.grad is not None)
    assert critic.known_column[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("size", [4, 96, 0])
def test_rejects_sizes_that_are_no_power_of_two(size):
    with pytest.raises(ValueError, match=f"size must be a power of two >= 8, got {size}"):
        TwoColumnDiscriminator(size)


@pytest.mark.parametrize(
    ("image", "mask"), [((3, 64, 64), (1, 64, 64)), ((2, 3, 64, 64), (2, 3, 64, 64)), ((2, 3, 64, 64), (2, 1, 64, 32))]
)
def test_rejects_wrong_shapes(image, mask):
    with pytest.raises(ValueError, match="image must be"):
        TwoColumnDiscriminator(64, width=1 / 8)(torch.rand(image), torch.ones(mask))


# Contextual attention's critics

CRITICS = (GlobalCritic, MaskedLocalCritic, CroppedLocalCritic)


def rectangles(*boxes):
    """Return a 64 x 64 image and a mask for each hole (top, left, bottom, right)."""
    image, mask = torch.rand(len(boxes), 3, 64, 64), torch.ones(len(boxes), 1, 64, 64)
    for sample, (top, left, bottom, right) in zip(mask, boxes, strict=True):
        sample[:, top:bottom, left:right] = 0.0
    return image, mask


def first_layer_input(critic, image, mask):
    """Return the input of the first convolution."""
    seen = []
    hook = critic.critic.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    critic(image, mask)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("make", "last", "side"),
    [(GlobalCritic, 256, 16), (MaskedLocalCritic, 512, 16), (CroppedLocalCritic, 512, 8)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_full_width_critics_have_parameters_of_appendix_d(make, last, side):
    convolutions = 25 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * last) + 64 + 128 + 256 + last
    fully_connected = last * side * side + 1  # 256, or a crop of 128, halved four times
    assert sum(p.numel() for p in make().parameters()) == convolutions + fully_connected


@pytest.mark.parametrize("make", CRITICS)
@pytest.mark.parametrize("size", [64, 50])
def test_critics_return_one_score_per_image_of_any_size(make, size):
    torch.manual_seed(0)
    critic = make(size, width=1 / 16)
    image, mask = torch.rand(3, 3, 48, 80), torch.ones(3, 1, 48, 80)
    mask[:, :, 10:20, 20:40] = 0.0
    scores = critic(image, mask)
    assert scores.shape == (3,)
    resized = [F.interpolate(t, size=(size, size), mode="nearest") for t in (image, mask)]
    assert_close(critic(*resized), scores)
    assert_close(torch.cat([critic(image[i : i + 1], mask[i : i + 1]) for i in range(3)]), scores)


def test_global_critic_uses_the_image_and_masked_critic_the_hole():
    image, mask = rectangles((3, 5, 20, 60), (40, 0, 64, 10))
    assert_close(first_layer_input(GlobalCritic(64, 1 / 16), image, mask), 2 * image - 1)
    assert_close(first_layer_input(MaskedLocalCritic(64, 1 / 16), image, mask), (2 * image - 1) * (1 - mask))


def test_cropped_critic_gets_window_around_each_hole():
    boxes = [(20, 12, 40, 40), (0, 50, 10, 64), (33, 2, 64, 33), (40, 40, 41, 41)]
    image, mask = rectangles(*boxes)
    seen = first_layer_input(CroppedLocalCritic(64, 1 / 16), image, mask)
    # centres (30, 26), (5, 57), (48.5, 17.5), (40.5, 40.5), minus half of 32, shifted to lie between 0 and 32
    corners = [(14, 10), (0, 32), (32, 1), (24, 24)]
    for window, one, (top, left) in zip(seen, image, corners, strict=True):
        assert_close(window, 2 * one[:, top : top + 32, left : left + 32] - 1)


def test_cropped_critic_accepts_no_hole_and_rejects_a_large_one():
    critic = CroppedLocalCritic(64, 1 / 16)
    image, mask = rectangles((0, 0, 0, 0), (16, 16, 48, 48))
    assert_close(first_layer_input(critic, image, mask)[0], 2 * image[0, :, :32, :32] - 1)
    for box in ((0, 0, 33, 5), (10, 20, 12, 60), (0, 0, 64, 64)):
        with pytest.raises(InputError, match=r"window of 32 px.*MaskedLocalCritic"):
            critic(*rectangles((16, 16, 48, 48), box))


@pytest.mark.parametrize("make", [MaskedLocalCritic, CroppedLocalCritic])
def test_local_critics_ignore_pixels_outside_their_input(make):
    torch.manual_seed(0)
    critic, (image, mask) = make(64, width=1 / 16), rectangles((20, 12, 40, 40))
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(image, mask).sum(), image)
    shown = torch.zeros(64, 64, dtype=torch.bool)
    shown[(slice(20, 40), slice(12, 40)) if make is MaskedLocalCritic else (slice(14, 46), slice(10, 42))] = True
    assert (gradient[..., ~shown] == 0).all()
    assert (gradient[..., shown] != 0).float().mean() > 0.99


@pytest.mark.parametrize("make", CRITICS)
def test_critics_penalties_can_be_differentiated(make):
    torch.manual_seed(0)
    critic, (image, mask) = make(64, width=1 / 16), rectangles((20, 12, 40, 40), (0, 50, 10, 64))
    image.requires_grad_()
    (slope,) = torch.autograd.grad(critic(image, mask).sum(), image, create_graph=True)
    (slope.flatten(1).norm(dim=1) - 1).square().mean().backward()
    weights = [p.grad for name, p in critic.named_parameters() if name.endswith("weight")]
    assert all(w.isfinite().all() and (w != 0).any() for w in weights)


@pytest.mark.parametrize("make", CRITICS)
def test_critics_reject_wrong_shapes(make):
    with pytest.raises(ValueError, match="image must be"):
        make(64, width=1 / 16)(torch.rand(2, 3, 64, 64), torch.ones(2, 3, 64, 64))
    with pytest.raises(ValueError, match="size must be >= 1"):
        make(0)


def test_context_discriminator_sees_a_window_around_each_hole():
    discriminator, image = ContextDiscriminator(size=32, width=1 / 16).eval(), torch.rand(3, 3, 32, 32)
    mask, seen = torch.ones(3, 1, 32, 32), []
    mask[0, :, 20:26, 2:6] = 0
    mask[1, :, 0:30, 18:24] = 0  # taller than the window
    discriminator.local.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert discriminator(image, mask).shape == (3,)
    windows = [(slice(15, 31), slice(0, 16)), (slice(8, 24), slice(13, 29)), (slice(0, 16), slice(0, 16))]
    expected = torch.stack([picture[:, rows, columns] for picture, (rows, columns) in zip(image, windows, strict=True)])
    assert torch.equal(seen[0], expected)


def test_context_discriminator_has_the_papers_layers_at_its_size():
    with torch.device("meta"):
        discriminator = ContextDiscriminator()
    inputs = [branch[-2].in_features for branch in (discriminator.whole, discriminator.local)]
    assert inputs == [512 * 4 * 4, 512 * 4 * 4]
    assert sum(p.numel() for p in discriminator.parameters()) == 45_063_681
