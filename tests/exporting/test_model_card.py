"""Model cards: their content, and their code runs."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import instantiate
from PIL import Image

from src.checkpoints.reading import Checkpoint
from src.exporting.directory import ExportContents, write_export
from src.exporting.graph import Graph
from src.exporting.model_card import WeightsOrigin, model_card, read_citation
from src.networks.edge_lbam import EdgeLBAM
from src.networks.layers.edge_guided_maps import edge_guided_maps
from src.networks.lbam import LBAM
from src.networks.mecnet import MECNet
from src.networks.mpga_gla import MPGAGLA
from src.networks.pconv import PConv

ROOT = Path(__file__).parents[2]
CONFIG = {
    "model": {"name": "pconv", "network": {"_target_": "src.networks.pconv.PConv", "width": 0.02, "levels": 2}},
    "data": {"name": "photos", "root": "/home/somebody/photos"},
    "mask": {"name": "random_shapes"},
    "scale": {"name": "smoke", "image_size": 64},
    "batch_size": 2,
    "accumulate": 3,
    "seed": 0,
}


EDGE_MAPS = {"_target_": "src.networks.layers.edge_guided_maps.edge_guided_maps", "_partial_": True}
EDGE_LBAM = {
    "_target_": "src.networks.edge_lbam.EdgeLBAM",
    "completion": {"_target_": "src.networks.mecnet.MECNet", "width": 0.02, "scales": 2, "blocks": 1},
    "unet": {
        "_target_": "src.networks.lbam.LBAM", "width": 0.02, "levels": 2,
        "forward_maps": EDGE_MAPS, "reverse_maps": EDGE_MAPS,
    },
}  # fmt: skip


def origin(name="pconv", **more):
    config = {**CONFIG, "model": {**CONFIG["model"], "name": name}}
    return WeightsOrigin(config, 7, "ab" * 32, "abcdef", **more)


def card(network, from_, files=None):
    return model_card(network, Graph(network), None, files or {}, from_, "mit")


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_card_has_front_matter_training_facts_and_citation():
    text = card(PConv(0.02, 2), origin(psnr=21.5))
    about = front_matter(text)
    assert (about["license"], about["library_name"], about["pipeline_tag"]) == (
        "mit",
        "inpainting-suite",
        "image-to-image",
    )
    assert about["model-index"][0]["results"][0]["metrics"][0]["value"] == 21.5
    rows = (
        "data | photos",
        "masks | random_shapes",
        "samples per step (batch size x accumulated batches) | 2 x 3",
        "generator steps | 7",
    )
    for expected in (*rows, "seed | 0", "ab" * 32, "21.50 dB", "1 = known, 0 = hole", "liu2018pconv"):
        assert expected in text
    assert "somebody" not in text


def test_unknown_facts_are_left_out():
    text = card(PConv(0.02, 2), origin("somebodys_own"))
    assert "model-index" not in front_matter(text)
    assert "The checkpoint has no scores" in text
    assert "Citation" not in text
    imported = WeightsOrigin({"model": CONFIG["model"], "release": "pconv", "files": {}}, 0, "ab", "c")
    text = card(PConv(0.02, 2), imported)
    assert "those of the released implementation of `pconv`" in text
    assert "| data |" not in text


def test_model_name_cannot_change_the_front_matter():
    about = front_matter(card(PConv(0.02, 2), origin("x\nlicense: apache-2.0\n---")))
    assert about["license"] == "mit"


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_model_with_weights_has_a_citation(path):
    config = yaml.safe_load(path.read_text())
    assert (read_citation(path.stem) is not None) == bool({"training", "defaults"} & config.keys())


def save_image_and_mask(folder, size=(45, 70)):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    hole = np.zeros(size, np.uint8)
    hole[10:30, 20:50] = 255
    Image.fromarray(pixels).save(folder / "photo.png")
    Image.fromarray(hole).save(folder / "mask.png")
    return pixels, hole > 0


def onnx_metadata(path):
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="ONNX needs the extra `export`")
def test_code_of_the_card_runs(tmp_path, monkeypatch):
    """Edge-LBAM has most layers of the other networks; test_graphs.py translates the attention layers."""
    torch.manual_seed(0)
    checkpoint_file = tmp_path / "a.ckpt"
    checkpoint_file.write_bytes(b"x")
    config = CONFIG | {"model": {"name": "edge_lbam", "network": EDGE_LBAM}}
    checkpoint = Checkpoint(checkpoint_file, instantiate(EDGE_LBAM).eval(), config, 7)
    write_export(tmp_path / "out", checkpoint, ExportContents(formats=("onnx", "torch")))
    assert onnx_metadata(tmp_path / "out" / "model.onnx")["step"] == "7"
    pixels, hole = save_image_and_mask(
        tmp_path / "out", (48, 64)
    )  # multiples of the stride, as edges depend on padding
    with_suite, *without_suite = blocks((tmp_path / "out" / "README.md").read_text())
    monkeypatch.chdir(tmp_path / "out")
    for code in (with_suite, "\n".join(without_suite)):
        exec(code, {})
    filled, by_graph = (
        np.asarray(Image.open(tmp_path / "out" / f)) for f in ("inpainted.png", "inpainted_by_graph.png")
    )
    assert np.array_equal(filled[~hole], pixels[~hole])
    assert np.abs(filled.astype(int) - by_graph).max() <= 1
    assert not np.array_equal(filled[hole], pixels[hole])


def test_edge_code_of_the_card_matches_the_network(tmp_path, monkeypatch):
    network = EdgeLBAM(MECNet(0.02, scales=2, blocks=1), LBAM(0.02, 2, edge_guided_maps, edge_guided_maps))
    written = {"torch": type("W", (), {"name": "model.pt2", "difference": 0.0, "sizes": ((1, 2, 3),)})}
    text = card(network, origin("edge_lbam"), written)
    assert "may differ near the right and bottom border" in text
    pixels, hole = save_image_and_mask(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    (block,) = (block for block in blocks(text) if "canny(" in block)
    exec(block, names)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    known = network.canny.known_edges(image, torch.from_numpy(~hole)[None, None].float())
    assert known.sum() > 0
    assert np.array_equal(names["inputs"]["edges"], known.numpy())


def test_memory_of_attention_scores_is_a_limit():
    written = {"onnx": type("W", (), {"name": "model.onnx", "difference": 0.0, "sizes": ((1, 2, 3),)})}
    assert "64 MiB each for an image of 256 x 256 px and 1,024 MiB" in card(MPGAGLA(0.02), origin("mpga_gla"), written)
    assert "full matrix" not in card(MPGAGLA(0.02), origin("mpga_gla"))
