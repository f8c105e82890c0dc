from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from src.networks.edge_lbam import EdgeCompletion, EdgeLBAM
from src.networks.interface import composite
from src.networks.layers.attention_map import (
    AsymmetricGaussian,
    MaskChain,
    NoMaps,
    Reciprocal,
    learnable_maps,
    power_relu,
    unlearned_maps,
)
from src.networks.layers.canny import DEFAULT_CANNY, RELEASED_CANNY, Canny
from src.networks.layers.edge_guided_maps import EdgeGuidedMaps, edge_concatenated_maps, edge_guided_maps
from src.networks.lbam import LBAM, released_edge_lbam_unet
from src.networks.mecnet import MECNet

by_ninths = partial(unlearned_maps, kernel_size=3)

TABLE_5 = {  # forward and reverse maps of each row
    "BF": (by_ninths, NoMaps),
    "BF+BR": (by_ninths, by_ninths),
    "LFAM": (learnable_maps, NoMaps),
    "LFAM+BR": (learnable_maps, by_ninths),
    "LBAM": (learnable_maps, learnable_maps),
    "Edge-LFAM": (edge_guided_maps, NoMaps),
    "LBAM(E)": (edge_concatenated_maps, edge_concatenated_maps),
    "Edge-LFAM+BR": (edge_guided_maps, by_ninths),
    "Edge-LFAM+LRAM": (edge_guided_maps, learnable_maps),
    "Edge-LBAM": (edge_guided_maps, edge_guided_maps),
}
FIGURE_12 = {  # activations of the attention map and of the mask's update
    "Sigmoid+Sigmoid": (nn.Sigmoid, torch.sigmoid),
    "Sigmoid+ReLU": (nn.Sigmoid, torch.relu),
    "ReLU+Sigmoid": (nn.ReLU, torch.sigmoid),
    "ReLU+ReLU": (nn.ReLU, torch.relu),
    "g_A+g_M": (AsymmetricGaussian, power_relu),
}
G_A = 4


def unet(forward_maps=edge_guided_maps, reverse_maps=edge_guided_maps, **numbers) -> LBAM:
    torch.manual_seed(0)
    return LBAM(**{"width": 1 / 8, "levels": 3, **numbers}, forward_maps=forward_maps, reverse_maps=reverse_maps)


def build(**numbers) -> EdgeLBAM:
    torch.manual_seed(0)
    return EdgeLBAM(MECNet(width=1 / 16, blocks=1, **{"scales": 2, **numbers}), unet())


def make_inputs(height=48, width=64):
    """Return two images of discs, which have edges, with different holes, and their edges."""
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    disc = ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2).float()
    image = 0.1 * torch.rand(2, 3, height, width, generator=generator) + 0.7 * disc + 0.1
    mask = torch.ones(2, 1, height, width)
    mask[0, ..., height // 4 : height // 2, width // 4 : width // 2] = 0
    mask[1, ..., : height // 3, :] = 0
    return image, mask, DEFAULT_CANNY.known_edges(image, torch.ones_like(mask))


def parameters_without_gradient(network: nn.Module, inputs, image) -> list[str]:
    """Return the parameters without a gradient, except for g_A's right side.

    In a level without windows that are known enough to reach mu, the right side has no effect.
    """
    (network.train()(*inputs).prediction - image).abs().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    return [key for key, p in network.named_parameters() if not p.grad.any() and not key.endswith("gamma_r")]


# --- Table 5 and Fig. 12: rows of the U-Net's maps ---


@pytest.mark.parametrize("row", TABLE_5)
def test_every_row_of_table_5_trains(row):
    (image, mask, edges), network = make_inputs(), unet(*TABLE_5[row])
    assert parameters_without_gradient(network, (image, mask, edges), image) == []


@pytest.mark.parametrize("row", TABLE_5)
def test_rows_of_table_5_change_only_their_maps(row):
    full, other = unet(), unet(*TABLE_5[row])
    kinds = {NoMaps: NoMaps, learnable_maps: MaskChain, edge_concatenated_maps: MaskChain, by_ninths: MaskChain}
    for direction, made, full_made in (
        ("forward", TABLE_5[row][0], full.forward_maps),
        ("reverse", TABLE_5[row][1], full.reverse_maps),
    ):
        maps = other.get_submodule(f"{direction}_maps")
        assert type(maps) is kinds.get(made, EdgeGuidedMaps)
        if made is edge_guided_maps:
            assert {k: v.shape for k, v in maps.state_dict().items()} == {
                k: v.shape for k, v in full_made.state_dict().items()
            }
        if made is by_ninths:
            assert list(maps.parameters()) == []
            assert all(isinstance(attend, Reciprocal) for attend in maps.attend)
            box = torch.zeros(1, 1, 8, 8)
            box[..., 2:5, 2:5] = 1
            assert_close(maps.mask_convs[0](box)[0, 0, 1:3, 1:3], torch.tensor([[4.0, 4.0], [4.0, 4.0]]) / 9)
    backbone = {k: v.shape for k, v in full.state_dict().items() if "maps" not in k}
    assert {k: v.shape for k, v in other.state_dict().items() if "maps" not in k} == backbone


def test_rows_of_table_5_are_ten_different_networks():
    (image, mask, edges), found = make_inputs(), {}
    for row, maps in TABLE_5.items():
        network = unet(*maps).train()  # batch norm enlarges small differences
        state = unet().state_dict()
        network.load_state_dict({k: v for k, v in state.items() if "maps" not in k}, strict=False)  # the same backbone
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "mask_conv" in name:
                    weight.copy_(weight.abs() * 5)  # they start near 0, where all maps are similar
            found[row] = network(image, mask, edges).prediction
    rows = list(found)
    same = [(a, b) for i, a in enumerate(rows) for b in rows[:i] if torch.equal(found[a], found[b])]
    assert same == []


@pytest.mark.parametrize("row", TABLE_5)
def test_edges_matter_only_in_rows_with_edges(row):
    (image, mask, edges), network = make_inputs(), unet(*TABLE_5[row]).eval()
    with torch.no_grad():
        same = torch.equal(network(image, mask, edges).prediction, network(image, mask, 1 - edges).prediction)
        assert same is not ("E" in row)
        if same:
            network(image, mask)  # edges are optional


@pytest.mark.parametrize("pair", FIGURE_12)
def test_every_pair_of_figure_12_trains_with_its_activations(pair):
    attend, update = FIGURE_12[pair]
    maps = partial(edge_guided_maps, attend=attend, update=update)
    (image, mask, edges), network = make_inputs(), unet(maps, maps)
    network.eval()
    with torch.no_grad():
        recorded = network(image, mask, edges, maps=True).maps
        for direction, known in (("forward", mask), ("reverse", 1 - mask)):
            made = network.get_submodule(f"{direction}_maps")
            m = made.mask_convs[0](known.expand(-1, 3, -1, -1), edges)
            assert_close(recorded[f"{direction}_1"], attend()(m))
            assert_close(recorded[f"{direction}_mask_1"], update(m))
    with_gaussian = {key for key in network.state_dict() if key.endswith(".mu")}
    assert len(with_gaussian) == (5 if attend is AsymmetricGaussian else 0)
    assert parameters_without_gradient(network, (image, mask, edges), image) == []


def test_parameters_of_the_unet_by_hand():
    """Those of LBAM and, for each direction, A^E and the edge convolutions of every level except the last."""
    extra = 0
    for widths in (64, 128, 256, 512, 512, 512), (64, 128, 256, 512, 512):  # all levels except the last
        extra += 9 * 4 * 3 + 2 * 3 + 16 * 3 + 1  # A^E of level 1: 3 mask channels and an edge channel
        extra += sum(9 * 2 * c * c + 2 * c + 16 * c + 1 for c in widths)  # A^E of the others
        extra += sum(9 * i * o + 2 * o for i, o in zip((1, *widths[:-1]), widths, strict=True))  # E_out
    with torch.device("meta"):
        plain, guided = LBAM(), LBAM(forward_maps=edge_guided_maps, reverse_maps=edge_guided_maps)
    assert sum(p.numel() for p in plain.parameters()) == 68_316_724
    assert sum(p.numel() for p in guided.parameters()) == 68_316_724 + extra == 105_251_333


# --- edge completion, then inpainting ---


def test_keeps_known_edges_and_predicts_hole_edges():
    network, (image, mask, _) = build().eval(), make_inputs(40, 56)
    padded = [F.pad(t, (0, 8, 0, 8), mode="replicate") for t in (torch.where(mask > 0, image, 0.0), mask)]
    with torch.no_grad():
        output = network(image, mask)
        predicted, _ = network.complete_edges(*padded)
        known = DEFAULT_CANNY.known_edges(*padded)
    assert network.stride == 16
    assert known[..., :40, :56].sum() > 20
    expected = torch.where(padded[1] > 0, known, predicted)[..., :40, :56]
    assert torch.equal(output.edges, expected)
    assert set(output.edges[mask > 0].unique().tolist()) == {0.0, 1.0}
    assert len(output.edges[mask == 0].unique()) > 100  # soft


def test_returned_edges_are_those_of_the_unet():
    network, (image, mask, _) = build().eval(), make_inputs()
    with torch.no_grad():
        first = network(image, mask)
        second = network(image, mask, first.edges)
    assert torch.equal(first.prediction, second.prediction)


def test_passed_edges_are_used_unchanged():
    network, (image, mask, edges) = build().eval(), make_inputs()
    with torch.no_grad():
        output = network(image, mask, edges)
        assert torch.equal(output.prediction, network.unet(image, mask, edges).prediction)
        assert not torch.equal(output.prediction, network(image, mask, 1 - edges).prediction)
    assert output.edges is None
    assert output.edge_pyramid == ()


def test_passed_edges_skip_completion():
    network, (image, mask, edges) = build(), make_inputs()
    network.completion.forward = None  # not callable
    network(image, mask, edges)


def test_complete_edges_runs_canny_or_uses_passed_edges():
    network, (image, mask, edges) = build().eval(), make_inputs()
    known = DEFAULT_CANNY.known_edges(image, mask)
    with torch.no_grad():
        detected, _ = network.complete_edges(image, mask)
        handed_in, _ = network.complete_edges(image, mask, known)
        whole, _ = network.complete_edges(image, mask, edges)
    assert torch.equal(detected, handed_in)
    assert not torch.equal(known * mask, edges * mask)  # no edges next to the hole
    assert not torch.equal(detected, whole)


def test_ml_returns_pyramid():
    network, (image, mask, _) = build(supervised_scales=2).eval(), make_inputs(48, 64)
    assert [tuple(e.shape[-2:]) for e in network(image, mask).edge_pyramid] == [(24, 32)]


def test_each_stage_trains_its_networks():
    image, mask, edges = make_inputs()

    def networks_with_gradient(loss_of):
        network = build().train()
        loss_of(network).backward()
        return {name.partition(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}

    assert networks_with_gradient(lambda n: (n.complete_edges(image, mask)[0] - edges).abs().mean()) == {"completion"}
    assert networks_with_gradient(lambda n: (n(image, mask, edges).prediction - image).abs().mean()) == {"unet"}
    assert networks_with_gradient(lambda n: (n(image, mask).prediction - image).abs().mean()) == {"completion", "unet"}


def test_gradients_reach_the_completion_only_through_hole_edges():
    network, (image, mask, _) = build().eval(), make_inputs()
    seen = []
    network.completion.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    prediction = network(image, mask).prediction
    (slope,) = torch.autograd.grad(prediction.sum(), seen[0])
    assert slope[mask == 0].abs().sum() > 0
    assert (slope[mask > 0] == 0).all()


@pytest.mark.parametrize("passed", [False, True], ids=["predicted edges", "passed edges"])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
def test_hole_pixels_are_never_read(poison, passed):
    network, (image, mask, edges) = build().eval(), make_inputs()
    along = edges if passed else None
    with torch.no_grad():
        expected = network(image, mask, along)
        found = network(torch.where(mask > 0, image, poison), mask, along)
        completed = network.complete_edges(*(t[..., :32, :] for t in (torch.where(mask > 0, image, poison), mask)))[0]
        assert torch.equal(completed, network.complete_edges(image[..., :32, :], mask[..., :32, :])[0])
    assert torch.equal(found.prediction, expected.prediction)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("known", [0.0, 1.0, None], ids=["all hole", "all known", "some known"])
def test_gradients_are_finite(known, training):
    network, (image, mask, _) = build(supervised_scales=2).train(training), make_inputs()
    mask = mask if known is None else torch.full_like(mask, known)
    poisoned = torch.where(mask > 0, image, torch.nan).requires_grad_()
    output = network(poisoned, mask)
    loss = composite(image, mask, output).square().mean() + output.edges.square().mean()
    (loss + output.prediction.mean() + sum(e.square().mean() for e in output.edge_pyramid)).backward()
    assert all(p.grad.isfinite().all() for p in (poisoned, *network.parameters()))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("known", [0.0, 1.0, None], ids=["all hole", "all known", "some known"])
def test_half_precision_is_finite(known, training):
    network, (image, mask, _) = build().train(training), make_inputs()
    mask = mask if known is None else torch.full_like(mask, known)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(image, mask)
    (output.prediction.float().mean() + output.edges.float().mean()).backward()
    assert output.prediction.isfinite().all()
    assert output.edges.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_batch_equals_its_images_one_by_one():
    network, (image, mask, _) = build().eval(), make_inputs()
    with torch.no_grad():
        together = network(image, mask)
        singles = [network(image[i : i + 1], mask[i : i + 1]) for i in range(2)]
    assert_close(together.prediction, torch.cat([s.prediction for s in singles]), atol=1e-5, rtol=0)
    assert_close(together.edges, torch.cat([s.edges for s in singles]), atol=1e-5, rtol=0)


def test_maps_match_unet():
    network, (image, mask, _) = build().eval(), make_inputs()
    maps = network(image, mask, maps=True).maps
    assert set(maps) == set(network.unet.map_layers())
    assert {"forward_1", "forward_mask_3", "reverse_mask_2", "encoder_feature_1", "decoder_feature_1"} <= set(maps)
    assert all(m.ndim == 4 and len(m) == 2 for m in maps.values())


@pytest.mark.parametrize(("scales", "levels", "stride"), [(4, 7, 128), (1, 2, 8), (3, 2, 32)])
def test_stride_fits_both_parts(scales, levels, stride):
    assert EdgeLBAM(MECNet(width=1 / 16, blocks=1, scales=scales), unet(width=1 / 64, levels=levels)).stride == stride


# --- the release ---


def test_known_edges_and_grey_follow_the_settings():
    image, mask, _ = make_inputs()
    seen = []
    for canny in (DEFAULT_CANNY, Canny(sigma=1.0, luma=(0.0, 0.0, 1.0))):
        torch.manual_seed(0)
        network = EdgeLBAM(MECNet(width=1 / 16, blocks=1, scales=2), unet(), canny).eval()
        network.completion.register_forward_hook(lambda module, args, output: seen.append(args))
        with torch.no_grad():
            edges = network(image, mask).edges
        known = canny.known_edges(image * mask, mask)
        assert torch.equal(edges[mask > 0], known[mask > 0])
        assert torch.equal(seen[-1][0], canny.gray(image * mask))
        assert torch.equal(seen[-1][1], known)
    assert not torch.equal(seen[0][1], seen[1][1])


def test_release_config_builds_released_parts(composed):
    made, config = (
        EdgeLBAM(MECNet(1 / 8), released_edge_lbam_unet(1 / 8, 4), RELEASED_CANNY),
        composed("model=edge_lbam_release", "scale.edge_scales=4").model,
    )
    configured = instantiate(config.network)
    assert str(configured) == str(made)
    assert made.canny == made.unet.canny == configured.canny == instantiate(config.edges) == RELEASED_CANNY
    state, expected = configured.state_dict(), made.state_dict()
    assert {key: t.shape for key, t in state.items()} == {key: t.shape for key, t in expected.items()}
    assert [t for t in state.values() if t.ndim == 0] == [t for t in expected.values() if t.ndim == 0]  # g_A's too
    parts = [(n.unet.inputs.channels, n.unet.to_unit, n.completion.stride) for n in (configured, made)]
    assert parts[0] == parts[1]


def test_datasets_use_configured_edges(composed):
    assert instantiate(composed("model=edge_lbam").model.edges) == DEFAULT_CANNY == build().canny


# --- edge completion only ---


def completion(canny=RELEASED_CANNY) -> EdgeCompletion:
    torch.manual_seed(0)
    return EdgeCompletion(MECNet(width=1 / 16, blocks=1, scales=2), canny).eval()


def test_edge_completion_keeps_image_and_predicts_all_edges():
    network, (image, mask, edges) = completion(), make_inputs(50, 37)
    with torch.no_grad():
        output, given = network(image, mask), network(image, mask, edges)
        padded = [F.pad(t, (0, -37 % 16, 0, -50 % 16), mode="replicate") for t in (image * mask, mask, edges)]
        expected, _ = network.completion(RELEASED_CANNY.gray(padded[0]), padded[2], padded[1])
    assert torch.equal(output.prediction, image * mask)
    assert torch.equal(given.edges, expected[..., :50, :37])
    assert output.edges.shape == (2, 1, 50, 37)
    assert len(output.edges[mask > 0].unique()) > 100  # those of known pixels are predicted, too


def test_edge_completion_uses_only_known_edges():
    network, (image, mask, edges) = completion(), make_inputs()
    with torch.no_grad():
        found = network(image, mask).edges
        assert torch.equal(found, network(image, mask, RELEASED_CANNY.known_edges(image, mask)).edges)
        assert not torch.equal(found, network(image, mask, edges).edges)
        other = torch.where(mask > 0, edges, 1 - edges)  # which is not read
        assert torch.equal(network(image, mask, edges).edges, network(image, mask, other).edges)
        assert not torch.equal(found, completion(Canny(sigma=0.5))(image, mask).edges)


def test_edge_completion_config_matches_first_stage_of_edge_lbam(composed):
    alone, whole = (composed(f"model={name}").model for name in ("mecnet_release", "edge_lbam_release"))
    assert str(instantiate(alone.network)) == str(EdgeCompletion(MECNet(1 / 8, scales=2)))
    stage, first = (dict(config.training.stages.edges) for config in (alone, whole))
    assert stage | {"length": None} == first | {"length": None}
    assert alone.edges == whole.edges
    assert alone.network.canny == whole.network.canny
    assert alone.network.completion == whole.network.completion
    losses = [composed(f"model={name}").loss.terms for name in ("mecnet_release", "edge_lbam_release")]
    assert losses[0].edges == losses[1].edges
    assert losses[0].auxiliary == losses[1].auxiliary


def test_printed_config_has_printed_initialisation_and_loss(composed):
    default, printed = (composed(f"model={name}") for name in ("edge_lbam", "edge_lbam_printed"))
    assert printed.loss == OmegaConf.merge(default.loss, {
        "weights": {"adversarial": 0.1}, "terms": {"style": {"norm": {"path": "src.losses.perceptual.euclidean"}}}
    })  # fmt: skip
    assert printed.model.training == default.model.training
    unet = instantiate(printed.model.network).unet
    for g_a in (*unet.forward_maps.attend, *unet.reverse_maps.attend):
        assert [p.item() for p in g_a.parameters()] == pytest.approx([1.1, 2.0, 1.0, 1.0])
    assert type(unet.forward_maps) is EdgeGuidedMaps
    assert unet.encoder_convs[3].weight.std().item() == pytest.approx(0.02, rel=0.05)
