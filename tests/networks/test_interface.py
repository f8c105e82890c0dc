"""The interface, tested for all methods: NETWORKS and every further config of conf/model."""

import subprocess
import sys
from copy import deepcopy
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn
from torch.testing import assert_close

from src.networks.classical import Biharmonic, MeanColour, NavierStokes, PatchMatch, Telea, has_patchmatch
from src.networks.contextual_attention import (
    CoarseOnly,
    CoarseToFine,
    EncoderDecoder,
    TwoBranch,
    released_contextual_attention,
)
from src.networks.edge_lbam import EdgeCompletion, EdgeLBAM
from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite
from src.networks.layers.attention_map import NoMaps, learnable_maps, unlearned_maps
from src.networks.layers.canny import RELEASED_CANNY
from src.networks.layers.contextual_attention import ContextualAttention
from src.networks.layers.edge_guided_maps import edge_concatenated_maps, edge_guided_maps
from src.networks.layers.warping import Convolution, appearance_flow, spatial_transformer
from src.networks.lbam import LBAM, released_edge_lbam_unet, released_lbam
from src.networks.mecnet import MECNet
from src.networks.mpga_gla import MPGAGLA, convolution_instead, released_mpga_gla
from src.networks.pconv import PConv, released_pconv

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"

small_lbam = partial(LBAM, width=1 / 8, levels=4)


def lbam_with(**parts):
    maps = partial(learnable_maps, **parts)
    return partial(small_lbam, forward_maps=maps, reverse_maps=maps)


def edge_lbam(forward_maps, reverse_maps, **completion):
    return lambda: EdgeLBAM(
        MECNet(width=1 / 8, blocks=2, **completion), small_lbam(forward_maps=forward_maps, reverse_maps=reverse_maps)
    )


def attending(attention):
    return partial(CoarseToFine, width=1 / 8, refinement=partial(TwoBranch, attention=attention))


NETWORKS = {
    "lbam": small_lbam,
    "lbam_unlearned": partial(small_lbam, forward_maps=unlearned_maps, reverse_maps=unlearned_maps),
    "lbam_forward": partial(small_lbam, reverse_maps=NoMaps),
    "lbam_sigmoid": lbam_with(attend=nn.Sigmoid),
    "lbam_lrelu": lbam_with(attend=partial(nn.LeakyReLU, 0.2)),
    "lbam_relu": lbam_with(attend=nn.ReLU),
    "lbam_3x3": lbam_with(kernel_size=3),
    "lbam_release": partial(released_lbam, width=1 / 8, levels=4),
    "pconv": partial(PConv, width=1 / 8, levels=4),
    "pconv_release": partial(released_pconv, width=1 / 8, levels=4),
    "contextual_attention": partial(CoarseToFine, width=1 / 8),
    "contextual_attention_full_size": attending(partial(ContextualAttention, downscale=1)),
    "contextual_attention_stn": attending(spatial_transformer),
    "contextual_attention_flow": attending(appearance_flow),
    "contextual_attention_convolution": attending(Convolution),
    "contextual_attention_baseline": partial(CoarseToFine, width=1 / 8, refinement=EncoderDecoder),
    "contextual_attention_coarse": partial(CoarseOnly, width=1 / 8),
    "contextual_attention_release": partial(released_contextual_attention, width=1 / 8),
    "mpga_gla": partial(MPGAGLA, width=1 / 8),
    "mpga_gla_release": partial(released_mpga_gla, width=1 / 8),
    "mpga_gla_without_mpga": partial(MPGAGLA, width=1 / 8, coarse_attention=convolution_instead),
    "mpga_gla_without_gla": partial(MPGAGLA, width=1 / 8, refinement_attention=convolution_instead),
    "edge_lbam": edge_lbam(edge_guided_maps, edge_guided_maps),
    "edge_lbam_release": lambda: EdgeLBAM(MECNet(1 / 8), released_edge_lbam_unet(1 / 8, 4), RELEASED_CANNY),
    "edge_lbam_concatenated": edge_lbam(edge_concatenated_maps, edge_concatenated_maps),
    "edge_lbam_one_scale": edge_lbam(edge_guided_maps, edge_guided_maps, scales=1),
}
WITHOUT_WEIGHTS = {"mean_colour": MeanColour, "telea": Telea, "navier_stokes": NavierStokes, "biharmonic": Biharmonic}
WITHOUT_WEIGHTS |= {"patchmatch": PatchMatch} if has_patchmatch() else {}
PAINTS_NOTHING = {
    "mecnet_release": lambda: EdgeCompletion(MECNet(width=1 / 8, blocks=2)),
    "edge_connect_edges_release": lambda: EdgeCompletion(MECNet(width=1 / 8, scales=1, blocks=2)),
}


def configured(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose("evaluate", [f"model={name}", "scale=smoke"]).model.network)


NEW = {path.stem for path in (CONF / "model").glob("*.yaml")} - {
    *NETWORKS,
    *WITHOUT_WEIGHTS,
    *PAINTS_NOTHING,
    "patchmatch",
}
NETWORKS |= {name: partial(configured, name) for name in sorted(NEW)}  # new models are tested, too
WITH_WEIGHTS = list(NETWORKS)
NETWORKS |= PAINTS_NOTHING | WITHOUT_WEIGHTS


def build(name: str) -> InpaintingNetwork:
    """Return a copy of the network in eval mode, with batch norm statistics of one batch."""
    return deepcopy(_build_once(name))


@cache
def _build_once(name: str) -> InpaintingNetwork:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network(*make_inputs())
    return network.eval()


def make_inputs(height: int = 48, width: int = 64, count: int = 2):
    """Return smooth images with a hole in the middle and one at the border."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, 3, height, width, generator=generator)
    mask = torch.ones(count, 1, height, width)
    mask[..., height // 4 : -(height // 4) or None, width // 4 : width // 2 + 1] = 0
    mask[-1, :, : height // 3 + 1] = 0
    return image, mask


def mean_square_of_parts(output: InpaintingOutput) -> torch.Tensor:
    """Return a loss that reaches the layers of results besides the prediction; 0 if there are none."""
    return sum(((part - 0.3).square().mean() for part in output.parts.values()), torch.zeros(()))


def used_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a call; PICNet's posterior sees the true image, so it is used in training only."""
    return [p for name, p in network.named_parameters() if not name.startswith("posterior.")]


@pytest.mark.parametrize("name", NETWORKS)
def test_hole_pixels_are_never_read(name):
    network, (image, mask) = build(name), make_inputs()
    with torch.no_grad():
        expected = network(image, mask).prediction
        for poison in (float("nan"), float("inf"), 1e30):
            assert torch.equal(network(torch.where(mask > 0, image, poison), mask).prediction, expected)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_nan_in_holes_gives_finite_gradients(name):
    network, (image, mask) = build(name).train(), make_inputs()
    poisoned = torch.where(mask > 0, image, torch.nan).requires_grad_()
    output = network(poisoned, mask)
    (composite(image, mask, output).square().mean() + mean_square_of_parts(output)).backward()
    assert all(p.grad.isfinite().all() for p in (poisoned, *used_parameters(network)))
    assert (poisoned.grad.masked_select(mask == 0) == 0).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_equals_its_images_one_by_one(name):
    network, (image, mask) = build(name), make_inputs(count=3)
    with torch.no_grad():
        batch = network(image, mask).prediction
        singles = [network(image[i : i + 1], mask[i : i + 1]).prediction for i in range(3)]
    assert_close(batch, torch.cat(singles), atol=5e-5, rtol=0)  # a batch can be convolved in another order


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (5, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_gives_a_prediction_of_that_size_in_range(name, size):
    network, (image, mask) = build(name), make_inputs(*size)
    with torch.no_grad():
        output = network(image, mask)
    assert output.prediction.shape == image.shape
    assert output.prediction.dtype == torch.float32
    assert output.prediction.min() >= 0
    assert output.prediction.max() <= 1


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_padding_repeats_the_border(name):
    network, (image, mask) = build(name), make_inputs(50, 37)
    padding = (0, -37 % network.stride, 0, -50 % network.stride)
    by_hand = [nn.functional.pad(t, padding, mode="replicate") for t in (image, mask)]
    assert padding[1] > 0
    with torch.no_grad():
        assert torch.equal(network(image, mask).prediction, network(*by_hand).prediction[..., :50, :37])


@pytest.mark.parametrize("known", [0.0, 1.0], ids=["all hole", "all known"])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_known_and_all_hole_give_finite_predictions_and_gradients(name, known):
    network, (image, _) = build(name), make_inputs()
    for training in (False, True) if name in WITH_WEIGHTS else (False,):
        output = network.train(training)(image, torch.full_like(image[:, :1], known))
        prediction = output.prediction
        assert 0 <= prediction.min() <= prediction.max() <= 1
        if name in WITH_WEIGHTS:
            network.zero_grad()
            ((prediction - 0.3).square().mean() + mean_square_of_parts(output)).backward()
            assert all(p.grad.isfinite().all() for p in used_parameters(network))


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_returned_on_request_and_change_nothing(name):
    network, (image, mask) = build(name), make_inputs()
    with torch.no_grad():
        without, asked = network(image, mask), network(image, mask, maps=True)
        again = network(image, mask)
    assert without.maps == again.maps == {}
    assert set(asked.maps) == set(network.map_layers())
    assert all(m.ndim == 4 and len(m) in (1, len(image)) and m.isfinite().all() for m in asked.maps.values())
    assert torch.equal(without.prediction, asked.prediction)


@pytest.mark.parametrize(
    ("image", "mask", "edges", "word"),
    [
        ((3, 16, 16), (1, 16, 16), None, "image"),
        ((1, 1, 16, 16), (1, 1, 16, 16), None, "image"),
        ((1, 3, 16, 16), (1, 3, 16, 16), None, "mask"),
        ((1, 3, 16, 16), (1, 1, 16, 8), None, "mask"),
        ((2, 3, 16, 16), (1, 1, 16, 16), None, "mask"),
        ((1, 3, 16, 16), (16, 16), None, "mask"),
        ((1, 3, 16, 16), (1, 1, 16, 16), (1, 3, 16, 16), "edges"),
    ],
)
def test_wrong_shape_error_names_argument(image, mask, edges, word):
    with pytest.raises(ValueError, match=f"^{word} must be"):
        MeanColour()(torch.rand(image), torch.ones(mask), None if edges is None else torch.rand(edges))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_do_not_override_the_validation(name):
    assert type(_build_once(name)).forward is InpaintingNetwork.forward


@pytest.mark.parametrize("name", NETWORKS)
def test_input_is_not_modified(name):
    network, (image, mask) = build(name), make_inputs()
    copies = image.clone(), mask.clone()
    with torch.no_grad():
        network(image, mask)
    assert torch.equal(image, copies[0])
    assert torch.equal(mask, copies[1])


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_optimiser_step_changes_every_filter(name):
    network, (image, mask) = build(name).train(), make_inputs()
    before = {key: p.detach().clone() for key, p in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    output = network(image, mask)
    ((output.prediction - image).abs().mean() + mean_square_of_parts(output)).backward()
    optimiser.step()
    unmoved = {key for key, p in network.named_parameters() if torch.equal(p, before[key])}
    # g_A's right side has no effect in levels without windows that are known enough to reach mu; a spatial transformer
    # starts at the identity; the release of MPGA/GLA multiplies every score that it uses by 0. PICNet's attention
    # starts with the factor 0.
    without_gradient = {"contextual_attention_stn": (".localisation.",), "mpga_gla_release": (".query.", ".key.")}
    without_gradient |= dict.fromkeys(("picnet", "picnet_release"), (".attention.query.", "posterior."))
    excused = without_gradient.get(name, ())
    assert [key for key in unmoved if not key.endswith("gamma_r") and not any(part in key for part in excused)] == []


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_state_dict_is_complete(name):
    torch.manual_seed(2)
    first, second, (image, mask) = build(name), NETWORKS[name]().eval(), make_inputs()
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first(image, mask).prediction, second(image, mask).prediction)


def test_composite_reads_only_known_pixels_of_the_image():
    image, mask = make_inputs()
    prediction = torch.full_like(image, 0.25)
    pasted = composite(torch.where(mask > 0, image, torch.nan), mask, InpaintingOutput(prediction))
    assert torch.equal(pasted, image * mask + prediction * (1 - mask))


def test_networks_and_losses_import_only_torch():
    names = {file.stem for file in (ROOT / "src" / "networks").glob("*.py")} - {"__init__", "classical"}
    networks = ", ".join(f"src.networks.{name}" for name in sorted(names))
    # src.losses.structural needs kornia, so it is left out, as src.networks.classical
    losses = "weighted_sum", "features", "perceptual", "reconstruction", "edges"
    others = ", ".join([*(f"src.losses.{name}" for name in losses), "src.networks.discriminators.whole_image"])
    script = (
        "import sys, torch, src\n"  # modules that the package itself loads do not count
        "before = set(sys.modules)\n"
        f"import {networks}\n"
        "ours = {name for name in sys.modules if name.startswith('src.') and 'networks' not in name}\n"
        "print(*sorted(ours - {'src.common', 'src.common.errors', 'src.common.distributed'}))\n"
        f"import {others}, src.networks.discriminators.patches\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(roots - {'torch', 'src'} - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
