"""`load` and `Inpainter`: types of images, masks and edges, and error messages."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import ExifTags, Image

from src.checkpoints.export_directory import write_export_directory
from src.common.errors import InputError
from src.networks.classical import has_patchmatch
from src.prediction import Inpainter, Reduced, Tiled, Whole, list_classical_methods, load
from src.prediction.loading import load_methods
from tests.commands import ROOT

HOLE = np.zeros((48, 64), np.uint8)
HOLE[10:30, 20:50] = 255
KNOWN = HOLE == 0
PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def telea():
    return load("telea", device="cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of an untrained Edge-LBAM."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", ["model=edge_lbam", "scale=smoke", "output_dir=none"])
    config = {"model": {"name": "edge_lbam", "network": OmegaConf.to_container(composed.model.network, resolve=True)}}
    torch.manual_seed(0)
    network = instantiate(config["model"]["network"])
    state = {f"network.{name}": t for name, t in network.state_dict().items()}
    folder = tmp_path_factory.mktemp("edge_lbam")
    torch.save({"state_dict": state, "config": config, "global_step": 1}, folder / "e.ckpt")
    write_export_directory(folder / "exported", network, config, {})
    return folder / "e.ckpt"


@pytest.fixture(scope="module")
def edge_lbam(checkpoint):
    return load(checkpoint, device="cpu")


# Loading


def test_a_network_of_the_hub_is_downloaded(checkpoint, edge_lbam, monkeypatch):
    monkeypatch.setattr("src.checkpoints.hub.snapshot_download", lambda name, **how: checkpoint.with_name("exported"))
    for methods in (
        load("hf://user/name", device="cpu"),
        *load_methods("hf://user/name", None, "cpu", Whole()).values(),
    ):
        assert np.array_equal(methods(PHOTO, KNOWN), edge_lbam(PHOTO, KNOWN))


def test_methods_are_loaded_by_name_from_checkpoints_and_from_export_directories(checkpoint, edge_lbam):
    assert list_classical_methods() == ("biharmonic", "mean_colour", "navier_stokes", "patchmatch", "telea")
    for name in set(list_classical_methods()) - ({"patchmatch"} if not has_patchmatch() else set()):
        assert load(name, device="cpu").name == name
    exported = load(str(checkpoint.with_name("exported")), device="cpu")
    assert exported.name == edge_lbam.name == "edge_lbam"
    assert np.array_equal(exported(PHOTO, KNOWN), edge_lbam(PHOTO, KNOWN))
    assert not any(module.training for module in edge_lbam.network.modules())


def test_unknown_methods_and_devices_are_errors(tmp_path):
    with pytest.raises(InputError, match=r"lbam: no such checkpoint, and not a classical method \(biharm"):
        load("lbam")
    with pytest.raises(InputError, match="telea"):  # a Path is never a name
        load(tmp_path / "telea")
    with pytest.raises(InputError, match="device=cuda is unavailable"):
        load("telea", device="cuda")


# Types


def test_arrays_tensors_and_pil_images_have_equal_results_and_keep_their_type(telea):
    array = telea(PHOTO, KNOWN)
    assert array.dtype == np.uint8
    assert np.array_equal(array[KNOWN], PHOTO[KNOWN])
    assert (array[~KNOWN] != PHOTO[~KNOWN]).any()
    image = telea(Image.fromarray(PHOTO), Image.fromarray(HOLE))
    assert np.array_equal(np.asarray(image), array)
    for dtype in (np.float32, np.float64):
        unit = (PHOTO / 255).astype(dtype)
        filled = telea(unit, KNOWN)
        assert filled.dtype == dtype
        assert np.array_equal(filled[KNOWN], unit[KNOWN])  # bit for bit, in double precision too
        assert np.array_equal(np.rint(filled * 255).astype(np.uint8), array)
    tensor = torch.from_numpy(PHOTO).permute(2, 0, 1) / 255
    for tensor_or_batch, mask in (
        (tensor, torch.from_numpy(KNOWN)),
        (tensor[None], torch.from_numpy(KNOWN)[None, None].int()),
    ):
        filled = telea(tensor_or_batch, mask)
        assert filled.shape == tensor_or_batch.shape
        assert np.array_equal((filled.reshape(3, 48, 64) * 255).round().byte().permute(1, 2, 0).numpy(), array)
    assert telea(tensor.double(), KNOWN).dtype == torch.double
    filled.requires_grad_().sum().backward()  # not an inference tensor


def test_the_mask_may_have_another_type_than_the_image(telea):
    wanted = telea(PHOTO, KNOWN)
    masks = [
        Image.fromarray(HOLE),
        Image.fromarray(HOLE > 0),
        KNOWN.astype(float),
        KNOWN[..., None],
        torch.from_numpy(KNOWN)[None],
        KNOWN[::-1][::-1],
    ]
    for mask in masks:
        assert np.array_equal(telea(PHOTO, mask), wanted)
    assert np.array_equal(telea(PHOTO, Image.fromarray(255 - HOLE), hole="black"), wanted)
    assert np.array_equal(telea(PHOTO[::-1], KNOWN[::-1])[KNOWN[::-1]], PHOTO[::-1][KNOWN[::-1]])


def test_a_batch_has_one_mask_per_image(telea):
    images = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    masks = torch.ones(2, 1, 20, 30)
    masks[0, ..., :9, :9] = masks[1, ..., 11:, 11:] = 0
    filled = telea(images, masks)
    for one, image, mask in zip(filled, images, masks, strict=True):
        assert torch.equal(one, telea(image, mask))
    with pytest.raises(InputError, match=r"the mask must be \(2, 1, 20, 30\), got \(1, 20, 30\)"):
        telea(images, masks[0])


def test_a_pil_image_keeps_its_mode_transparency_profile_and_orientation(telea):
    turned = Image.fromarray(PHOTO.transpose(1, 0, 2))
    turned.putalpha(130)
    exif = turned.getexif()
    exif[ExifTags.Base.Orientation] = 6
    turned.info["icc_profile"] = b"broken"
    filled = telea(turned, Image.fromarray(HOLE))  # oriented as viewers show it
    assert (filled.mode, filled.size) == ("RGBA", turned.size)
    assert filled.getexif()[ExifTags.Base.Orientation] == 6
    assert filled.info["icc_profile"] == b"broken"
    assert np.array_equal(np.asarray(filled)[..., 3], np.asarray(turned)[..., 3])
    before, after = (np.rot90(np.asarray(image), -1) for image in (turned, filled))
    assert np.array_equal(before[KNOWN], after[KNOWN])
    assert (before[~KNOWN] != after[~KNOWN]).any()


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (PHOTO, HOLE, r"must contain only 1 \(known\) and 0 \(hole\), got 255: .*mask = values < 128"),
        (PHOTO, KNOWN[:, :9], r"the mask has size \(48, 9\) but the image has size \(48, 64\), both as"),
        (PHOTO, np.stack([KNOWN] * 3), r"the mask must be \(48, 64\) or \(1, 48, 64\) or"),
        (PHOTO, Image.new("L", (9, 9)), r"the mask has size \(9, 9\) but the image has size \(48, 64\)"),
        (PHOTO, Image.fromarray(PHOTO), "the mask: is not a mask: .*neither black nor white"),
        (PHOTO, "mask.png", "the mask must be a PIL image, a NumPy array or a tensor, got str"),
        ("photo.png", KNOWN, "the image must be a PIL image, a NumPy array or a tensor, got str"),
        (PHOTO[..., 0], KNOWN, r"must be \(H, W, 3\), got \(48, 64\)"),
        (PHOTO.astype(int), KNOWN, "must be uint8, or floating point"),
        (PHOTO.astype(float), KNOWN, r"known pixels of the image must be in \[0, 1\]"),
        (torch.zeros(48, 64, 3), KNOWN, r"must be \(3, H, W\) or \(B, 3, H, W\), got \(48, 64, 3\)"),
        (torch.zeros(3, 48, 64, dtype=torch.uint8), KNOWN, "must be floating point"),
        (Image.new("F", (64, 48)), KNOWN, "the image: mode F does not define"),
    ],
)
def test_invalid_images_and_masks_are_errors(telea, image, mask, message):
    with pytest.raises(InputError, match=message):
        telea(image, mask)


def test_invalid_colours_are_errors(telea, edge_lbam):
    with pytest.raises(InputError, match="hole must be 'white', 'black' or 'transparent', got 'grey'"):
        telea(PHOTO, Image.fromarray(HOLE), hole="grey")
    with pytest.raises(InputError, match="lines must be 'white' or 'black', got 'red'"):
        edge_lbam(PHOTO, KNOWN, Image.fromarray(HOLE), lines="red")


# Sizes, edges, figures


def test_the_size_strategy_is_used():
    whole = load("mean_colour", device="cpu")(PHOTO, KNOWN)
    for size in (Tiled(40, 8), Reduced(24)):
        filled = load("mean_colour", device="cpu", size=size)(PHOTO, KNOWN)
        assert np.array_equal(filled[KNOWN], PHOTO[KNOWN])
        assert (filled != whole).any()


def test_predicted_edges_can_be_replaced(telea, edge_lbam):
    own = edge_lbam.predict_edges(PHOTO, KNOWN)
    assert (own.mode, own.size) == ("L", (64, 48))
    assert set(np.unique(np.asarray(own)[KNOWN])) <= {0, 255}  # only predicted edges are grey
    drawn = np.where(HOLE > 0, 255 * (np.arange(48)[:, None] == 20), 0).astype(np.uint8)
    filled = edge_lbam(PHOTO, KNOWN, Image.fromarray(drawn))
    shown = torch.from_numpy(PHOTO).permute(2, 0, 1) / 255  # in floats, as 8 bits may hide it for an untrained network
    assert not torch.equal(edge_lbam(shown, KNOWN, drawn / 255), edge_lbam(shown, KNOWN))
    for edges in (drawn / 255, torch.from_numpy(drawn > 0), Image.fromarray(255 - drawn)):
        lines = "black" if isinstance(edges, Image.Image) else "white"
        assert np.array_equal(edge_lbam(PHOTO, KNOWN, edges, lines=lines), filled)
    assert telea.predict_edges(PHOTO, KNOWN) is None
    with pytest.raises(InputError, match="telea takes no edges: leave them out, or use edge_lbam"):
        telea(PHOTO, KNOWN, drawn / 255)
    with pytest.raises(InputError, match=r"edges must be in \[0, 1\]"):
        edge_lbam(PHOTO, KNOWN, drawn)


def test_figures_show_the_image_as_the_network_sees_it(telea, edge_lbam):
    assert telea.draw_figures(PHOTO, KNOWN) == {}
    grids = edge_lbam.draw_figures(PHOTO, KNOWN)
    assert {"attention_maps", "updated_masks", "features", "edges"} == set(grids)
    reduced = Inpainter("edge_lbam", edge_lbam.network, edge_lbam.device, Reduced(16))
    assert reduced.predict_edges(PHOTO, KNOWN).size == (64, 48)
    row = reduced.draw_figures(PHOTO, KNOWN)["edges"].rows[0][0].pixels[0, :, 0]
    assert len(np.unique(row)) <= 16 < len(np.unique(grids["edges"].rows[0][0].pixels[0, :, 0]))
