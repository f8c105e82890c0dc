"""Ablations by command line beyond the papers' tables: each changes only the keys it names, and trains."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.checkpoints.reading import load_checkpoint

REFINEMENT = "model.network.refinement"
NETWORKS = "src.networks"

# model, overrides, and the only keys that may differ from the default model
ABLATIONS = {
    "CA coarse only": (
        "contextual_attention",
        [
            f"model.network._target_={NETWORKS}.contextual_attention.CoarseOnly",
            f"~{REFINEMENT}",
            "loss.terms.coarse_l1=null",
        ],
        ["model.network", "loss.terms.coarse_l1"],
    ),
    "CA released attention": (
        "contextual_attention",
        ["model/attention=released_contextual"],
        [f"{REFINEMENT}.attention"],
    ),
    "CA crop for the local critic": (
        "contextual_attention",
        ["loss=contextual_attention_rectangles"],
        ["loss.terms.adversarial_local.critic"],
    ),
    "MPGA/GLA without discriminator": ("mpga_gla", ["loss.terms.adversarial=null"], ["loss.terms.adversarial"]),
    "MPGA/GLA without Lorentzian": (
        "mpga_gla",
        ["loss.terms.adversarial.objectives.lorentzian=null"],
        ["loss.terms.adversarial.objectives.lorentzian"],
    ),
    "MPGA/GLA l1 and SSIM alike": ("mpga_gla", ["loss.weights.l1=1", "loss.weights.ssim=0.5"], ["loss.weights"]),
}


def leaves(config: DictConfig | object, key: str = "") -> dict[str, object]:
    """Dotted keys and their values."""
    if isinstance(config, dict):
        return {k: v for name, child in config.items() for k, v in leaves(child, f"{key}.{name}".lstrip(".")).items()}
    return {key: config}


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_changes_only_the_keys_it_names(composed, name):
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
def test_ablation_trains_a_step(composed, name):
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
def test_ablated_network_is_rebuilt_from_its_checkpoint(composed, tmp_path, name):
    model, overrides, _ = ABLATIONS[name]
    config = OmegaConf.to_container(composed(f"model={model}", *overrides).model, resolve=True)
    network = instantiate(config["network"])
    state = {f"network.{key}": t for key, t in network.state_dict().items()}
    torch.save({"state_dict": state, "config": {"model": config}, "global_step": 1}, tmp_path / "a.ckpt")
    rebuilt = load_checkpoint(tmp_path / "a.ckpt").network.state_dict()
    assert all(torch.equal(t, rebuilt[key]) for key, t in network.state_dict().items())
