"""Each image's own masks in training and evaluation: mask=paired."""

import numpy as np
import pytest
import torch
from PIL import Image

from src.common.errors import InputError
from src.evaluation.records import read_records
from src.evaluation.scoring import evaluate
from src.masks.paired import PairedMasks
from src.training.setup import make_datamodule


@pytest.fixture
def pairs(tmp_path):
    """Ten images that are grey where they are known and white in the hole of their mask, in two subdirectories."""
    for i in range(10):
        name = f"{'xy'[i % 2]}/{i}"
        pixels, hole = np.full((96, 128, 3), 100, np.uint8), np.zeros((96, 128), np.uint8)
        pixels[24:72, 32:96], hole[24:72, 32:96] = 255, 255
        for folder, suffix, array in (("images", "", pixels), ("masks", "_mask", hole)):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{name}{suffix}.png")
    return tmp_path


def overrides(pairs):
    return ["data=folder", f"data.root={pairs / 'images'}", "mask=paired", f"mask.root={pairs / 'masks'}"]


def test_training_crops_an_image_and_its_mask_alike(composed, pairs):
    data = make_datamodule(composed(*overrides(pairs)))
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            known = batch["mask"].bool().expand_as(batch["image"])
            assert 0 < batch["mask"].mean() < 1
            away_from_borders = torch.nn.functional.avg_pool2d(batch["mask"], 5, 1, 2)
            assert (batch["image"][known & (away_from_borders == 1)] < 0.5).all()
            assert (batch["image"][~known & (away_from_borders == 0)] > 0.9).all()


def test_an_evaluation_scores_every_image_with_its_own_mask(composed, pairs):
    cfg = composed(*overrides(pairs), "model=mean_colour", "scale=smoke", config="evaluate")
    frame, provenance = read_records(evaluate(cfg))
    assert len(frame) == 1  # a tenth of the images
    assert len(provenance.mask_bank_hash) == 64
    assert frame["hole_ratio"].between(0.3, 0.7).all()


def test_errors_name_the_image_and_the_folder(pairs):
    image, other = pairs / "images" / "x" / "0.png", pairs / "images" / "y" / "1.png"
    with pytest.raises(InputError, match=r"mask=paired needs no mask bank.* mask=folder mask\.root="):
        PairedMasks(str(pairs / "masks"))((8, 8), np.random.default_rng(0), (0, 1))
    with pytest.raises(InputError, match=r"mask\.root is not set"):
        PairedMasks("")
    (pairs / "masks" / "y" / "1_mask.png").unlink()
    with pytest.raises(InputError, match=r"1\.png: no file in .*y matches 1\.\* or 1_mask\.\*"):
        PairedMasks(str(pairs / "masks")).match(pairs / "images", [image, other])
