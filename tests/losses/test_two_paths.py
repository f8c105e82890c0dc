"""PICNet's terms: l1 of both paths at several scales, and the divergences of its latent distributions."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.testing import assert_close

from src.losses.inputs import LossInput
from src.losses.two_paths import PosteriorKL, PriorKL, PyramidL1, forward_kl, in_known, reverse_kl
from src.networks.interface import InpaintingOutput


def make_inputs(**given) -> LossInput:
    """The prediction is off by 0.1, at half the size by 0.2; the reconstruction by 0.3; half of the image is hole."""
    truth, mask = torch.full((2, 3, 4, 8), 0.5), torch.ones(2, 1, 4, 8)
    mask[..., 4:] = 0
    parts = {"prediction_level_1": torch.full((2, 3, 2, 4), 0.7), "reconstruction": truth + 0.3}
    return LossInput(truth, mask, InpaintingOutput(truth + 0.1, parts=parts, **given))


def test_l1_of_a_path_sums_its_scales():
    inputs = make_inputs()
    assert_close(PyramidL1("prediction")(inputs), torch.tensor(0.1 + 0.2))
    assert_close(PyramidL1("prediction", in_known)(inputs), torch.tensor(0.05 + 0.1))
    assert_close(PyramidL1("reconstruction")(inputs), torch.tensor(0.3))


def kl(p: tuple[float, float], q: tuple[float, float]) -> float:
    """KL(p || q) of normal distributions with mean and standard deviation."""
    return math.log(q[1] / p[1]) + (p[1] ** 2 + (p[0] - q[0]) ** 2) / (2 * q[1] ** 2) - 0.5


def latents() -> dict[str, Normal]:
    values = {"posterior": (0.4, 0.5), "prior": (-0.2, 0.8)}
    return {
        name: Normal(*(torch.full((2, 3, 1, 2), value, requires_grad=True) for value in pair))
        for name, pair in values.items()
    }


def test_divergences_by_hand():
    inputs = make_inputs(latents=latents())
    smooth = 0.0, 1 / (1 + math.exp(-8 * (0.5 - 0.2)))
    posterior, prior = (0.4, 0.5), (-0.2, 0.8)
    assert PosteriorKL(forward_kl)(inputs).item() == pytest.approx(kl(posterior, smooth))
    assert PosteriorKL(reverse_kl)(inputs).item() == pytest.approx(kl(smooth, posterior))
    assert PriorKL()(inputs).item() == pytest.approx(kl(posterior, prior))


def test_the_prior_learns_from_the_posterior_alone():
    inputs = make_inputs(latents=latents())
    PriorKL()(inputs).backward()
    prior, posterior = (inputs.output.latents[name] for name in ("prior", "posterior"))
    assert (prior.mean.grad < 0).all()  # towards the posterior's
    assert posterior.mean.grad is None
