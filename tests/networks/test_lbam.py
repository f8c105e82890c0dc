import pytest
import torch
from torch import nn
from torch.testing import assert_close

from src.networks.layers.attention_map import NoMaps, unlearned_maps
from src.networks.lbam import LBAM


def pictures():
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(2, 3, 48, 64, generator=generator), torch.ones(2, 1, 48, 64)
    mask[..., 12:36, 20:50] = 0
    return image, mask


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Supplement Table 2, all filters 4x4 without bias. In channels times out channels, each to be taken 16 times:
ENCODER = 3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 3 * 512 * 512  # layers 1-1 to 7-1
REVERSE = ENCODER - 512 * 512  # layers 1-3 to 6-3
DECODER = 512 * 512 + 2 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3  # 8-1 to 14-1
ENCODER_NORM = 2 * (128 + 256 + 4 * 512)  # scale and shift; layers 2 to 7
DECODER_NORM = 2 * (3 * 1024 + 512 + 256 + 128)  # layers 8 to 13, concatenated
G_A = 4


def test_full_width_has_the_tables_parameters():
    network = LBAM()
    expected = 16 * (ENCODER + ENCODER + REVERSE + DECODER) + ENCODER_NORM + DECODER_NORM + (7 + 6) * G_A
    assert parameters(network) == expected == 68_316_724
    assert parameters(network.forward_maps) == 16 * ENCODER + 7 * G_A
    assert parameters(network.reverse_maps) == 16 * REVERSE + 6 * G_A


def test_ablations_differ_from_the_full_model_by_their_maps_alone():
    backbone = 16 * (ENCODER + DECODER) + ENCODER_NORM + DECODER_NORM
    assert parameters(LBAM(forward_maps=unlearned_maps, reverse_maps=unlearned_maps)) == backbone
    assert parameters(LBAM(reverse_maps=NoMaps)) == backbone + 16 * ENCODER + 7 * G_A


def test_follows_the_table_step_by_step():
    """Table 2 written out for three levels: the maps multiply cat(deconv, encoder feature), before norm."""
    torch.manual_seed(0)
    network, (image, mask) = LBAM(width=1 / 8, levels=3).eval(), pictures()
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
    network, (image, mask) = LBAM(width=1 / 8, levels=4).eval(), pictures()
    sizes = {name: tuple(m.shape[1:]) for name, m in network(image, mask, maps=True).maps.items()}
    assert sizes == {
        "forward_1": (8, 24, 32), "forward_2": (16, 12, 16), "forward_3": (32, 6, 8), "forward_4": (64, 3, 4),
        "reverse_1": (8, 24, 32), "reverse_2": (16, 12, 16), "reverse_3": (32, 6, 8),
        "forward_mask_1": (8, 24, 32), "forward_mask_2": (16, 12, 16), "forward_mask_3": (32, 6, 8),
        "forward_mask_4": (64, 3, 4),
        "reverse_mask_1": (8, 24, 32), "reverse_mask_2": (16, 12, 16), "reverse_mask_3": (32, 6, 8),
        "encoder_feature_1": (8, 24, 32), "decoder_feature_1": (16, 24, 32),
    }  # fmt: skip


def test_forward_maps_see_the_mask_and_reverse_maps_the_hole():
    torch.manual_seed(0)
    network, (image, mask) = LBAM(width=1 / 8, levels=3).eval(), pictures()
    network.reverse_maps.load_state_dict(
        {key: v for key, v in network.forward_maps.state_dict().items() if ".2." not in key}
    )  # the same maps, so that only what they see differs
    with torch.no_grad():
        seen, opposite = (network(image, m, maps=True).maps for m in (mask, 1 - mask))
    for level in (1, 2):
        assert torch.equal(seen[f"reverse_{level}"], opposite[f"forward_{level}"])
        assert not torch.equal(seen[f"reverse_{level}"], seen[f"forward_{level}"])


@pytest.mark.parametrize(("direction", "other"), [("forward", "reverse"), ("reverse", "forward")])
def test_a_mask_filter_reaches_only_its_direction_from_its_level_on(direction, other):
    torch.manual_seed(0)
    network, (image, mask) = LBAM(width=1 / 8, levels=4).eval(), pictures()
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


def test_what_reverse_maps_shut_out_comes_from_the_encoder_alone():
    """With reverse maps of 0 the bottleneck can't matter; with ones (Ours(forward)) it does."""

    class Shut(NoMaps):
        def forward(self, mask, edges=None):
            return tuple(torch.zeros_like(m) for m in super().forward(mask, edges))

    image, mask = pictures()
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

    network, (image, mask) = LBAM(width=1 / 8, levels=3, forward_maps=Recorder, reverse_maps=Recorder), pictures()
    edges = torch.rand_like(mask)
    network(image, mask, edges)
    for maps, expected in ((network.forward_maps, mask), (network.reverse_maps, 1 - mask)):
        assert torch.equal(maps.seen[0], expected)
        assert torch.equal(maps.seen[1], edges)


def test_every_layer_owns_its_g_a():
    network = LBAM(width=1 / 8, levels=3)
    layers = (*network.forward_maps.attend, *network.reverse_maps.attend)
    assert len({id(p) for layer in layers for p in layer.parameters()}) == 5 * G_A


def test_updated_masks_and_features_are_recorded_where_they_are_made():
    torch.manual_seed(0)
    network, (image, mask) = LBAM(width=1 / 8, levels=3).eval(), pictures()
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


def test_one_level_is_refused():
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        LBAM(levels=1)
