"""Filling holes as a user types it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from src.errors import InputError
from src.predict import predict

ROOT = Path(__file__).parents[1]


@pytest.fixture
def files(tmp_path):
    """A 70x50 photo, and a mask of its size with a white hole in the upper left quarter."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    hole = np.zeros((50, 70), np.uint8)
    hole[:25, :35] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    return tmp_path


def run(*overrides):
    with initialize_config_dir(str(ROOT / "conf" / "predict"), version_base="1.3"):
        return predict(compose("config", overrides=["device=cpu", *overrides]))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def asked(files, **changes):
    settings = {
        "model": "mean_colour",
        "image": files / "photo.png",
        "mask": files / "mask.png",
        "output": files / "o.png",
    }
    return [f"{key}={value}" for key, value in (settings | changes).items()]


def test_the_hole_is_filled_and_known_pixels_stay_as_they_are(files):
    assert run(*asked(files)) == [files / "o.png"]
    before, after = pixels(files / "photo.png"), pixels(files / "o.png")
    hole = np.zeros((50, 70), bool)
    hole[:25, :35] = True
    assert (after[~hole] == before[~hole]).all()
    assert abs(after[hole] - before[~hole].mean(0)).max() <= 1  # the mean colour of what is known


def test_polarity_is_turned_by_one_word(files):
    run(*asked(files, hole="black", output=files / "turned.png"))
    before, after = pixels(files / "photo.png"), pixels(files / "turned.png")
    assert (after[:25, :35] == before[:25, :35]).all()
    assert (after[25:] != before[25:]).any()


def test_a_mask_that_is_mostly_hole_asks_about_its_polarity(files, capsys):
    run(*asked(files, hole="black"))
    assert "75.0% of" in (said := capsys.readouterr().err)
    assert "the other way round it is hole=white" in said
    Image.new("L", (70, 50), 0).save(files / "mask.png")
    run(*asked(files))
    assert "has no hole" in capsys.readouterr().err


def test_a_folder_keeps_names_and_takes_masks_by_name(files):
    images, masks = files / "in", files / "masks"
    for folder in (images, masks):
        folder.mkdir()
    for name in ("one", "two"):
        Image.open(files / "photo.png").convert("RGB").save(images / f"{name}.jpg")
        Image.open(files / "mask.png").save(masks / f"{name}_mask.png")
    written = run(*asked(files, image=images, mask=masks, output=files / "out"))
    assert written == [files / "out" / "one.png", files / "out" / "two.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "{}/gone.png"}, r"image=.*gone\.png: no such file"),
        ({"output": "{}/photo.png"}, "would overwrite its own input"),
        ({"output": "{}/o.gif"}, "the suffix must be one of"),
        ({"ckpt": "{}/gone.ckpt"}, "one of them"),
        ({"model": "lbam"}, "model=lbam: methods without weights are biharmonic, mean_colour"),
        ({"hole": "grey"}, "hole"),
        ({"device": "cuda"}, "device=cuda is not to be had"),
        ({"output": "/proc/none/o.png"}, "can't be written"),
        ({"mask": "{}/small.png"}, r"small\.png is 7x5, .*photo\.png is 70x50"),
    ],
)
def test_mistakes_name_the_file_or_key(files, changes, message):
    Image.new("L", (7, 5), 255).save(files / "small.png")
    with pytest.raises(InputError, match=message):
        run(*asked(files, **{key: value.format(files) for key, value in changes.items()}))


def test_a_mistake_on_the_command_line_is_one_sentence_and_a_non_zero_exit(files):
    command = [sys.executable, "-m", "src.predict", *asked(files, image=files / "gone.png")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("error: image=")
