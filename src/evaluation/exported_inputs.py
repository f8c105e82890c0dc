"""The inputs of a test as files, in the layouts that other programs take, so that any program can be scored on it."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from PIL import Image
from rich.progress import track
from torch import Tensor

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import EvaluateOptions
from src.evaluation.frozen_test import FrozenTest, crop_size
from src.evaluation.scoring import apply_protocol, reduce_config
from src.image_files.reading import UInt8Array
from src.masks.hole_ratios import bin_holding
from src.rendering.text_table import write_texts
from src.training.trainer import make_trainer

README = """\
# Inputs of a test

{count} samples of {width}x{height} px (width x height), written by

    python -m src.evaluate export_inputs=... {options}

All images are PNG files with 8 bits. For each sample `x` there are

| file | content |
| --- | --- |
| `images/x.png` | the crop without a hole: the truth |
| `holes/x.png` | the crop with black pixels in the hole |
| `masks/x.png` | white in the hole, black elsewhere |
| `masks_inverted/x.png` | black in the hole, white elsewhere |
| `lama/x.png`, `lama/x_mask001.png` | the crop without a hole, and the mask, white in the hole |

`samples.csv` lists the samples with their images, hole ratios and bins; `bank.npz` holds the masks.

Write one result for each sample into a directory: `x.png`, `x.webp` or `x.jpg`, or `x_mask001.png`, as LaMa names it.
It must have the size of its input. JPEG changes pixels, so prefer PNG. Then score the directory on the same test:

    python -m src.evaluate 'results={{name: directory/}}' {options}

A file whose known pixels all equal the input's is a composite, any other a raw output. Both are scored as they are and
with the known pixels pasted back. A program that reads `images/` or `lama/` gets the truth: it must empty the hole.

Test: {identity}
"""


def export_inputs(cfg: DictConfig, options: Sequence[str] = ()) -> Path:
    """Write the inputs of the test that a config of conf/evaluate defines into `export_inputs`; return that directory.

    The files hold the crops exactly: all crops have 8 bits, as the transforms resize and crop 8-bit arrays, and what is
    scored are the same numbers divided by 255.

    Args:
        options: the command line's options, for the README that is written.
    Raises:
        InputError: a method is chosen, the directory has the inputs of another test, or a crop has not 8 bits.
    """
    check_options(cfg, EvaluateOptions)
    chosen = [key for key in ("model", "methods", "ckpt", "weights", "results") if cfg.get(key) is not None]
    if chosen:
        raise InputError(
            f"export_inputs={cfg.export_inputs} scores nothing: leave out {', '.join(chosen)}, and set the size of the "
            "crops with test_size=, scale= or protocol= if it is that of a checkpoint"
        )
    reduce_config(cfg, [])
    apply_protocol(cfg)
    cfg.lpips, cfg.set_scores, cfg.extra_scores = False, False, []  # as no networks are needed
    test = FrozenTest.of_config(cfg)
    root = Path(cfg.export_inputs).expanduser()
    _require_same_test(root, test.identity)
    loader = test.loader(make_trainer(cfg.trainer))
    names = test.sample_names(loader)
    height, width = crop_size(cfg)
    readme = README.format(
        count=len(names), height=height, width=width, options=" ".join(options), identity=test.identity
    )
    write_texts(root, {"README.md": readme})  # first, so that an interrupted export can be repeated
    rows = []
    for batch in track(loader, description="exporting"):
        for image, mask, index, path in zip(*(batch[key] for key in ("image", "mask", "index", "path")), strict=True):
            name, pixels = names[int(index)], _to_eight_bits(image, path)
            hole = mask[0].numpy() == 0
            files = {"images": pixels, "masks": hole * np.uint8(255), "masks_inverted": ~hole * np.uint8(255)}
            files["holes"] = np.where(hole[:, :, None], np.uint8(0), pixels)
            for directory, content in files.items():
                _write_png(root / directory / f"{name}.png", content)
            _link(root / "images" / f"{name}.png", root / "lama" / f"{name}.png")
            _link(root / "masks" / f"{name}.png", root / "lama" / f"{name}_mask001.png")
            ratio = float(hole.mean())
            rows.append({"sample": name, "image": path, "hole_ratio": ratio, "bin": bin_holding(ratio)})
    if test.bank is not None:
        test.bank.save(root / "bank.npz")
    write_texts(root, {"samples.csv": pd.DataFrame(rows).to_csv(index=False)})
    return root


def _require_same_test(root: Path, identity: str) -> None:
    readme = root / "README.md"
    if root.is_dir() and any(root.iterdir()) and not (readme.is_file() and identity in readme.read_text()):
        raise InputError(
            f"export_inputs={root} is neither empty nor an earlier export of this test: choose another directory"
        )


def _to_eight_bits(image: Tensor, path: str) -> UInt8Array:
    """Return an image (3, H, W) in [0, 1] as 8-bit pixels (H, W, 3); raises InputError if they would differ from it."""
    values = image.permute(1, 2, 0).numpy()
    pixels: UInt8Array = np.rint(values * 255).astype(np.uint8)
    if not np.array_equal(np.divide(pixels, 255, dtype=np.float32), values):
        raise InputError(
            f"{path}: the test's transform returns a crop that has not 8 bits, so no file can hold it exactly: use a "
            "transform that returns uint8"
        )
    return pixels


def _write_png(path: Path, pixels: UInt8Array) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _link(source: Path, target: Path) -> None:
    """Make `target` another name of a file, or a copy where the file system has no links."""
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with atomic_write(target) as temporary:
            temporary.write_bytes(source.read_bytes())
