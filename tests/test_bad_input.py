"""Invalid input of every command: it works, or ends with one line that names the file or key; existing files stay."""

import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from src.common.atomic_files import atomic_write
from src.common.errors import InputError, report_input_errors
from src.networks.classical import MeanColour
from src.prediction import load
from src.prediction.inpainter import fill
from tests.commands import ROOT


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


class Code:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Valid files, and invalid ones in bad/; photos/ and masks/ have 12 files each."""
    folder = tmp_path_factory.mktemp("inputs")
    y, x = np.mgrid[:80, :96]
    image = Image.fromarray(np.stack([128 + 100 * np.sin((x + c * y) / 9) for c in range(3)], -1).astype(np.uint8))
    hole = np.zeros((80, 96), np.uint8)
    hole[20:50, 30:60] = 255
    mask = Image.fromarray(hole)
    image.save(folder / "photo.png")
    mask.save(folder / "mask.png")
    for name, saved in {"photos": image, "masks": mask}.items():
        (folder / name).mkdir()
        for i in range(12):
            saved.save(folder / name / f"{i:02}.png")
    bad = folder / "bad"
    bad.mkdir()
    intact = (folder / "photo.png").read_bytes()
    image.save(bad / "cut.jpg")
    (bad / "cut.jpg").write_bytes((bad / "cut.jpg").read_bytes()[:-900])
    (bad / "empty.png").write_bytes(b"")
    (bad / "text.png").write_text("not an image")
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    (bad / "bomb.png").write_bytes(intact[:8] + png_chunk(b"IHDR", header) + intact[33:])
    texts = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(40 << 20), 9))
    (bad / "texts.png").write_bytes(intact[:33] + texts + intact[33:])
    tag = struct.pack("<IHHHII", 8, 1, 258, 3, 3_000_000_000, 8)
    (bad / "tags.tif").write_bytes(b"II*\0" + tag + bytes(300))
    nan = Image.fromarray(np.full((80, 96), np.nan, np.float32))
    nan.save(bad / "nan.tif")
    return folder


@pytest.fixture(scope="module")
def content() -> dict:
    """Content of a checkpoint as src.train writes it."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["model=lbam", "scale=smoke", "data=folder", "output_dir=none"])
    network = instantiate(cfg.model.network)
    return {
        "state_dict": {f"network.{name}": tensor for name, tensor in network.state_dict().items()},
        "config": OmegaConf.to_container(cfg, resolve=True),
        "global_step": 1,
    }


@pytest.fixture(scope="module")
def checkpoint(content, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "good.ckpt"
    torch.save(content, path)
    return path


def arguments(files: Path, out: Path, **changes: object) -> dict[str, list[str]]:
    """Return overrides for a short, valid run of each command, with `changes`."""
    inputs = {
        "photos": files / "photos", "masks": files / "masks", "image": files / "photo.png", "mask": files / "mask.png",
        "ckpt": None, **changes,
    }  # fmt: skip
    data = ["data=folder", f"data.root={inputs['photos']}", "workers=0", "trainer.accelerator=cpu"]
    model = "model=mean_colour" if inputs["ckpt"] is None else f"ckpt={inputs['ckpt']}"
    row = [] if inputs["ckpt"] is None else [f"checkpoints={{full:{inputs['ckpt']}}}"]
    return {
        "train": ["model=lbam", "scale=smoke", *data, "mask=rectangles", "trainer.max_steps=1", "batch_size=1",
                  "loss.features.weights=none", f"hydra.run.dir={out}"],
        "evaluate": [model, "scale=smoke", *data, "mask=rectangles", "bank_masks_per_bin=1", "lpips=false",
                     f"hydra.run.dir={out}"],
        "predict": [model, f"image={inputs['image']}", f"mask={inputs['mask']}", f"output={out}/filled.png",
                    "device=cpu"],
        "make_masks": ["mask=folder", f"mask.root={inputs['masks']}", "bins=[[0.1,0.2]]", "per_bin=2", "size=64",
                       f"output={out}/bank.npz"],
        "export": [f"ckpt={inputs['ckpt']}", f"output={out}"],
        "import_checkpoint": ["name=lbam", f"path={inputs['ckpt']}", f"output={out}/imported.ckpt"],
        "reproduce": ["table=lbam/table2", "scale=smoke", "rows=[full]", *row, *data, "mask=rectangles",
                      "test_masks_per_bin=1", "trainer.max_steps=1", "loss.features.weights=none", f"study={out}"],
        "user_study": [f"images={inputs['photos']}", f"results={out}/votes.db", "port=0"],
        "benchmark": ["scale=smoke", "what=[loading]", "loading_models=[lbam]", "workers=[0]", "loading_batch_size=1",
                      "min_runs=1", "min_seconds=0.01", f"data_root={inputs['photos']}", f"output_dir={out}"],
    }  # fmt: skip


def assert_one_line(ended, *names: object, lines: int | None = 1) -> None:
    printed = [line for line in ended.err.splitlines() if line.strip()]
    assert ended.code == 1, ended
    assert "Traceback" not in ended.err, ended.err
    assert lines is None or len(printed) == lines, ended.err
    assert printed[-1].startswith("error: ") or lines is None, ended.err
    for name in names:
        assert str(name) in printed[-1], ended.err


# Images and masks

BAD = ("cut.jpg", "empty.png", "text.png", "bomb.png", "tags.tif", "nan.tif")


@pytest.mark.parametrize("name", BAD)
def test_invalid_image_or_mask_is_named(commands, files, tmp_path, name):
    bad = files / "bad" / name
    for key in ("image", "mask") if name in ("cut.jpg", "nan.tif") else ("image",):
        overrides = arguments(files, tmp_path, **{key: bad})["predict"]
        assert_one_line(commands("predict", *overrides, cwd=tmp_path), bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cut.jpg", "tags.tif"])
def test_invalid_image_in_a_folder_is_named(commands, files, tmp_path, name):
    bad, masks = files / "bad" / name, tmp_path / "masks"
    masks.mkdir()
    shutil.copy(bad, masks)
    overrides = arguments(files, tmp_path, masks=masks)["make_masks"]
    assert_one_line(commands("make_masks", *overrides, cwd=tmp_path), masks / name)
    study = tmp_path / "study"
    for part in ("input", "one", "other"):
        (study / part).mkdir(parents=True)
        shutil.copy(files / "photo.png", study / part / f"{bad.stem}.png")
    (study / "other" / f"{bad.stem}.png").unlink()
    shutil.copy(bad, study / "other")
    overrides = arguments(files, tmp_path, photos=study)["user_study"]
    assert_one_line(commands("user_study", *overrides, cwd=tmp_path), study / "other" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "study"]  # no output and no votes


@pytest.mark.parametrize(
    ("name", "which"), [("cut.jpg", "train"), ("bomb.png", "evaluate"), ("empty.png", "benchmark")]
)
def test_invalid_image_in_a_dataset_is_named(commands, files, tmp_path, name, which):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(12):
        shutil.copy(files / "bad" / name, photos / f"{i:02}{Path(name).suffix}")
    ended = commands(which, *arguments(files, tmp_path / "out", photos=photos)[which], cwd=tmp_path)
    assert_one_line(ended, photos, lines=None)


def test_invalid_image_ends_a_study_with_one_line(commands, files, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(12):
        shutil.copy(files / "bad" / "cut.jpg", photos / f"{i:02}.jpg")
    ended = commands("reproduce", *arguments(files, tmp_path / "out", photos=photos)["reproduce"], cwd=tmp_path)
    assert ended.code == 1
    assert f"{photos}/" in ended.err.strip().splitlines()[-1]
    assert "is corrupt or truncated" in ended.err.strip().splitlines()[-1]


@pytest.mark.parametrize("method", ["mean_colour", "telea", "navier_stokes", "biharmonic", "lbam"])
def test_empty_hole_changes_nothing_and_full_hole_is_filled(files, checkpoint, method):
    model = load(checkpoint if method == "lbam" else method, device="cpu")
    image = Image.open(files / "photo.png")
    for value in (0, 255):
        after = model(image, Image.fromarray(np.full((80, 96), value, np.uint8)))
        assert after.size == image.size
        assert np.array_equal(np.asarray(after), np.asarray(image)) == (value == 0)


@pytest.mark.parametrize(
    ("size", "value", "reason"),
    [
        ((96, 40), 0, r"is 96x40 but .*photo\.png is 96x80 \(width x height\): resize one of them"),
        ((96, 80), 100, "has no black pixels, so nothing is known; it has the colour 100"),
    ],
)
def test_rejects_masks_of_another_size_and_grey_masks(commands, files, tmp_path, size, value, reason):
    Image.new("L", size, value).save(tmp_path / "unfit.png")
    overrides = arguments(files, tmp_path / "out", mask=tmp_path / "unfit.png")["predict"]
    ended = commands("predict", *overrides, cwd=tmp_path)
    assert_one_line(ended, tmp_path / "unfit.png")
    assert not (tmp_path / "out").exists()
    assert re.search(reason, ended.err)


@pytest.mark.parametrize("method", ["mean_colour", "telea", "navier_stokes", "biharmonic"])
def test_one_pixel_is_a_valid_image(method):
    for value in (0, 255):
        filled = load(method, device="cpu")(Image.new("RGB", (1, 1), (10, 20, 30)), Image.new("L", (1, 1), value))
        assert filled.size == (1, 1)


def test_images_smaller_than_the_crop_are_enlarged(commands, files, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.new("RGB", (1 + i, 3), (20 * i, 3, 4)).save(tmp_path / "photos" / f"{i:02}.png")
    ended = commands(
        "evaluate", *arguments(files, tmp_path / "o", photos=tmp_path / "photos")["evaluate"], cwd=tmp_path
    )
    assert ended.code == 0, ended.err


def test_unmatched_folders_are_named_before_filling(commands, files, tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder, names in ((images, "abc"), (masks, "ab")):
        folder.mkdir()
        for name in names:
            shutil.copy(files / ("photo.png" if folder is images else "mask.png"), folder / f"{name}.png")
    overrides = ["model=mean_colour", f"image={images}", f"mask={masks}", f"output={tmp_path / 'out'}", "device=cpu"]
    assert_one_line(commands("predict", *overrides, cwd=tmp_path), images / "c.png", masks)
    assert not (tmp_path / "out").exists()
    assert_one_line(commands("predict", *overrides, "mask=/**/x**", cwd=tmp_path), "mask=/**/x**")
    (tmp_path / "nothing").mkdir()
    assert_one_line(commands("predict", *overrides, f"mask={tmp_path / 'nothing'}", cwd=tmp_path), "mask=")


def test_results_before_an_invalid_image_are_kept(commands, files, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(files / "photo.png", images / "a.png")
    shutil.copy(files / "bad" / "cut.jpg", images / "b.jpg")
    overrides = [
        "model=mean_colour",
        f"image={images}",
        f"mask={files / 'mask.png'}",
        "one_mask_for_all=true",
        "device=cpu",
    ]
    ended = commands("predict", *overrides, f"output={tmp_path / 'out'}", cwd=tmp_path)
    assert ended.code == 3, ended
    assert re.fullmatch(r"filled 1 of 2; skipped:\n  .*b\.jpg: is corrupt or truncated: .*\n", ended.err)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    Image.open(tmp_path / "out" / "a.png").load()


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -0.1, 1.5])
def test_rejects_known_pixels_outside_the_range(poison):
    image, mask = torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
    mask[..., :3, :3] = 0
    image[0, 1, 2, 2] = poison  # in the hole, which is not read
    assert fill(MeanColour(), image, mask).isfinite().all()
    image[0, 1, 5, 5] = poison
    with pytest.raises(InputError, match=r"known pixels of the image must be in \[0, 1\]"):
        fill(MeanColour(), image, mask)


def test_rejects_soft_masks_and_networks_that_return_nan():
    image, mask = torch.rand(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    for value in (0.5, float("nan"), 2.0):
        mask[..., 0, 0] = value
        with pytest.raises(InputError, match="the mask must contain only 1"):
            fill(MeanColour(), image, mask)

    class Diverged(MeanColour):
        def inpaint(self, image, mask, edges):
            output = super().inpaint(image, mask, edges)
            return type(output)(output.prediction * torch.nan)

    mask[..., 0, 0] = 0
    with pytest.raises(InputError, match="Diverged returned NaN"):
        fill(Diverged(), image, mask)


# Checkpoints


def checkpoints(content: dict, folder: Path) -> dict[str, Path]:
    config = content["config"]
    network = config["model"]["network"]
    nothing = {"code.ckpt": Code(), "list.ckpt": [1, 2], "bare.ckpt": content["state_dict"]}
    unlike = {
        "code_inside.ckpt": {"more": Code()},
        "foreign.ckpt": {"config": 3},
        "call.ckpt": {"config": {**config, "model": {"network": {"_target_": "os.mkdir", "path": "owned"}}}},
        "newer.ckpt": {"config": {**config, "model": {"network": {**network, "depth": 3}}}},
        "unknown.ckpt": {"config": {**config, "model": {"network": {"_target_": "src.networks.later.Net"}}}},
        "state_dict_mismatch.ckpt": {"state_dict": dict(list(content["state_dict"].items())[3:])},
        "step.ckpt": {"global_step": "three"},
    }
    for name, saved in {**nothing, **{name: {**content, **change} for name, change in unlike.items()}}.items():
        torch.save(saved, folder / name)
    (folder / "pickle.ckpt").write_bytes(pickle.dumps(Code()))
    (folder / "cut.ckpt").write_bytes((folder / "step.ckpt").read_bytes()[:-3000])
    (folder / "empty.ckpt").write_bytes(b"")
    (folder / "text.ckpt").write_text("<!DOCTYPE html>")
    return {path.name: path for path in sorted(folder.iterdir())}


def test_invalid_checkpoints_are_named_and_run_no_code(commands, files, content, tmp_path, monkeypatch):
    (tmp_path / "invalid").mkdir()
    invalid = checkpoints(content, tmp_path / "invalid")
    assert len(invalid) == 14
    monkeypatch.chdir(tmp_path)
    for path in [*invalid.values(), tmp_path / "absent.ckpt"]:
        with pytest.raises(InputError, match=re.escape(str(path))):
            load(path, device="cpu")
    for name in ("pickle.ckpt", "cut.ckpt"):
        overrides = arguments(files, tmp_path / "out", ckpt=invalid[name])
        for which in ("predict", "evaluate") if name == "cut.ckpt" else ("import_checkpoint", "export"):
            assert_one_line(commands(which, *overrides[which], cwd=tmp_path), invalid[name])
        key = "resume" if name == "cut.ckpt" else "start_from"
        ended = commands("train", *overrides["train"], f"{key}={invalid[name]}", cwd=tmp_path)
        assert_one_line(ended, invalid[name], lines=None)
    for folder in (tmp_path, ROOT):
        assert not (folder / "owned").exists()
    assert not (tmp_path / "out" / "filled.png").exists()


def test_checkpoints_with_only_a_network_config_are_usable(commands, files, content, tmp_path):
    """Commands that only need the network accept checkpoints without other keys."""
    only_network = {**content, "config": {"model": {"network": content["config"]["model"]["network"]}}}
    torch.save(only_network, tmp_path / "old.ckpt")
    overrides = arguments(files, tmp_path / "out", ckpt=tmp_path / "old.ckpt")
    for which in ("evaluate", "export"):
        ended = commands(which, *overrides[which], cwd=tmp_path)
        assert ended.code == 0, ended.err


# Writing


WRITES = {
    "predict": "filled.png",
    "make_masks": "bank.npz",
    "export": "model.safetensors",
    "evaluate": "records.parquet",
    "benchmark": "records.parquet",
    "reproduce": "lbam/table2/table.md",
    "train": "checkpoints/last.ckpt",
    "user_study": "votes.db",
}


def study_of(files: Path, folder: Path) -> Path:
    for part in ("input", "one", "other"):
        (folder / part).mkdir(parents=True)
        shutil.copy(files / "photo.png", folder / part)
    return folder


@pytest.fixture
def overrides(files, checkpoint, tmp_path):
    def overrides(which: str, out: Path) -> list[str]:
        changes: dict[str, object] = {"ckpt": checkpoint}
        if which == "user_study":
            changes["photos"] = tmp_path / "study"
            if not (tmp_path / "study").exists():
                study_of(files, tmp_path / "study")
        return arguments(files, out, **changes)[which]

    return overrides


@pytest.mark.parametrize("which", WRITES)
def test_file_in_place_of_the_output_directory_is_named(commands, overrides, tmp_path, which):
    (tmp_path / "taken").write_text("mine")
    out = tmp_path / "taken" if which == "export" else tmp_path / "taken" / "below"
    assert_one_line(commands(which, *overrides(which, out), cwd=tmp_path), "taken", lines=None)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("which", ["predict", "make_masks", "evaluate", "train", "user_study"])
def test_unwritable_directory_is_named(commands, overrides, tmp_path, which):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    ended = commands(which, *overrides(which, closed), cwd=tmp_path, check_permissions=True)
    assert_one_line(ended, closed, lines=None)
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize("which", ["evaluate", "train"])
def test_unwritable_sweep_directory_is_named(commands, overrides, tmp_path, which):
    (tmp_path / "closed").mkdir(mode=0o555)
    sweep = tmp_path / "closed" / "sweep"
    sweep_overrides = ["-m", *overrides(which, tmp_path), f"hydra.sweep.dir={sweep}"]
    assert_one_line(commands(which, *sweep_overrides, cwd=tmp_path, check_permissions=True), sweep, "Permission denied")


@pytest.mark.parametrize("which", ["predict", "make_masks", "export", "evaluate", "train"])
def test_too_large_file_is_named_and_leaves_nothing(commands, overrides, tmp_path, which):
    ended = commands(which, *overrides(which, tmp_path / "out"), cwd=tmp_path, largest_file=100)
    assert_one_line(ended, tmp_path / "out", "File too large", lines=None)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "lock"] == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"only root may mount one: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("mount") is None, reason="needs Linux's tmpfs")
def test_full_disk_keeps_earlier_results(commands, files, overrides, small_disk, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)).save(images / f"{i}.png")  # 23 KB, as noise
    many = ["model=mean_colour", f"image={images}", f"mask={files / 'mask.png'}", "one_mask_for_all=true", "device=cpu"]
    ended = commands("predict", *many, f"output={small_disk / 'filled'}", cwd=tmp_path)
    assert ended.code == 3, ended
    assert "Traceback" not in ended.err, ended.err
    assert re.search(r"disk/filled/\d\.png can't be written: No space left on device\n", ended.err), ended.err
    written = list((small_disk / "filled").iterdir())
    assert 1 <= len(written) < 4
    for path in written:
        Image.open(path).load()
    for which in ("train", "export"):
        ended = commands(which, *overrides(which, small_disk / which), cwd=tmp_path)
        assert_one_line(ended, small_disk, "No space left on device", lines=None)
    assert [path for path in small_disk.rglob("*") if path.name.endswith(".part")] == []


@pytest.mark.parametrize("which", ["predict", "make_masks", "export", "evaluate"])
def test_old_output_is_kept_if_the_new_one_does_not_fit(commands, overrides, tmp_path, which):
    out = tmp_path / "out"
    assert commands(which, *overrides(which, out), cwd=tmp_path).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and ".hydra" not in path.parts}
    assert out / WRITES[which] in before
    ended = commands(which, *overrides(which, out), cwd=tmp_path, largest_file=100)
    assert_one_line(ended, out, lines=None)
    assert {path: path.read_bytes() for path in before} == before


def test_atomic_write_replaces_only_regular_files(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    invalid = {
        tmp_path / "folder": "a directory",
        tmp_path / "pipe": "not a regular file",
        "/dev/full": "not a regular file",
    }
    for path, reason in invalid.items():
        with pytest.raises(InputError, match=rf"{path} can't be written: it is {reason}"), atomic_write(Path(path)):
            pass
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with atomic_write(tmp_path / "link") as path:
        path.write_text("new")
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    long = tmp_path / f"{'é' * 120}.txt"
    with atomic_write(long) as path:
        path.write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["folder", "pipe", "target", "link", long.name])


@pytest.mark.parametrize("raised", [OSError(28, "x"), OSError(122, "x"), OSError(13, "x"), OSError(30, "x")])
def test_failed_write_leaves_only_the_old_file(tmp_path, raised):
    (tmp_path / "kept").write_text("old")

    def write(error: BaseException) -> None:
        with atomic_write(tmp_path / "kept") as path:
            path.write_text("half")
            raise error

    with pytest.raises(InputError, match=rf"kept can't be written: {os.strerror(raised.errno)}"):
        write(raised)
    for mistake in (ValueError("a mistake"), KeyboardInterrupt(), OSError("a mistake")):
        with pytest.raises(type(mistake)):
            write(mistake)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept", "old")]


def test_full_disk_hidden_by_torch_is_reported(tmp_path):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            if self.file.tell() > 500:
                raise OSError(28, "No space left on device")
            return self.file.write(data)

        def flush(self):
            self.file.flush()

    def write() -> None:
        with atomic_write(tmp_path / "w.ckpt") as path, path.open("wb") as file:
            torch.save({"w": torch.zeros(9)}, Full(file))

    with pytest.raises(InputError, match=r"w\.ckpt can't be written: No space left on device"):
        write()


@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        (OSError(28, "No space left on device"), "error: a file can't be written: No space left on device"),
        (OSError(13, "Permission denied", "/root/x"), "error: /root/x: Permission denied"),
        (OSError(21, "Is a directory", b"/root/x"), "error: /root/x: Is a directory"),
        (InputError("this"), "error: this"),
    ],
)
def test_disk_errors_are_reported_in_one_line(raised, sentence):
    @report_input_errors
    def failing():
        raise RuntimeError("on the way") from raised

    with pytest.raises(SystemExit, match=sentence):
        failing()


@pytest.mark.parametrize(
    "raised",
    [OSError(13, "Permission denied"), FileNotFoundError(2, "x", "/gone"), ValueError("a mistake"), OSError("x")],
)
def test_programming_errors_keep_their_traceback(raised):
    @report_input_errors
    def failing():
        raise raised

    with pytest.raises(type(raised)):
        failing()
