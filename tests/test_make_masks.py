from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from src.common.errors import InputError
from src.make_masks import make_masks
from src.masks.bank import MaskBank
from src.masks.noise import RandomShapes
from src.masks.rectangles import CentredRectangle, RectanglesBySides
from src.masks.strokes import BrushStrokes

CONF = Path(__file__).parents[1] / "conf"
MASKS = sorted({path.stem for path in (CONF / "mask").glob("*.yaml")} - {"paired"})  # belong to images


@pytest.fixture
def composed():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: compose("make_masks", overrides=list(overrides))


@pytest.fixture
def mask_folder(tmp_path):
    folder = tmp_path / "liu"
    folder.mkdir()
    for i in range(6):
        hole = np.zeros((40, 40), np.uint8)
        hole[: 2 + 4 * i] = 255
        Image.fromarray(hole).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_config_makes_a_bank(composed, mask_folder, tmp_path, mask):
    root = [f"mask.root={mask_folder}"] if mask in ("folder", "lbam", "edge_lbam") else []
    cfg = composed(f"mask={mask}", "size=40", "per_bin=2", f"output={tmp_path / 'bank.npz'}", *root)
    assert cfg.mask.name == mask
    bank, path = make_masks(cfg)
    assert MaskBank.load(path).hash == bank.hash
    assert bank.bins[-1][1] == {"contextual_attention": 0.2, "noise_grid": 0.3, "centre": 0.3, "gmcnn": 0.3}.get(
        mask, 0.6
    )
    with Image.open(path.with_suffix(".png")) as sheet:
        assert sheet.size == (2 * 44, len(bank.bins) * 44)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bank.npz", "bank.png", "liu"]


@pytest.mark.parametrize(
    ("mask", "generator"),
    [
        ("random_shapes", RandomShapes()),
        ("strokes", BrushStrokes()),
        ("contextual_attention", RectanglesBySides()),
        ("centre", CentredRectangle()),
    ],
)
def test_configs_repeat_the_defaults(composed, mask, generator):
    configured = instantiate(composed(f"mask={mask}").mask.generator, _convert_="all")
    for name, value in vars(generator).items():
        assert np.allclose(getattr(configured, name), value, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["size=5.5"], "size must be"),
        (["size=[8,8,8]"], "size must be"),
        (["size=[8,large]"], "size must be"),
        (["size=[8,0]"], "size must be"),
        (["bins=3"], "bins must be pairs"),
        (["bins=[[0.1]]"], "bins must be pairs"),
        (["bins=[[0.2,0.1]]"], "hole_ratio must be"),
        (["bins=[]"], "at least one bin"),
        (["per_bin=0"], "per_bin"),
        (["seed=-1"], "seed"),
        (["output=bank.txt"], "the output of make_masks must be a .npz file"),
        (["size=2"], "no mask of 2x2 pixels"),
        (["mask.hole_ratio=[0.31,0.39]"], "no bin"),
    ],
)
def test_invalid_keys_are_named(composed, tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        make_masks(composed("size=16", "per_bin=1", *overrides))
    assert not any(tmp_path.rglob("*"))


def test_full_disk_keeps_the_old_contact_sheet(composed, tmp_path, monkeypatch):
    cfg = composed("mask=rectangles", "size=16", "per_bin=1", f"output={tmp_path / 'bank.npz'}")
    make_masks(cfg)
    before = (tmp_path / "bank.png").read_bytes()

    def save_half(image, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save_half)
    with pytest.raises(InputError, match=r"bank\.png can't be written: No space left on device"):
        make_masks(cfg)
    assert (tmp_path / "bank.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank.npz", "bank.png"]


def test_command_writes_only_a_bank_and_a_contact_sheet(commands, tmp_path):
    run = commands("make_masks", "mask=strokes", "per_bin=2", "size=[24,32]", cwd=tmp_path)
    assert run.code == 0, run.err
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
        "banks/strokes_24x32.npz",
        "banks/strokes_24x32.png",
    ]
    bank = MaskBank.load(tmp_path / "banks/strokes_24x32.npz")
    assert f"hash {bank.hash}" in run.out
    assert "12 masks of 24x32 px" in run.out
    assert "(0.5,0.6]" in run.out


def test_missing_mask_folder_is_reported_in_one_line(commands, tmp_path):
    run = commands("make_masks", "mask=folder", "mask.root=/nowhere", cwd=tmp_path)
    assert run.code == 1
    assert run.err.strip() == (
        "error: mask folder /nowhere does not exist: set mask.root to a folder of mask files, or choose masks that "
        "need no files, such as mask=irregular"
    )
    assert not any(tmp_path.iterdir())
