"""PICNet: samples by seed, the mean of the prior, and both paths of training."""

import pytest
import torch
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.classical import MeanColour
from src.networks.discriminators.residual import ResidualDiscriminator
from src.networks.picnet import PICNet
from tests.networks.test_interface import make_inputs


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PICNet(width=1 / 16, levels=3, infer_blocks=1).eval()


def test_a_sample_depends_on_its_image_mask_and_seed_alone(network):
    image, mask = make_inputs(count=3)
    with torch.no_grad():
        torch.manual_seed(1)
        batch = network(image, mask, seeds=[5, 6, 5]).prediction
        torch.manual_seed(2)
        singles = [network(image[i : i + 1], mask[i : i + 1], seeds=[s]).prediction for i, s in enumerate([5, 6, 5])]
        other = network(image, mask, seeds=[7, 7, 7]).prediction
    assert_close(batch, torch.cat(singles), atol=5e-5, rtol=0)  # a batch can be convolved in another order
    assert all((one - two).abs().max() > 1e-3 for one, two in zip(batch, other, strict=True))


def test_the_prediction_is_the_mean_of_the_prior(network, monkeypatch):
    image, mask = make_inputs()
    with torch.no_grad():
        prediction = network(image, mask).prediction
        monkeypatch.setattr(torch, "randn", lambda *size, **options: torch.zeros(*size))
        assert torch.equal(network(image, mask, seeds=[1, 2]).prediction, prediction)
        assert torch.equal(network.complete_both(image, mask).prediction, prediction)


def test_number_of_seeds_and_deterministic_methods():
    image, mask = make_inputs()
    with pytest.raises(InputError, match="MeanColour is deterministic and has no samples: call it without seeds"):
        MeanColour()(image, mask, seeds=[1, 2])
    with pytest.raises(ValueError, match="expected one seed for each of 2 images, got 3"):
        MeanColour()(image, mask, seeds=[1, 2, 3])


def test_only_the_posterior_sees_the_hole(network):
    image, mask = make_inputs()
    changed = torch.where(mask > 0, image, 1 - image)
    with torch.no_grad():
        torch.manual_seed(3)
        before = network.complete_both(image, mask)
        torch.manual_seed(3)
        after = network.complete_both(changed, mask)
    assert torch.equal(before.prediction, after.prediction)
    assert torch.equal(before.latents["prior"].mean, after.latents["prior"].mean)
    assert not torch.equal(before.latents["posterior"].mean, after.latents["posterior"].mean)
    assert not torch.equal(before.parts["reconstruction"], after.parts["reconstruction"])


def test_both_paths_train_every_filter():
    torch.manual_seed(0)
    network, (image, mask) = PICNet(width=1 / 16, levels=3, infer_blocks=1), make_inputs(50, 37)
    torch.nn.init.constant_(network.decoder.attention.attention.gamma, 0.5)
    output = network.complete_both(image, mask)
    assert output.prediction.shape == output.parts["reconstruction"].shape == image.shape
    losses = [part.square().mean() for part in (output.prediction, *output.parts.values())]
    torch.stack(losses).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize(
    ("levels", "size", "scores"), [(3, (64, 48), (6, 4)), (3, (17, 8), (1, 1)), (4, (48, 48), (1, 1))]
)
def test_discriminator_scores_parts_of_images(levels, size, scores):
    image = torch.rand(2, 3, *size)
    assert ResidualDiscriminator(1 / 16, levels)(image, image[:, :1]).shape == (2, 1, *scores)


def test_fewer_than_three_levels():
    with pytest.raises(ValueError, match="levels must be >= 3, got 2"):
        PICNet(levels=2)
