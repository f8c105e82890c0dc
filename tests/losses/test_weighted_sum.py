import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.testing import assert_close

from src.errors import InputError
from src.losses.adversarial import AdversarialTerm, WassersteinGP
from src.losses.features import VGG16Features
from src.losses.inputs import LossInput
from src.losses.perceptual import Perceptual, Style, euclidean, root_mean_square
from src.losses.reconstruction import L1, HoleL1
from src.losses.weighted_sum import WeightedSum
from src.networks.interface import InpaintingOutput

CONF = Path(__file__).parents[2] / "conf" / "loss"
CONFIGS = sorted(path.stem for path in CONF.glob("*.yaml"))


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls, self.with_graph, self.gain = 0, 0, nn.Parameter(torch.tensor(2.0))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        features = self.gain * image
        self.with_graph += features.requires_grad
        return (features,)


class MeanScore(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.scale * image.mean(dim=(1, 2, 3))


def a_step(extent: tuple[int, int] = (12, 16)) -> tuple[Tensor, Tensor, InpaintingOutput]:
    torch.manual_seed(0)
    mask = torch.ones(2, 1, *extent)
    mask[..., :5] = 0.0
    return torch.rand(2, 3, *extent), mask, InpaintingOutput(torch.rand(2, 3, *extent, requires_grad=True))


def test_total_is_the_weighted_sum_and_values_are_not_weighted():
    loss = WeightedSum({"l1": L1(), "hole": HoleL1()}, {"l1": 2.0, "hole": 6.0})
    inputs = loss.prepare(*a_step())
    total, values = loss(inputs)
    assert set(values) == {"l1", "hole"}
    assert_close(values["hole"], HoleL1()(inputs).detach())
    assert_close(total, 2 * L1()(inputs) + 6 * HoleL1()(inputs))
    assert total.requires_grad
    assert not any(value.requires_grad for value in values.values())


def test_each_view_goes_through_the_extractor_once_and_the_truth_without_a_graph():
    views = ("prediction", "composite")
    terms = {
        "perceptual": Perceptual(root_mean_square, torch.mean, views),
        "style": Style(euclidean, torch.mean, views),
    }
    loss = WeightedSum(terms, {"perceptual": 1.0, "style": 1.0}, Counting)
    loss(loss.prepare(*a_step()))
    assert loss.extractor.calls == 3
    assert loss.extractor.with_graph == 2


def test_terms_that_are_off_are_not_computed():
    built = []
    terms = {"l1": L1(), "style": None}
    loss = WeightedSum(terms, {"l1": 1.0, "style": 120.0}, lambda: built.append("extractor"))
    total, values = loss(loss.prepare(*a_step()))
    assert built == []
    assert set(values) == {"l1"}
    assert_close(total.detach(), values["l1"])


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        ({"l1": L1(), "hole": HoleL1()}, {"l1": 1.0}, r"loss\.weights\.hole"),
        ({"l1": L1()}, {"l1": 1.0, "stlye": 120.0}, "stlye"),
        ({"l1": L1()}, {"l1": 0.0}, r"loss\.terms\.l1=null"),
        ({"l1": L1()}, {"l1": float("nan")}, r"loss\.weights\.l1 must be above 0"),
        ({"l1": None}, {"l1": 1.0}, "no term"),
        ({"style": Style(euclidean, torch.mean, ("prediction",))}, {"style": 1.0}, r"style.*loss\.features"),
    ],
    ids=["no weight", "no term of that name", "zero", "nan", "all off", "no features"],
)
def test_what_does_not_fit_is_refused_by_name(terms, weights, message):
    with pytest.raises(InputError, match=message):
        WeightedSum(terms, weights)


def test_adversarial_terms_by_name_and_their_critics_in_the_checkpoint():
    extractor = partial(VGG16Features, "random", width=0.125)
    terms = {
        "adversarial": WassersteinGP(MeanScore()),
        "style": Style(euclidean, torch.mean, ("prediction",)),
    }
    loss = WeightedSum(terms, {"adversarial": 0.1, "style": 1.0}, extractor)
    assert list(loss.adversarial) == ["adversarial"]
    assert list(loss.state_dict()) == ["terms.adversarial.critic.scale"]  # and no VGG


def test_without_features_their_terms_are_off_and_named(caplog):
    terms = {"l1": L1(), "style": Style(euclidean, torch.mean, ("prediction",))}
    loss = WeightedSum(terms, {"l1": 1.0, "style": 120.0}, features=lambda: None)
    assert list(loss.terms) == ["l1"]
    assert "style are off" in caplog.text
    with pytest.raises(InputError, match="no term that is on"):
        WeightedSum({"style": terms["style"]}, {"style": 1.0}, features=lambda: None)


def test_features_need_an_extractor_and_a_known_view():
    inputs = LossInput(*a_step(), None)
    with pytest.raises(ValueError, match="extractor"):
        inputs.features("truth")
    with pytest.raises(ValueError, match="prediction or composite, got 'output'"):
        inputs.picture("output")


def loss_config(name: str, *overrides: str) -> DictConfig:
    scale = {"features_weights": "random", "features_width": 0.125, "image_size": 64, "width": 0.125}
    config = OmegaConf.create({"scale": scale, "loss": OmegaConf.load(CONF / f"{name}.yaml")})
    return OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides))).loss


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_makes_a_loss_whose_gradient_reaches_the_prediction(name):
    config = loss_config(name)
    loss = instantiate(config)
    image, mask, output = a_step((48, 64))
    total, values = loss(loss.prepare(image, mask, output))
    total.backward()
    assert_close(total.detach(), sum(config.weights[term] * values[term] for term in config.terms))
    assert output.prediction.grad.isfinite().all()
    assert (output.prediction.grad[mask.expand_as(image) == 0] != 0).any()
    assert all(isinstance(term, AdversarialTerm) for term in loss.adversarial.values())


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("lbam", {"l1": 1, "adversarial": 0.1, "perceptual": 0.05, "style": 120}),  # Eq. 18 and the line below it
        ("pconv", {"valid": 1, "hole": 6, "perceptual": 0.05, "style": 120, "total_variation": 0.1}),  # Eq. 7
    ],
)
def test_weights_are_the_papers(name, weights):
    assert instantiate(loss_config(name)).weights == weights


@pytest.mark.parametrize("name", CONFIGS)
def test_a_term_is_turned_off_by_null(name):
    loss = instantiate(loss_config(name, "loss.terms.style=null", "loss.terms.perceptual=null"))
    assert loss.extractor is None
    assert not {"style", "perceptual"} & set(loss(loss.prepare(*a_step((48, 64))))[1])


def test_losses_import_torch_alone():
    script = (
        "import sys, torch, src\n"  # what the package itself loads is not the losses' doing
        "before = set(sys.modules)\n"
        "import src.losses.weighted_sum, src.losses.features, src.losses.perceptual, src.losses.reconstruction\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(roots - {'torch', 'src'} - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
