import math
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.distributions import Normal
from torch.testing import assert_close

from src.common.errors import InputError
from src.losses.adversarial import GradientPenalty, ScoreTerm, WassersteinGP, everywhere, in_hole
from src.losses.features import VGG16Features
from src.losses.inputs import LossInput
from src.losses.objectives import LeastSquares, NonSaturating
from src.losses.perceptual import Perceptual, Style, euclidean, root_mean_square
from src.losses.reconstruction import L1, HoleL1, ValidL1
from src.losses.structural import SSIM
from src.losses.weighted_sum import WeightedSum
from src.networks.interface import InpaintingOutput
from src.networks.pconv import IMAGENET_STD

CONF = Path(__file__).parents[2] / "conf"
CONFIGS = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))


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


def make_step(extent: tuple[int, int] = (12, 16)) -> tuple[Tensor, Tensor, InpaintingOutput]:
    torch.manual_seed(0)
    mask = torch.ones(2, 1, *extent)
    mask[..., :5] = 0.0
    return torch.rand(2, 3, *extent), mask, InpaintingOutput(torch.rand(2, 3, *extent, requires_grad=True))


def test_total_is_weighted_sum_of_unweighted_values():
    loss = WeightedSum({"l1": L1(), "hole": HoleL1()}, {"l1": 2.0, "hole": 6.0})
    inputs = loss.prepare(*make_step())
    total, values = loss(inputs)
    assert set(values) == {"l1", "hole"}
    assert_close(values["hole"], HoleL1()(inputs).detach())
    assert_close(total, 2 * L1()(inputs) + 6 * HoleL1()(inputs))
    assert total.requires_grad
    assert not any(value.requires_grad for value in values.values())


class Summed(nn.Module):
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image.flatten(1).sum(dim=1)


def ratios_of(terms: dict[str, nn.Module], weights: dict[str, float], **changed: object) -> dict[str, Tensor]:
    loss, (image, mask, output) = WeightedSum(terms, weights), make_step()
    output = replace(output, prediction=image.roll(1, dims=0).requires_grad_(), **changed)
    inputs = loss.prepare(image, mask, output)
    ratios = loss.gradient_ratios(inputs, loss.values(inputs))
    assert all(p.grad is None for p in (output.prediction, *loss.parameters()))
    return ratios


def test_gradient_ratios_by_hand():
    # of 2 x 3 x 12 x 16 values l1's mean has slopes of 1 / N, and the mean of two sums 1 / 2
    count = 2 * 3 * 12 * 16
    terms = {"l1": L1(), "adversarial": WassersteinGP(Summed()), "composed": WassersteinGP(Summed(), view="composite")}
    ratios = ratios_of(terms, {"l1": 4.0, "adversarial": 0.1, "composed": 0.3})
    expected = {"adversarial": 0.1 / 2 / (4.0 / count), "composed": 0.3 / 2 / (4.0 / count) * math.sqrt(5 / 16)}
    assert_close(ratios, {name: torch.tensor(value) for name, value in expected.items()}, rtol=1e-4, atol=0)


def test_no_gradient_ratio_without_critic_other_terms_or_gradient():
    critic = WassersteinGP(Summed())
    assert ratios_of({"l1": L1()}, {"l1": 1.0}) == {}
    assert ratios_of({"adversarial": critic}, {"adversarial": 1.0}) == {}
    loss = WeightedSum({"l1": L1(), "adversarial": critic}, {"l1": 1.0, "adversarial": 1.0})
    image, mask, output = make_step()
    inputs = loss.prepare(image, mask, replace(output, prediction=output.prediction.detach()))
    assert loss.gradient_ratios(inputs, loss.values(inputs)) == {}


def test_term_independent_of_prediction_has_no_gradient_ratio():
    class OfCoarse(WassersteinGP):
        def forward(self, inputs: LossInput) -> Tensor:
            return inputs.get_image("coarse").mean()

    terms, coarse = {"l1": L1(), "other": OfCoarse(Summed())}, torch.rand(2, 3, 12, 16, requires_grad=True)
    assert ratios_of(terms, {"l1": 1.0, "other": 1.0}, coarse=coarse) == {}


def test_extractor_runs_once_per_view_and_without_graph_for_truth():
    views = ("prediction", "composite")
    terms = {
        "perceptual": Perceptual(root_mean_square, torch.mean, views),
        "style": Style(euclidean, torch.mean, views),
    }
    loss = WeightedSum(terms, {"perceptual": 1.0, "style": 1.0}, Counting)
    loss(loss.prepare(*make_step()))
    assert loss.extractor.calls == 3
    assert loss.extractor.with_graph == 2


def test_disabled_terms_are_not_computed():
    built = []
    terms = {"l1": L1(), "style": None}
    loss = WeightedSum(terms, {"l1": 1.0, "style": 120.0}, lambda: built.append("extractor"))
    total, values = loss(loss.prepare(*make_step()))
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
        ({"l1": None}, {"l1": 1.0}, r"all loss\.terms are disabled"),
        ({"style": Style(euclidean, torch.mean, ("prediction",))}, {"style": 1.0}, r"style.*loss\.features"),
    ],
    ids=["no weight", "no term of that name", "zero", "nan", "all off", "no features"],
)
def test_rejects_terms_and_weights_that_do_not_match(terms, weights, message):
    with pytest.raises(InputError, match=message):
        WeightedSum(terms, weights)


def test_adversarial_terms_and_their_state_dict():
    extractor = partial(VGG16Features, "random", width=0.125)
    terms = {
        "adversarial": WassersteinGP(MeanScore()),
        "style": Style(euclidean, torch.mean, ("prediction",)),
    }
    loss = WeightedSum(terms, {"adversarial": 0.1, "style": 1.0}, extractor)
    assert list(loss.adversarial) == ["adversarial"]
    assert list(loss.state_dict()) == ["terms.adversarial.critic.scale"]  # and no VGG


def test_terms_without_features_are_disabled_with_warning(caplog):
    terms = {"l1": L1(), "style": Style(euclidean, torch.mean, ("prediction",))}
    loss = WeightedSum(terms, {"l1": 1.0, "style": 120.0}, features=lambda: None)
    assert list(loss.terms) == ["l1"]
    assert "style are disabled" in caplog.text
    with pytest.raises(InputError, match=r"all loss\.terms are disabled"):
        WeightedSum({"style": terms["style"]}, {"style": 1.0}, features=lambda: None)


def test_rejects_missing_extractor_and_unknown_view():
    inputs = LossInput(*make_step(), None)
    with pytest.raises(ValueError, match="extractor"):
        inputs.features("truth")
    with pytest.raises(ValueError, match=r"'composite', 'coarse', .*, got 'output'"):
        inputs.get_image("output")


@cache
def loss_config(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["scale=smoke", f"loss={name}", *overrides]).loss


def make_two_stage_step() -> tuple[Tensor, Tensor, InpaintingOutput, Tensor]:
    """Every possible output of a network; the hole fits a window of half the size."""
    image, mask, output = make_step((64, 64))
    edges = (torch.rand(2, 1, 64, 64) > 0.9).float()
    predicted = {name: torch.rand(2, c, 64, 64, requires_grad=True) for name, c in (("coarse", 3), ("edges", 1))}
    parts = {name: torch.rand(2, 3, 8, 8) for name in ("structure", "texture", "prediction_level_1")}
    parts |= {"reconstruction": torch.rand(2, 3, 64, 64), "reconstruction_level_1": torch.rand(2, 3, 32, 32)}
    latents = {name: Normal(torch.rand(2, 4, 4, 4), 0.1 + torch.rand(2, 4, 4, 4)) for name in ("prior", "posterior")}
    return image, mask, replace(output, parts=parts, latents=latents, **predicted), edges


PARTS = ("prediction", "coarse", "edges")
PREDICTED = {  # by the prefix of a loss's name; other losses use only the prediction
    "contextual_attention": ("prediction", "coarse"),
    "mpga_gla": ("prediction", "coarse"),
    "edge_lbam": ("prediction", "edges"),
    "edge_connect": ("prediction", "edges"),
    "mecnet": ("edges",),
    "deepfill_v2_plus": ("prediction", "coarse", "edges"),
    "deepfill_v2": ("prediction", "coarse"),
}


STYLED = (
    "lbam",
    "dfnet",
    "edge_connect",
    "medfe",
    "pconv",
    "edge_lbam",
    "contextual_attention_perceptual",
)  # and their releases


@pytest.mark.parametrize("name", CONFIGS)
def test_every_loss_config_has_gradients_for_all_predictions(name):
    config = loss_config(name)
    assert ("style" in config.terms) == (name.removesuffix("_release").removesuffix("_printed") in STYLED)
    loss = instantiate(config)
    image, mask, output, edges = make_two_stage_step()
    if name == "contextual_attention_rectangles":
        mask = torch.ones_like(mask)
        mask[..., 8:40, 20:50] = 0.0
    inputs = loss.prepare(image, mask, output, edges)
    total, values = loss(inputs)
    total.backward()
    on = [term for term, given in config.terms.items() if given is not None]
    assert_close(total.detach(), sum(config.weights[term] * values[term] for term in on))
    names = next((parts for family, parts in PREDICTED.items() if name.startswith(family)), ("prediction",))
    predicted = [getattr(output, part) for part in names]
    for part in predicted:
        assert part.grad.isfinite().all()
        assert (part.grad[mask.expand_as(part) == 0] != 0).any()
    assert all(getattr(output, part).grad is None for part in PARTS if part not in names)
    gradients = [part.grad.clone() for part in predicted]
    for term in loss.adversarial.values():
        critic_loss, _ = term.critic_loss(inputs)
        critic_loss.backward()
        assert any((p.grad != 0).any() for p in term.critic.parameters())
    assert_close([part.grad for part in predicted], gradients)  # the critic's step adds no gradient for the generator


LBAMS = {"l1": 1, "perceptual": 0.05, "style": 120}  # Eq. 18 and the line below it
MECNETS = {"edges": 1, "auxiliary": 200}  # Eq. 9; the cross entropy of small scales is not in the paper
PRINTED = {
    "lbam": {**LBAMS, "adversarial": 0.001},  # balanced by gradients; printed is 0.1
    "lbam_printed": {**LBAMS, "adversarial": 0.1},
    "lbam_release": {"hole": 6, "valid": 1, "perceptual": 0.01, "style": 120, "adversarial": 0.001},
    "pconv": {"valid": 1, "hole": 6, "perceptual": 0.05, "style": 120, "total_variation": 0.1},  # Eq. 7
    "edge_lbam": {**LBAMS, "adversarial": 0.001, **MECNETS},  # Eqs. 21 and 9
    "edge_lbam_printed": {**LBAMS, "adversarial": 0.1, **MECNETS},
    "mpga_gla": {"l1": 1.5, "ssim": 0.25, "coarse_l1": 1.5, "coarse_ssim": 0.25, "adversarial": 0.01},  # Eq. 13
    "mpga_gla_printed": {
        "l1": 1.5,
        "ssim": 0.25,
        "coarse_l1": 1.5,
        "coarse_ssim": 0.25,
        "adversarial": 1,
    },  # and Eq. 19
    "contextual_attention": {"l1": 1.2, "coarse_l1": 1.44, "adversarial_global": 0.001, "adversarial_local": 0.001},
}


@pytest.mark.parametrize(("name", "weights"), PRINTED.items())
def test_weights_match_papers(name, weights):
    assert instantiate(loss_config(name)).weights == weights


@pytest.mark.parametrize("name", ["lbam", "edge_lbam"])
def test_printed_lbam_loss_differs_in_adversarial_weight_and_style_norm(name):
    default, printed = (
        OmegaConf.to_container(loss_config(f"{name}{suffix}"), resolve=True) for suffix in ("", "_printed")
    )
    assert [config["weights"].pop("adversarial") for config in (default, printed)] == [0.001, 0.1]
    assert [config["terms"]["style"]["norm"].pop("path").split(".")[-1] for config in (default, printed)] == [
        "absolute_sum",
        "euclidean",
    ]
    assert default == printed


def test_adversarial_gradient_is_smaller_than_l1s():
    """A critic of slope 1, the target of the penalty, against l1, whose gradient is 1 / sqrt(3 H W) per image."""
    weights = instantiate(loss_config("lbam")).weights
    for side in (64, 256):
        prediction = torch.rand(1, 3, side, side, requires_grad=True)
        L1()(
            LossInput(torch.zeros(1, 3, side, side), torch.zeros(1, 1, side, side), InpaintingOutput(prediction))
        ).backward()
        assert 0.05 < weights["adversarial"] / (weights["l1"] * prediction.grad.norm().item()) < 0.5


@pytest.mark.parametrize("name", STYLED)
def test_null_disables_term(name):
    loss = instantiate(loss_config(name, "loss.terms.style=null", "loss.terms.perceptual=null"))
    assert loss.extractor is None
    image, mask, output, edges = make_two_stage_step()
    assert not {"style", "perceptual"} & set(loss(loss.prepare(image, mask, output, edges))[1])


def test_contextual_attention_penalises_hole_only():
    for term in instantiate(loss_config("contextual_attention")).adversarial.values():
        assert term.penalty == GradientPenalty(weight=10.0, part=in_hole)
        assert term.view == "composite"


def test_released_contextual_attention_loss_differs_in_discount_penalty_and_local_critic():
    paper, release = (instantiate(loss_config(f"contextual_attention{name}")) for name in ("", "_release"))
    assert release.weights == paper.weights
    assert [release.terms[name].gamma for name in ("l1", "coarse_l1")] == [0.9, 0.9]
    for term in release.adversarial.values():
        assert term.penalty == GradientPenalty(weight=10.0, part=everywhere)
        assert term.view == "composite"
    ours, theirs = (loss.adversarial["adversarial_local"].critic for loss in (paper, release))
    assert type(ours) is type(theirs)
    channels = [
        [conv.out_channels for conv in critic.modules() if isinstance(conv, nn.Conv2d)] for critic in (ours, theirs)
    ]
    assert channels == [[8, 16, 32, 64], [8, 16, 32, 32]]


def test_rectangle_loss_differs_only_in_local_critic():
    ours, any_mask = (OmegaConf.to_container(loss_config(name)) for name in
                      ("contextual_attention_rectangles", "contextual_attention"))  # fmt: skip
    assert ours["terms"]["adversarial_local"]["critic"].pop("_target_").endswith("CroppedLocalCritic")
    assert any_mask["terms"]["adversarial_local"]["critic"].pop("_target_").endswith("MaskedLocalCritic")
    assert ours == any_mask


@pytest.mark.parametrize("objective", [NonSaturating, LeastSquares])
def test_dcgan_and_lsgan_configs_replace_wgan_gp(objective):
    overrides = [
        override
        for critic in ("adversarial_global", "adversarial_local")
        for override in (
            f"loss.terms.{critic}.objectives.gan._target_=src.losses.objectives.{objective.__name__}",
            f"loss.terms.{critic}.penalty=null",
        )
    ]
    for term in instantiate(loss_config("contextual_attention", *overrides)).adversarial.values():
        assert term.penalty is None
        assert [type(objective) for objective in term.objectives.values()] == [objective]


def test_gamma_1_disables_discount_and_over_all_the_window():
    off = [f"loss.terms.{term}.gamma=1" for term in ("l1", "coarse_l1")]
    letter = [f"loss.terms.{term}.average.path=src.losses.reconstruction.over_all" for term in ("l1", "coarse_l1")]
    config = loss_config("contextual_attention", *off, *letter)
    inputs = LossInput(*make_two_stage_step()[:3])
    terms = instantiate(config).terms
    assert_close(terms["l1"](inputs), L1()(inputs))
    assert_close(terms["coarse_l1"](inputs), L1("coarse")(inputs))


def test_ablations_of_mpga_gla():
    reconstruction = instantiate(loss_config("mpga_gla", "loss.terms.adversarial=null"))
    assert list(reconstruction.terms) == ["l1", "ssim", "coarse_l1", "coarse_ssim"]
    without = instantiate(loss_config("mpga_gla", "loss.terms.adversarial.objectives.lorentzian=null"))
    assert list(without.adversarial["adversarial"].objectives) == ["hinge"]
    shares = instantiate(loss_config("mpga_gla", "loss.weights.l1=0.5", "loss.weights.ssim=0.1")).weights
    assert shares == {"l1": 0.5, "ssim": 0.1, "coarse_l1": 0.5, "coarse_ssim": 0.1, "adversarial": 0.01}


def test_printed_mpga_gla_loss_differs_in_dropout():
    default, printed = (instantiate(loss_config(name)) for name in ("mpga_gla", "mpga_gla_printed"))
    assert printed.weights == {"l1": 1.5, "ssim": 0.25, "coarse_l1": 1.5, "coarse_ssim": 0.25, "adversarial": 1}
    dropouts = [
        [layer.p for layer in loss.adversarial["adversarial"].critic.modules() if isinstance(layer, nn.Dropout)]
        for loss in (default, printed)
    ]
    assert dropouts == [[], [0.5]]


def test_released_mpga_gla_loss_uses_composites_except_in_l1():
    release = instantiate(loss_config("mpga_gla_release"))
    assert {name: (type(term), term.view) for name, term in release.terms.items()} == {
        "l1": (ValidL1, "prediction"),
        "ssim": (SSIM, "composite"),
        "coarse_l1": (ValidL1, "coarse"),
        "coarse_ssim": (SSIM, "coarse_composite"),
        "adversarial": (ScoreTerm, "composite"),
    }
    assert release.adversarial["adversarial"].objectives["hinge"].scale == 0.5
    critic = release.adversarial["adversarial"].critic
    assert {conv.dilation for conv in critic.modules() if isinstance(conv, nn.Conv2d)} == {(1, 1)}
    assert not any(isinstance(layer, nn.Dropout) for layer in critic.modules())


def test_released_pconv_loss_compares_normalised_images():
    paper, other = (instantiate(loss_config(name)).weights for name in ("pconv", "pconv_release"))
    per_unit = sum(1 / std for std in IMAGENET_STD) / 3
    assert {name: other[name] / paper[name] for name in paper} == pytest.approx(
        {"valid": per_unit, "hole": per_unit, "perceptual": 1, "style": 1, "total_variation": per_unit}, rel=1e-3
    )
