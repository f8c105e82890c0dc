from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.edge_connect import EdgeConnectGenerator
from src.networks.gl import GL
from src.networks.layers.attention_map import ClampedAsymmetricGaussian, NoMaps, learnable_maps, unlearned_maps
from src.networks.layers.edge_guided_maps import edge_concatenated_maps, edge_guided_maps
from src.networks.layers.filters import kaiming, small_normal, start_upsampling, upsampled_kaiming
from src.networks.lbam import IMAGE_MASK_AND_EDGES, LBAM, released_edge_lbam_unet, released_lbam
from src.networks.medfe import MEDFE


def make_inputs():
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(2, 3, 48, 64, generator=generator), torch.ones(2, 1, 48, 64)
    mask[..., 12:36, 20:50] = 0
    return image, mask


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Supplement Table 2, all filters 4x4 without bias. Products of input and output channels, each counted 16 times:
ENCODER = 3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 3 * 512 * 512  # layers 1-1 to 7-1
REVERSE = ENCODER - 512 * 512  # layers 1-3 to 6-3
DECODER = 512 * 512 + 2 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3  # 8-1 to 14-1
ENCODER_NORM = 2 * (128 + 256 + 4 * 512)  # scale and shift; layers 2 to 7
DECODER_NORM = 2 * (3 * 1024 + 512 + 256 + 128)  # layers 8 to 13, concatenated
G_A = 4


def test_full_width_has_the_parameters_of_the_table():
    network = LBAM()
    expected = 16 * (ENCODER + ENCODER + REVERSE + DECODER) + ENCODER_NORM + DECODER_NORM + (7 + 6) * G_A
    assert parameters(network) == expected == 68_316_724
    assert parameters(network.forward_maps) == 16 * ENCODER + 7 * G_A
    assert parameters(network.reverse_maps) == 16 * REVERSE + 6 * G_A


def test_ablations_differ_from_the_full_model_only_in_their_maps():
    backbone = 16 * (ENCODER + DECODER) + ENCODER_NORM + DECODER_NORM
    assert parameters(LBAM(forward_maps=unlearned_maps, reverse_maps=unlearned_maps)) == backbone
    assert parameters(LBAM(reverse_maps=NoMaps)) == backbone + 16 * ENCODER + 7 * G_A


def test_follows_the_table_step_by_step():
    """Table 2 for three levels: the maps multiply cat(deconv, encoder feature), before norm."""
    torch.manual_seed(0)
    network, (image, mask) = LBAM(width=1 / 8, levels=3).eval(), make_inputs()
    with torch.no_grad():
        output = network(image, mask, maps=True)
        forward, reverse = (
            [output.maps[f"{side}_{i}"] for i in range(1, n)] for side, n in (("forward", 4), ("reverse", 3))
        )
        norm = [layer[0] for layer in (*network.encoder_activations, *network.decoder_activations)]
        lrelu = nn.LeakyReLU(0.2)
        layer_1 = network.encoder_convs[0](image * mask)
        layer_2 = network.encoder_convs[1](lrelu(layer_1 * forward[0]))
        layer_3 = network.encoder_convs[2](lrelu(norm[1](layer_2 * forward[1])))
        layer_4 = network.decoder_deconvs[0](lrelu(norm[2](layer_3 * forward[2])))
        x = lrelu(norm[3](torch.cat([layer_4, layer_2], 1) * torch.cat([reverse[1], forward[1]], 1)))
        layer_5 = network.decoder_deconvs[1](x)
        x = lrelu(norm[4](torch.cat([layer_5, layer_1], 1) * torch.cat([reverse[0], forward[0]], 1)))
        by_hand = (network.to_image(x).tanh() + 1) / 2
    assert isinstance(norm[0], nn.Identity)
    assert_close(output.prediction, by_hand)


def test_maps_are_named_from_fine_to_coarse():
    network, (image, mask) = LBAM(width=1 / 8, levels=4).eval(), make_inputs()
    sizes = {name: tuple(m.shape[1:]) for name, m in network(image, mask, maps=True).maps.items()}
    assert sizes == {
        "forward_1": (8, 24, 32), "forward_2": (16, 12, 16), "forward_3": (32, 6, 8), "forward_4": (64, 3, 4),
        "reverse_1": (8, 24, 32), "reverse_2": (16, 12, 16), "reverse_3": (32, 6, 8),
        "forward_mask_1": (8, 24, 32), "forward_mask_2": (16, 12, 16), "forward_mask_3": (32, 6, 8),
        "forward_mask_4": (64, 3, 4),
        "reverse_mask_1": (8, 24, 32), "reverse_mask_2": (16, 12, 16), "reverse_mask_3": (32, 6, 8),
        "encoder_feature_1": (8, 24, 32), "decoder_feature_1": (16, 24, 32),
    }  # fmt: skip


def test_forward_maps_get_the_mask_and_reverse_maps_the_hole():
    torch.manual_seed(0)
    network, (image, mask) = LBAM(width=1 / 8, levels=3).eval(), make_inputs()
    network.reverse_maps.load_state_dict(
        {key: v for key, v in network.forward_maps.state_dict().items() if ".2." not in key}
    )  # the same maps with different inputs
    with torch.no_grad():
        seen, opposite = (network(image, m, maps=True).maps for m in (mask, 1 - mask))
    for level in (1, 2):
        assert torch.equal(seen[f"reverse_{level}"], opposite[f"forward_{level}"])
        assert not torch.equal(seen[f"reverse_{level}"], seen[f"forward_{level}"])


@pytest.mark.parametrize(("direction", "other"), [("forward", "reverse"), ("reverse", "forward")])
def test_mask_filter_reaches_only_its_direction_from_its_level_on(direction, other):
    torch.manual_seed(0)
    network, (image, mask) = LBAM(width=1 / 8, levels=4).eval(), make_inputs()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "mask_convs" in name:
                weight.uniform_(0, 4 / weight[0].numel())  # m is about 2, where g_A bends; it starts near 0
        before = network(image, mask, maps=True)
        network.get_submodule(f"{direction}_maps.mask_convs.1").weight.mul_(1.5)
        after = network(image, mask, maps=True)
    changed = {
        name
        for name in before.maps
        if not (torch.equal(before.maps[name], after.maps[name]) or name.endswith("feature_1"))
    }
    deeper = {name for name in before.maps if name.startswith(direction) and not name.endswith("1")}
    assert changed == deeper
    assert not torch.equal(before.prediction, after.prediction)


def test_reverse_maps_of_zero_leave_only_encoder_features():
    """With reverse maps of 0 the bottleneck has no effect; with ones (Ours(forward)) it has."""

    class Shut(NoMaps):
        def forward(self, mask, edges=None):
            return tuple(torch.zeros_like(m) for m in super().forward(mask, edges))

    image, mask = make_inputs()
    for maps, matters in ((Shut, False), (NoMaps, True)):
        torch.manual_seed(0)
        network = LBAM(width=1 / 8, levels=3, reverse_maps=maps).eval()
        with torch.no_grad():
            before = network(image, mask).prediction
            network.encoder_convs[-1].weight.mul_(-3)
            assert torch.equal(before, network(image, mask).prediction) is not matters


def test_edges_reach_the_maps():
    class Recorder(NoMaps):
        def forward(self, mask, edges=None):
            self.seen = mask, edges
            return super().forward(mask, edges)

    network, (image, mask) = LBAM(width=1 / 8, levels=3, forward_maps=Recorder, reverse_maps=Recorder), make_inputs()
    edges = torch.rand_like(mask)
    network(image, mask, edges)
    for maps, expected in ((network.forward_maps, mask), (network.reverse_maps, 1 - mask)):
        assert torch.equal(maps.seen[0], expected)
        assert torch.equal(maps.seen[1], edges)


def test_each_layer_has_its_own_g_a():
    network = LBAM(width=1 / 8, levels=3)
    layers = (*network.forward_maps.attend, *network.reverse_maps.attend)
    assert len({id(p) for layer in layers for p in layer.parameters()}) == 5 * G_A


def test_updated_masks_and_features_are_recorded():
    torch.manual_seed(0)
    network, (image, mask) = LBAM(width=1 / 8, levels=3).eval(), make_inputs()
    with torch.no_grad():
        maps = network(image, mask, maps=True).maps
        for direction, counted in (("forward", mask), ("reverse", 1 - mask)):
            convs = network.get_submodule(f"{direction}_maps").mask_convs
            updated = counted.expand(-1, 3, -1, -1)
            for level, conv in enumerate(convs, start=1):
                updated = conv(updated).relu().pow(0.8)  # Eqs. 8 and 10
                assert_close(maps[f"{direction}_mask_{level}"], updated)
        layer_1 = network.encoder_convs[0](image * mask) * maps["forward_1"]
        assert_close(maps["encoder_feature_1"], nn.functional.leaky_relu(layer_1, 0.2))
        assert_close((network.to_image(maps["decoder_feature_1"]).tanh() + 1) / 2, network(image, mask).prediction)


def standard_deviations(network):
    """The outputs of all convolutions keep their variance in a network without norms and maps."""
    seen = []
    for layer in (*network.encoder_convs, *network.decoder_deconvs):
        layer.register_forward_hook(lambda module, args, output: seen.append(output.std().item()))
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64), torch.ones(4, 1, 64, 64))
    return seen


def test_initial_filters_preserve_the_variance():
    """He's rule by hand: normal values of deviation 1 stay near 1 through ten layers, and vanish under N(0, 0.02^2)."""
    bare = partial(LBAM, width=1 / 4, levels=5, forward_maps=NoMaps, reverse_maps=NoMaps, norm=nn.Identity)
    torch.manual_seed(0)
    assert all(0.4 < deviation < 2.5 for deviation in standard_deviations(bare(start=kaiming)))
    assert min(standard_deviations(bare(start=small_normal, upsampling_start=small_normal))) < 0.01


def test_initial_filters_depend_on_the_inputs_per_output():
    torch.manual_seed(0)
    network = LBAM(width=1 / 2, levels=3)
    seen = {
        network.encoder_convs[2]: 16 * 64,  # 4x4 of 64 channels
        network.decoder_deconvs[1]: 4 * 128,  # at stride 2 an output pixel depends on 2x2 positions of a 4x4 filter
        network.to_image: 4 * 64,
    }
    for layer, values in seen.items():
        assert layer.weight.std().item() == pytest.approx((2 / (1.04 * values)) ** 0.5, rel=0.05)
    assert LBAM(width=1 / 2, levels=3, start=small_normal).encoder_convs[2].weight.std().item() == pytest.approx(
        0.02, rel=0.05
    )


def test_decoder_starts_as_nearest_upsampling_and_3x3_filters():
    filters, x = torch.empty(6, 3, 4, 4), torch.randn(2, 6, 5, 7)
    torch.manual_seed(0)
    small = kaiming(torch.empty(6, 3, 3, 3), 9 * 6)
    torch.manual_seed(0)
    upsampled_kaiming(filters, 4 * 6)
    slow = nn.functional.conv2d(
        nn.functional.interpolate(x, scale_factor=2), small.transpose(0, 1).flip(2, 3), padding=1
    )
    assert_close(nn.functional.conv_transpose2d(x, filters, stride=2, padding=1), slow)


@pytest.mark.parametrize("network", [GL, EdgeConnectGenerator, MEDFE])
def test_transposed_convolutions_can_start_as_upsampling(network):
    """Nearest upsampling and filters (a, b, c) are filters (a, a + b, b + c, c): their alternating sum is 0."""
    sums = {}
    for name, start in (("default", {}), ("upsampling", {"upsampling_start": start_upsampling})):
        layers = [m for m in network(1 / 16, **start).modules() if isinstance(m, nn.ConvTranspose2d)]
        filters = torch.cat([layer.weight.flatten(0, 1) for layer in layers])
        sums[name] = (filters * torch.tensor([1.0, -1.0, 1.0, -1.0])).sum(-1).abs().max()
    assert sums["upsampling"] < 1e-6 < sums["default"]


def test_group_norm_makes_an_image_independent_of_its_batch(composed):
    torch.manual_seed(0)
    overrides = ["+model/norm@model.network.norm=group", "model.network.norm.groups=4"]  # as in lbam.yaml
    network, (image, mask) = instantiate(composed("model=lbam", *overrides).model.network).train(), make_inputs()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    together = network(image, mask).prediction
    assert_close(together[:1], network(image[:1], mask[:1]).prediction)


def test_rejects_single_level():
    with pytest.raises(ValueError, match="levels must be >= 2, got 1"):
        LBAM(levels=1)


# --- the releases ---


def randomise(network: nn.Module) -> nn.Module:
    """Set large filters and norm statistics, as initial filters are near 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.ndim > 1:
                value.normal_(std=1.4 / value[0].numel() ** 0.5, generator=generator)
            if name.endswith(("running_mean", "running_var", "0.bias")):
                value.uniform_(0.5, 1.0, generator=generator)
    return network.eval()


RELEASES = {"lbam": (released_lbam, 4), "edge_lbam": (released_edge_lbam_unet, 5)}


@pytest.mark.parametrize("name", RELEASES)
def test_matches_release_step_by_step(name):
    """Three levels in the release's order: encoder features first, then the decoder's."""
    (make, channels), (image, mask) = RELEASES[name], make_inputs()
    network = randomise(make(width=1 / 8, levels=3))
    edges = (torch.rand(mask.shape, generator=torch.Generator().manual_seed(2)) > 0.8).float()
    with torch.no_grad():
        output = network(image, mask, edges, maps=True)
        forward, reverse = (
            [output.maps[f"{side}_{i}"] for i in range(1, n)] for side, n in (("forward", 4), ("reverse", 3))
        )
        norm = [layer[0] for layer in (*network.encoder_activations, *network.decoder_activations)]
        swap = [torch.cat(layer.weight.chunk(2)[::-1]) for layer in (network.decoder_deconvs[1], network.to_image)]
        lrelu, deconv = nn.LeakyReLU(0.2), nn.functional.conv_transpose2d

        def normed(x, layer):  # a norm after a concatenation has the halves in the opposite order
            return torch.cat(norm[layer](torch.cat(x.chunk(2, dim=1)[::-1], 1)).chunk(2, dim=1)[::-1], 1)

        seen = torch.cat([image * mask, mask, edges], dim=1)[:, :channels]
        layer_1 = network.encoder_convs[0](seen) * forward[0]
        layer_2 = network.encoder_convs[1](lrelu(layer_1)) * forward[1]
        layer_3 = network.encoder_convs[2](lrelu(norm[1](layer_2))) * forward[2]
        layer_4 = network.decoder_deconvs[0](lrelu(norm[2](layer_3))) * reverse[1]
        x = lrelu(normed(torch.cat([layer_2, layer_4], 1), 3))
        layer_5 = deconv(x, swap[0], stride=2, padding=1) * reverse[0]
        x = deconv(lrelu(normed(torch.cat([layer_1, layer_5], 1), 4)), swap[1], stride=2, padding=1)
        by_hand = {"lbam": (x.tanh() + 1) / 2, "edge_lbam": x.tanh().abs()}[name]
    assert by_hand.std() > 0.03
    assert_close(output.prediction, by_hand)
    assert all(isinstance(layer, nn.BatchNorm2d if name == "edge_lbam" else nn.Identity) for layer in norm[1:])


@pytest.mark.parametrize("name", RELEASES)
def test_release_clamps_g_a_and_starts_lower_in_reverse(name):
    network = RELEASES[name][0](width=1 / 8, levels=3)
    for maps, start in ((network.forward_maps, [1.1, 2.0, 1.0, 1.0]), (network.reverse_maps, [1.1, 1.0, 0.5, 0.5])):
        for g_a in maps.attend:
            assert isinstance(g_a, ClampedAsymmetricGaussian)
            assert [p.item() for p in g_a.parameters()] == pytest.approx(start)


def test_release_has_the_tables_parameters_without_norms_and_with_a_fourth_channel():
    with torch.device("meta"):
        network = released_lbam()
    assert parameters(network) == 16 * (ENCODER + 64 + ENCODER + REVERSE + DECODER) + (7 + 6) * G_A


def test_network_takes_edges_if_a_part_does():
    def takes(**parts):
        return LBAM(width=1 / 8, levels=3, **parts).takes_edges

    assert not takes()
    assert not takes(forward_maps=unlearned_maps, reverse_maps=NoMaps)
    assert not released_lbam(width=1 / 8, levels=3).takes_edges
    for maps in (edge_guided_maps, edge_concatenated_maps):
        assert takes(forward_maps=maps)
        assert takes(reverse_maps=maps)
    assert takes(inputs=IMAGE_MASK_AND_EDGES)
    assert released_edge_lbam_unet(width=1 / 8, levels=3).takes_edges


@pytest.mark.parametrize(
    "parts", [{"inputs": IMAGE_MASK_AND_EDGES}, {"forward_maps": edge_guided_maps}], ids=["inputs", "forward_maps"]
)
def test_missing_edges_error_has_advice(parts):
    with pytest.raises(InputError, match=r"requires edges .* use EdgeLBAM"):
        LBAM(width=1 / 8, levels=3, **parts)(*make_inputs())


@pytest.mark.parametrize("part", ["image", "mask", "edges"])
def test_every_input_of_released_edge_lbam_affects_prediction(part):
    image, mask = make_inputs()
    given = {"image": image, "mask": mask, "edges": torch.rand(mask.shape, generator=torch.Generator().manual_seed(4))}
    network = randomise(
        released_edge_lbam_unet(width=1 / 8, levels=3, forward_maps=learnable_maps, reverse_maps=NoMaps)
    )
    with torch.no_grad():
        assert not torch.equal(network(**given).prediction, network(**given | {part: 1 - given[part]}).prediction)


def leaves(node, path=""):
    if not isinstance(node, dict):
        return {path: node}
    return {key: v for name, child in node.items() for key, v in leaves(child, f"{path}.{name}").items()}


ATTEND = ("_target_", "_partial_", "a", "mu", "gamma_l", "gamma_r")


def test_printed_config_changes_only_initial_values(composed):
    default, printed = (composed(f"model={name}").model for name in ("lbam", "lbam_printed"))
    before, after = (leaves(OmegaConf.to_container(node, resolve=True)) for node in (default, printed))
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == {
        ".name",
        *(f".network.{start}.{key}" for start in ("start", "upsampling_start") for key in ("_target_", "_partial_")),
        *(f".network.{side}_maps.attend.{key}" for side in ("forward", "reverse") for key in ATTEND),
    }  # fmt: skip
    torch.manual_seed(0)
    network = instantiate(printed.network)
    for maps in (network.forward_maps, network.reverse_maps):
        for g_a in maps.attend:
            assert [p.item() for p in g_a.parameters()] == pytest.approx([1.1, 2.0, 1.0, 1.0])
    for layer in (network.encoder_convs[3], network.decoder_deconvs[-1]):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_release_config_matches_released_network_and_overrides_only_differences(composed):
    paper, release = (composed(f"model={name}").model for name in ("lbam", "lbam_release"))
    before, after = (leaves(OmegaConf.to_container(node, resolve=True)) for node in (paper, release))
    differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    maps = (".network.forward_maps.", ".network.reverse_maps.")  # their parts: attend and start
    assert {key for key in differing if not key.startswith(maps)} == {
        ".name", ".network._target_", ".batch_size", ".learning_rates.discriminator", ".training.optimizer.betas",
        ".training.optimizer.eps", ".training.critic_optimizer.betas",
    }  # fmt: skip
    torch.manual_seed(0)
    configured = instantiate(release.network)
    torch.manual_seed(0)
    by_hand = released_lbam(width=1 / 8, levels=4)
    assert str(configured) == str(by_hand)
    assert all(torch.equal(t, by_hand.state_dict()[key]) for key, t in configured.state_dict().items())
