"""Every ablation that the papers name is a choice on the command line: it changes what it names, and trains."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.modules.checkpoint import load_checkpoint

FORWARD, REVERSE = "model.network.unet.forward_maps", "model.network.unet.reverse_maps"
LBAM = "model.network.forward_maps", "model.network.reverse_maps"


def maps(forward=None, reverse=None, model="edge_lbam", keys=(FORWARD, REVERSE)):
    """Other maps than the model's own, in one direction or both; and the nodes that they change."""
    chosen = {key: name for key, name in zip(keys, (forward, reverse), strict=True) if name is not None}
    return model, [f"model/maps@{key}={name}" for key, name in chosen.items()], list(chosen)


def activation(path):
    """Another g_A in both directions of LBAM."""
    attend = f"{{_target_: {path}, _partial_: true}}"
    return "lbam", [f"+{key}.attend={attend}" for key in LBAM], [f"{key}.attend" for key in LBAM]


LBAM_TABLE_2 = {  # but for Ours(full)
    "LBAM unlearned": maps("unlearned", "unlearned", "lbam", LBAM),
    "LBAM forward": maps(reverse="none", model="lbam", keys=LBAM),
    "LBAM Sigmoid": activation("torch.nn.Sigmoid"),
    "LBAM LReLU": activation("torch.nn.LeakyReLU"),
    "LBAM ReLU": activation("torch.nn.ReLU"),
    "LBAM 3x3": ("lbam", [f"+{key}.kernel_size=3" for key in LBAM], [f"{key}.kernel_size" for key in LBAM]),
    "LBAM w/o adversarial": ("lbam", ["loss.terms.adversarial=null"], ["loss.terms.adversarial"]),
}


TABLE_5 = {  # but for the model as it stands, Edge-LBAM
    "BF": maps("unlearned_3x3", "none"),
    "BF+BR": maps("unlearned_3x3", "unlearned_3x3"),
    "LFAM": maps("learnable", "none"),
    "LFAM+BR": maps("learnable", "unlearned_3x3"),
    "LBAM": maps("learnable", "learnable"),
    "Edge-LFAM": maps(reverse="none"),
    "LBAM(E)": maps("edge_concatenated", "edge_concatenated"),
    "Edge-LFAM+BR": maps(reverse="unlearned_3x3"),
    "Edge-LFAM+LRAM": maps(reverse="learnable"),
}


def activations(attend, update):
    """A pair of Fig. 12 in both directions; g_A and g_M are the model as it stands."""
    given = {"_target_": f"torch.nn.functional.{update}", "_partial_": "true"}
    overrides = [
        f"+{key}.{part}={{{','.join(f'{name}:{value}' for name, value in values.items())}}}"
        for key in (FORWARD, REVERSE)
        for part, values in (("attend", {"_target_": f"torch.nn.{attend}", "_partial_": "true"}), ("update", given))
    ]
    return "edge_lbam", overrides, [FORWARD, REVERSE]


FIGURE_12 = {
    f"{attend}+{update}": activations(attend, update)
    for attend in ("Sigmoid", "ReLU")
    for update in ("sigmoid", "relu")
}


def gan(objective):
    """Another objective in WGAN-GP's place, for both critics."""
    return [
        setting
        for critic in ("adversarial_global", "adversarial_local")
        for setting in (
            f"loss.terms.{critic}.objectives.gan._target_=src.losses.objectives.{objective}",
            f"loss.terms.{critic}.penalty=null",
        )
    ]


REFINEMENT, CRITICS = "model.network.refinement", ("loss.terms.adversarial_global", "loss.terms.adversarial_local")
NETWORKS = "src.networks"

# model, overrides, and the nodes below which nothing else may differ from the model as it stands
ABLATIONS = {
    "CA baseline": (
        "contextual_attention",
        [f"{REFINEMENT}._target_={NETWORKS}.contextual_attention.EncoderDecoder", f"~{REFINEMENT}.attention"],
        [REFINEMENT],
    ),
    "CA coarse only": (
        "contextual_attention",
        [
            f"model.network._target_={NETWORKS}.contextual_attention.CoarseOnly",
            f"~{REFINEMENT}",
            "loss.terms.coarse_l1=null",
        ],
        ["model.network", "loss.terms.coarse_l1"],
    ),
    **{
        f"CA {name}": ("contextual_attention", [f"model/attention={name}"], [f"{REFINEMENT}.attention"])
        for name in ("spatial_transformer", "appearance_flow", "convolution", "released_contextual")
    },
    "CA DCGAN": ("contextual_attention", gan("NonSaturating"), CRITICS),
    "CA LSGAN": ("contextual_attention", gan("LeastSquares"), CRITICS),
    "CA without l1": ("contextual_attention", ["loss.terms.l1=null"], ["loss.terms.l1"]),
    "CA without discounting": (
        "contextual_attention",
        ["loss.terms.l1.gamma=1", "loss.terms.coarse_l1.gamma=1"],
        ["loss.terms.l1.gamma", "loss.terms.coarse_l1.gamma"],
    ),
    "CA with perceptual, style and total variation terms": (
        "contextual_attention",
        ["loss=contextual_attention_perceptual"],
        [f"loss.{part}.{term}" for part in ("terms", "weights") for term in ("perceptual", "style", "total_variation")]
        + ["loss.features"],
    ),
    "CA crop for the local critic": (
        "contextual_attention",
        ["loss=contextual_attention_rectangles"],
        ["loss.terms.adversarial_local.critic"],
    ),
    **{
        f"MPGA/GLA without {name}": (
            "mpga_gla",
            [f"model.network.{stage}_attention._target_={NETWORKS}.mpga_gla.convolution_instead"],
            [f"model.network.{stage}_attention"],
        )
        for name, stage in (("MPGA", "coarse"), ("GLA", "refinement"))
    },
    "MPGA/GLA without discriminator": ("mpga_gla", ["loss.terms.adversarial=null"], ["loss.terms.adversarial"]),
    "MPGA/GLA without Lorentzian": (
        "mpga_gla",
        ["loss.terms.adversarial.objectives.lorentzian=null"],
        ["loss.terms.adversarial.objectives.lorentzian"],
    ),
    "MPGA/GLA l1 and SSIM alike": ("mpga_gla", ["loss.weights.l1=1", "loss.weights.ssim=0.5"], ["loss.weights"]),
    "MECNet(S)": (
        "edge_lbam",
        ["+model.network.completion.scales=1"],
        ["model.network.completion.scales"],
    ),
    "MECNet(ML)": (
        "edge_lbam",
        ["+model.network.completion.supervised_scales=4"],
        ["model.network.completion.supervised_scales"],
    ),
    **LBAM_TABLE_2,
    **TABLE_5,
    **FIGURE_12,
}


def leaves(config: DictConfig | object, key: str = "") -> dict[str, object]:
    """Dotted keys and their values."""
    if isinstance(config, dict):
        return {k: v for name, child in config.items() for k, v in leaves(child, f"{key}.{name}".lstrip(".")).items()}
    return {key: config}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_names_and_nothing_else(composed, name):
    model, overrides, nodes = ABLATIONS[name]
    plain, ablated = (
        leaves(OmegaConf.to_container(composed(f"model={model}", *given), resolve=True)) for given in ([], overrides)
    )
    differing = {
        key for key in plain.keys() | ablated.keys() if key not in plain or plain[key] != ablated.get(key, object())
    }
    assert differing
    assert [key for key in differing if not any(f"{key}.".startswith(f"{node}.") for node in nodes)] == []
    for node in nodes:
        assert any(f"{key}.".startswith(f"{node}.") for key in differing), f"{node} is the same"


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_trains_a_step(composed, name):
    model, overrides, _ = ABLATIONS[name]
    cfg = composed(f"model={model}", *overrides)
    torch.manual_seed(0)
    network, loss = instantiate(cfg.model.network), instantiate(cfg.loss)
    image, mask = torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    mask[..., 20:44, 10:40] = 0
    edges = (torch.rand(2, 1, 64, 64) > 0.9).float()
    inputs = loss.prepare(image, mask, network(image, mask), edges)
    for term in loss.adversarial.values():
        term.critic_loss(inputs)[0].backward()
        assert all(p.grad.isfinite().all() for p in term.critic.parameters() if p.grad is not None)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in network.parameters()]
    loss(inputs)[0].backward()
    optimizer.step()
    after = list(network.parameters())
    assert all(p.isfinite().all() for p in after)
    assert any(not torch.equal(p, old) for p, old in zip(after, before, strict=True))


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablated_network_is_rebuilt_from_its_checkpoint(composed, tmp_path, name):
    model, overrides, _ = ABLATIONS[name]
    config = OmegaConf.to_container(composed(f"model={model}", *overrides).model, resolve=True)
    network = instantiate(config["network"])
    state = {f"network.{key}": t for key, t in network.state_dict().items()}
    torch.save({"state_dict": state, "config": {"model": config}, "global_step": 1}, tmp_path / "a.ckpt")
    rebuilt = load_checkpoint(tmp_path / "a.ckpt").network.state_dict()
    assert all(torch.equal(t, rebuilt[key]) for key, t in network.state_dict().items())
