"""Named protocols: what they fix, and the masks that they freeze."""

import logging

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from src.common.errors import InputError
from src.data.transforms import apply_transform
from src.evaluation.protocols import Protocol
from src.evaluation.records import read_records
from src.evaluation.scoring import evaluate, evaluation_table
from src.make_masks import make_masks
from src.masks.bank import MaskBank
from tests.conftest import CONF

NAMES = sorted(path.stem for path in (CONF / "protocol").glob("*.yaml"))
OF_FILES = {"nvidia_bins", "zits_1k"}
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def configs():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return {name: compose("make_masks", [f"protocol={name}"]) for name in NAMES}


@each
def test_every_protocol_is_complete(configs, name):
    protocol = Protocol.of_config(configs[name])
    assert protocol.name == name
    crop = apply_transform(
        instantiate(configs[name].protocol.transform), np.zeros((600, 530, 3), np.uint8), np.random.SeedSequence(0)
    )
    assert crop.shape == (*protocol.size, 3)
    assert ("generator" in protocol.masks) == (name not in OF_FILES)


@pytest.mark.parametrize("name", sorted(set(NAMES) - OF_FILES))
def test_masks_are_the_pinned_ones(configs, name, caplog):
    """If this fails, results on the protocol can't be compared mask by mask with earlier ones: announce the change."""
    with caplog.at_level(logging.WARNING):
        bank = Protocol.of_config(configs[name]).bank(images=2)
    assert not caplog.records
    assert bank.per_bin == (1 if name == "center_128" else 2)
    for b, (low, high) in enumerate(bank.bins):
        assert all(low < 1 - bank.mask(b, k).mean() <= high for k in range(bank.per_bin))


def test_other_masks_than_the_pinned_ones_are_reported(configs, caplog):
    cfg = OmegaConf.merge(configs["center_128"], {"protocol": {"masks": {"first_hash": "0" * 64}}})
    with caplog.at_level(logging.WARNING):
        Protocol.of_config(cfg).bank(images=1)
    assert "not mask by mask" in caplog.text


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("lama_256_thin", (30000, 1, 1)),
        ("papers", (None, 6, 1)),
        ("nvidia_bins", (None, 6, 1)),
        ("zits_1k", (1000, 1, 1)),
    ],
)
def test_numbers_of_images_bins_and_masks(configs, name, counts):
    masks = configs[name].protocol.masks
    assert (configs[name].protocol.images, len(masks.bins), masks.per_image) == counts


def test_files_are_taken_by_name(configs, tmp_path):
    for k in range(4):  # the ratios 0.05, 0.15, 0.05, 0.15: two masks for each of two bins
        hole = np.zeros((20, 20), np.uint8)
        hole[:, : 1 + 2 * (k % 2)] = 255
        Image.fromarray(np.roll(hole, k, axis=1)).save(tmp_path / f"{k}.png")
    changes = {"root": str(tmp_path), "bins": [[0.0, 0.1], [0.1, 0.2]], "count": 2}
    cfg = OmegaConf.merge(configs["nvidia_bins"], {"protocol": {"size": 20, "masks": changes}})
    bank = Protocol.of_config(cfg).bank(images=1)
    assert [int((1 - bank.mask(b, k)).argmax(axis=1)[0]) for b in (0, 1) for k in (0, 1)] == [0, 2, 1, 3]
    cfg.protocol.masks.count = 3
    with pytest.raises(InputError, match=r"has 2 masks with a hole ratio in \(0,0.1\] at 20x20.*expected at least 3"):
        Protocol.of_config(cfg).bank(images=1)
    with pytest.raises(InputError, match=r"nvidia_bins needs files of masks: set protocol\.masks\.root"):
        Protocol.of_config(configs["nvidia_bins"]).bank(images=1)


def test_bicubic_crop_equals_pillow_and_pads_reflect(configs):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 421, 3), dtype=np.uint8)
    seed = np.random.SeedSequence(0)
    crop = apply_transform(instantiate(configs["lama_256_thin"].protocol.transform), image, seed)
    resized = np.asarray(Image.fromarray(image).resize((359, 256), Image.Resampling.BICUBIC))
    assert (crop == resized[:, 51 : 51 + 256]).all()
    padded = apply_transform(instantiate(configs["mat_256_small"].protocol.transform), image[:250], seed)
    assert (padded[:250] == image[:250, 82 : 82 + 256]).all()
    assert (padded[250:] == image[244:250, 82 : 82 + 256][::-1]).all()


def test_evaluation_on_a_protocol(composed, tmp_path):
    overrides = [
        "protocol=center_128",
        "set_scores=false",
        "model=mean_colour",
        f"output_dir={tmp_path / 'scores'}",
        "scale=smoke",
    ]
    cfg = composed(*overrides, config="evaluate")
    path = evaluate(cfg)
    records, provenance = read_records(path)
    assert set(records["hole_ratio"]) == {0.25}
    assert provenance.config["protocol"]["name"] == "center_128"
    assert provenance.data["test_size"] == [256, 256]
    bank = MaskBank.load(path.with_name("bank.npz"))
    assert provenance.mask_bank_hash == bank.hash
    assert (1 - bank.mask(0, 0)).sum() == 128 * 128
    (note,) = (note for note in evaluation_table(cfg, path).notes if "Protocol" in note)
    count = records["path"].nunique()
    assert note.startswith(f"Protocol center_128: {count} images of the 36500 of the protocol; its authors'")


@pytest.mark.parametrize("override", ["test_size=64", "mask=strokes", "data.transforms.evaluation.image_size=64"])
def test_options_that_a_protocol_fixes_are_rejected(override):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", ["protocol=papers", "model=telea", override], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    try:
        with pytest.raises(InputError, match=rf"protocol=papers fixes mask, bank.*but got {override}: leave"):
            evaluate(cfg)
    finally:
        HydraConfig.instance().cfg = None


def test_make_masks_writes_the_bank_of_a_protocol(tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("make_masks", ["protocol=lama_256_thin", "per_bin=8", f"output={tmp_path / 'bank.npz'}"])
    bank, path = make_masks(cfg)
    assert MaskBank.load(path).hash == bank.hash == cfg.protocol.masks.first_hash
    assert bank.size == (256, 256)
