"""Gradients are finite at the extremes of the formulas: no hole, all hole, constant images, equal images."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from src.losses.adversarial import GradientPenalty, ScoreTerm, gradient_penalty, in_hole
from src.losses.inputs import LossInput
from src.losses.objectives import LeastSquares, Lorentzian, NonSaturating, RelativisticAverageHinge, Wasserstein
from src.losses.perceptual import (
    absolute_sum,
    euclidean,
    gram,
    mean_absolute,
    mean_square,
    root_mean_square,
    squared_sum,
)
from src.losses.structural import SSIM
from src.networks.interface import InpaintingOutput
from src.networks.layers.attention_map import (
    AsymmetricGaussian,
    ClampedAsymmetricGaussian,
    Reciprocal,
    power_relu,
)
from src.networks.layers.contextual_attention import ContextualAttention
from src.networks.layers.global_attention import GlobalAttention
from src.networks.layers.global_local_attention import GlobalLocalAttention, ReleasedGlobalLocalAttention
from src.networks.layers.released_contextual_attention import ReleasedContextualAttention
from src.networks.layers.warping import AffineFlow, ConvFlow, Convolution, Warping
from src.training.procedures.alternating import filling

CONF = Path(__file__).parents[1] / "conf"
TRAINED = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if "classical" not in path.read_text())
LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
ATTENTIONS = sorted(path.stem for path in (CONF / "model" / "attention").glob("*.yaml"))
MAPS = {
    "unlearned": ["model/maps@model.network.forward_maps=unlearned", "model/maps@model.network.reverse_maps=unlearned"],
    "unlearned 3x3, forward alone": [
        "model/maps@model.network.forward_maps=unlearned_3x3", "model/maps@model.network.reverse_maps=none",
    ],
}  # fmt: skip


def extreme_batches(size: int = 32) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return batches of two images and masks with constant values, by which layers divide or whose root they take."""
    generator = torch.Generator().manual_seed(0)
    noise, flat = torch.rand(2, 3, size, size, generator=generator), torch.ones(2, 3, size, size)
    hole, known = torch.zeros(2, 1, size, size), torch.ones(2, 1, size, size)
    point = hole.clone()
    point[..., size // 2, size // 3] = 1
    return {
        "black, all hole": (0 * flat, hole),
        "black, all known": (0 * flat, known),
        "white, one pixel known": (flat, point),
        "noise, one all hole and one all known": (noise, torch.cat([hole[:1], known[:1]])),
    }


def assert_finite_gradients(module, named):
    bad = [name for name, p in module.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    assert bad == [], named


def run_backward_passes(module, image, mask):
    """Run the backward passes of one step for all stages and critics; return how many parameters have a gradient."""
    edges = torch.zeros_like(mask)
    batch = {"image": image, "mask": mask, "edges": edges, "known_edges": edges}
    stages = getattr(module, "stages", None)
    complete = getattr(module, "complete", filling)
    plans = [(partial(s.forward, module.network), module.terms_of(s)) for s in stages.values()] if stages else [
        (partial(complete, module.network), None)
    ]  # fmt: skip
    for forward, terms in plans:
        inputs = module.loss.prepare(image, mask, forward(batch), edges if stages else None)
        total, values = module.loss(inputs, terms)
        losses = [
            total,
            *(term.critic_loss(inputs)[0] for name, term in module.loss.adversarial.items() if name in values),
        ]
        assert all(loss.isfinite() for loss in losses), values
        for loss in losses:
            loss.backward(retain_graph=True)
    return sum(p.grad is not None for p in module.parameters())


VARIANTS = {
    **{model: [f"model={model}"] for model in TRAINED},
    **{
        f"contextual attention, {name}": ["model=contextual_attention", f"model/attention={name}"]
        for name in ATTENTIONS
    },
    **{f"lbam, {name}": ["model=lbam", *overrides] for name, overrides in MAPS.items()},
    "mecnet, the paper's loss": ["model=mecnet_release", "loss=mecnet"],
    "contextual attention, perceptual terms": ["model=contextual_attention", "loss=contextual_attention_perceptual"],
    "contextual attention, rectangles": ["model=contextual_attention", "loss=contextual_attention_rectangles"],
}


def test_covers_every_configured_loss():
    named = {word.removeprefix("loss=") for overrides in VARIANTS.values() for word in overrides}
    assert set(LOSSES) <= {*TRAINED, *named}


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_step_is_finite_at_extremes(composed, variant):
    cfg = composed(*VARIANTS[variant])
    torch.manual_seed(0)
    module = instantiate(cfg.model.training)(network=instantiate(cfg.model.network), loss=instantiate(cfg.loss))
    module.train()
    for name, (image, mask) in extreme_batches().items():
        if "rectangles" in variant and name != "black, all known":
            continue  # its local critic rejects larger holes
        module.zero_grad()
        assert run_backward_passes(module, image, mask) > 0
        assert_finite_gradients(module, f"{variant}: {name}")


CRITICS = [
    ("lbam", "adversarial"),
    ("contextual_attention", "adversarial_global"),
    ("contextual_attention", "adversarial_local"),
]


@pytest.mark.parametrize(("model", "critic"), CRITICS)
@pytest.mark.parametrize("value", [0.0, 1e-20, 1e18])
def test_gradient_penalty_is_finite_for_flat_and_steep_critics(composed, model, critic, value):
    term = instantiate(composed(f"model={model}").loss.terms[critic])
    last = [module for module in term.critic.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    nn.init.constant_(last.weight, value)
    for name, (image, mask) in extreme_batches().items():
        for part in (in_hole, lambda slope, mask: slope):
            penalty = gradient_penalty(term.critic, image, image.flip(0), mask, part)
            gradients = torch.autograd.grad(penalty, list(term.critic.parameters()), allow_unused=True)
            assert penalty.isfinite(), name
            assert all(g is None or g.isfinite().all() for g in gradients), name
            if value == 0:
                assert penalty == 1


SMALLEST = torch.finfo(torch.float32).tiny
MAPS_OF_A_NUMBER = {
    "g_M": power_relu,
    "g_M, alpha 0.5": partial(power_relu, alpha=0.5),
    "g_M, alpha 1": partial(power_relu, alpha=1.0),
    "g_A": AsymmetricGaussian(),
    "g_A, clamped": ClampedAsymmetricGaussian(),
    "g_A, narrow": AsymmetricGaussian(gamma_l=1e4),
}


@pytest.mark.parametrize("name", MAPS_OF_A_NUMBER)
def test_lbam_maps_are_finite_everywhere(name):
    function = MAPS_OF_A_NUMBER[name]
    at = torch.tensor(
        [0.0, -0.0, SMALLEST, -SMALLEST, 1e-45, 2.0, 2 - 1e-7, 1.0, -1.0, 1e10, -1e10], requires_grad=True
    )
    (gradient,) = torch.autograd.grad(function(at).sum(), at)
    assert gradient.isfinite().all()
    if name.startswith("g_M"):
        assert (gradient[:2] == 0).all()  # holes are zero, where the slope of the power is infinite
    if isinstance(function, nn.Module):
        function.zero_grad()
        function(at.detach()).sum().backward()
        assert_finite_gradients(function, name)


def test_reciprocal_is_finite_for_empty_windows():
    at = torch.tensor([0.0, -0.0, 1 / 16, 1.0], requires_grad=True)
    values = Reciprocal()(at)
    (gradient,) = torch.autograd.grad(values.sum(), at)
    assert values.tolist() == [0, 0, 16, 1]
    assert gradient.tolist() == [0, 0, -256, -1]


@pytest.mark.parametrize(
    "norm",
    [root_mean_square, mean_absolute, euclidean, absolute_sum, mean_square, squared_sum],
    ids=lambda f: f.__name__,
)
def test_norms_are_finite_for_equal_features_and_zero_gram_matrices(norm):
    features = torch.zeros(2, 3, 4, 5, requires_grad=True)
    for difference in (features - torch.zeros(2, 3, 4, 5), gram(features) - gram(torch.zeros(2, 3, 4, 5))):
        (gradient,) = torch.autograd.grad(norm(difference).sum(), features)
        assert (gradient == 0).all()


@pytest.mark.parametrize(("ours", "truth"), [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.5, 0.5 + 1e-7)])
def test_ssim_is_finite_for_constant_images(ours, truth):
    prediction = torch.full((2, 3, 16, 20), ours, requires_grad=True)
    output = InpaintingOutput(prediction)
    loss = SSIM()(LossInput(torch.full((2, 3, 16, 20), truth), torch.ones(2, 1, 16, 20), output))
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    "objective",
    [Wasserstein(), NonSaturating(), LeastSquares(), RelativisticAverageHinge(), Lorentzian()],
    ids=lambda objective: type(objective).__name__,
)
@pytest.mark.parametrize(("on_real", "on_fake"), [(0, 0), (1, 0), (0.5, -0.5), (1e15, -1e15), (-1e15, 1e15)])
def test_objectives_are_finite_at_equal_scores_margins_and_extremes(objective, on_real, on_fake):
    real, fake = (torch.full((4,), float(value), requires_grad=True) for value in (on_real, on_fake))
    for loss in (objective.critic(real, fake), objective.generator(fake, lambda: real)):
        gradients = torch.autograd.grad(loss, (real, fake), allow_unused=True)
        assert loss.isfinite()
        assert all(g is None or g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_critic_won_is_finite_for_equal_images(known):
    class Mean(nn.Module):
        def forward(self, image, mask):
            return image.flatten(1).mean(dim=1)

    image = torch.rand(2, 3, 8, 8)
    inputs = LossInput(image, torch.full((2, 1, 8, 8), known), InpaintingOutput(image))
    _, parts = ScoreTerm(Mean(), {"gan": Wasserstein()}, GradientPenalty()).critic_loss(inputs)
    assert parts["critic_won"] == parts["critic_lost"] == 0


OF_FOREGROUND_AND_BACKGROUND = {
    "contextual": lambda: ContextualAttention(4),
    "contextual, released": lambda: ReleasedContextualAttention(4),
    "spatial transformer": lambda: Warping(AffineFlow(4)),
    "appearance flow": lambda: Warping(ConvFlow(4)),
    "convolution": lambda: Convolution(4),
}
OF_FEATURES_AND_MASK = {
    "global": lambda: GlobalAttention(4),
    "global and local": lambda: GlobalLocalAttention(4),
    "global and local, released": lambda: ReleasedGlobalLocalAttention(4),
}


@pytest.mark.parametrize("known", [0.0, 1.0])
@pytest.mark.parametrize("layer", [*OF_FOREGROUND_AND_BACKGROUND, *OF_FEATURES_AND_MASK])
def test_attention_is_finite_for_zero_features(layer, known):
    torch.manual_seed(0)
    features, mask = torch.zeros(2, 4, 12, 16, requires_grad=True), torch.full((2, 1, 12, 16), known)
    if layer in OF_FEATURES_AND_MASK:
        attention = OF_FEATURES_AND_MASK[layer]()
        given = (features, mask)
    else:
        attention = OF_FOREGROUND_AND_BACKGROUND[layer]()
        given = (features, features, mask)
    for name, parameter in attention.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)  # so that norms of patches are exactly 0
    out = attention(*given)
    out.sum().backward()
    assert out.isfinite().all()
    assert features.grad.isfinite().all()
    assert_finite_gradients(attention, layer)
