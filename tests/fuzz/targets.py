"""Fuzz targets: for each reader of files its valid files, their mutation, and checks of what it returns."""

import copy
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import yaml
from PIL import Image, ImageCms
from safetensors.torch import save

from src.checkpoints.export_directory import CONFIG, WEIGHTS
from src.checkpoints.reading import load_checkpoint, read_checkpoint
from src.common.provenance import Provenance
from src.common.tensor_files import read_tensor_file
from src.data.manifest import COLUMNS, SPLITS, Manifest, write_manifest
from src.data.splits import by_shares
from src.evaluation.records import read_records, write_records
from src.image_files.binary_images import read_edges, read_mask
from src.image_files.reading import read_image
from src.masks.bank import MaskBank
from src.masks.folder import MaskFolder
from src.masks.rectangles import Rectangles
from src.networks.interface import InpaintingNetwork
from src.networks.lbam import LBAM
from src.voting.votes import Vote, Votes
from tests.fuzz.mutations import (
    Mutation,
    bmp_changed,
    bytes_changed,
    either,
    jpeg_changed,
    png_changed,
    riff_changed,
    tiff_changed,
)

OWNED = "owned by a pickle"
"""A directory that the code in the pickles would create in the current one, if it were run."""


@dataclass(frozen=True)
class Target:
    """One reader and its kind of file.

    Attributes:
        suffix: file extension.
        seeds: valid or almost valid files by name.
        mutate: corrupts a file.
        read: reads a file and asserts that the result is as documented; may raise `InputError`.
    """

    suffix: str
    seeds: dict[str, bytes]
    mutate: Mutation
    read: Callable[[Path, Random], None]

    def input(self, rng: Random) -> bytes:
        """Return a corrupt file."""
        return self.mutate(rng.choice(list(self.seeds.values())), rng)


def targets(folder: Path) -> dict[str, Target]:
    """Return all targets by name; `folder` is for temporary files."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _pictures()
    of_format = {
        "png": (png_changed, bytes_changed),
        "jpg": (jpeg_changed, bytes_changed),
        "webp": (riff_changed, bytes_changed),
        "bmp": (bmp_changed, bytes_changed),
        "tif": (tiff_changed, tiff_changed, bytes_changed),
    }
    found = {
        kind: Target(
            f".{kind}",
            {name: data for name, data in pictures.items() if name.endswith(kind)},
            either(*mutations),
            _read_picture,
        )
        for kind, mutations in of_format.items()
    }
    plain = either(bytes_changed)
    return found | {
        "tensors": Target(".pth", _tensor_files(), plain, _read_tensors),
        "bank": Target(".npz", _banks(folder), plain, _read_bank),
        "records": Target(".parquet", _records(folder), plain, _read_records),
        "manifest": Target(".parquet", _manifests(folder), plain, _read_manifest),
        "votes": Target(".db", _votes(folder), plain, _read_votes),
        "checkpoint": Target(".json", _configurations(), _configuration_changed, _read_configuration),
        "exported": Target(".yaml", _yaml(), plain, _read_exported),
    }


# Pictures, masks and edges


def _pictures() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :40]
    rgb = np.stack([128 + 100 * np.sin((x + c * y) / 9) for c in range(3)], -1).astype(np.uint8)
    mask = np.zeros((24, 40), np.uint8)
    mask[4:12, 8:20] = 255
    deep = rng.integers(0, 65536, (24, 40, 3), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo, palette = Image.fromarray(rgb), Image.fromarray(rgb).quantize(16)
    see_through = Image.fromarray(np.dstack([rgb, mask]))

    def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
        stream = BytesIO()
        image.save(stream, format=file_format, **options)
        return stream.getvalue()

    def by_opencv(samples: np.ndarray, suffix: str, *options: int) -> bytes:
        return cv2.imencode(suffix, samples, options)[1].tobytes()

    return {
        "photo.png": saved(photo, "PNG", exif=exif, icc_profile=srgb),
        "mask.png": saved(Image.fromarray(mask), "PNG"),
        "palette.png": saved(palette, "PNG", transparency=1),
        "alpha.png": saved(see_through, "PNG"),
        "one_bit.png": saved(Image.fromarray(mask > 0), "PNG"),
        "deep.png": by_opencv(deep, ".png"),
        "deep_grey.png": by_opencv(deep[..., 0], ".png"),
        "photo.jpg": saved(photo, "JPEG", exif=exif, icc_profile=srgb),
        "progressive.jpg": saved(photo, "JPEG", progressive=True),
        "grey.jpg": saved(Image.fromarray(mask), "JPEG"),
        "cmyk.jpg": saved(photo.convert("CMYK"), "JPEG"),
        "phone.jpg": saved(photo, "MPO", save_all=True, append_images=[photo]),
        "lossy.webp": saved(photo, "WEBP", exif=exif, icc_profile=srgb),
        "lossless.webp": saved(see_through, "WEBP", lossless=True),
        "photo.bmp": saved(photo, "BMP"),
        "palette.bmp": saved(palette, "BMP"),
        "one_bit.bmp": saved(Image.fromarray(mask > 0), "BMP"),
        "photo.tif": saved(photo, "TIFF", exif=exif, icc_profile=srgb),
        "lzw.tif": saved(photo, "TIFF", compression="tiff_lzw"),
        "deflate.tif": saved(see_through, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": saved(photo, "TIFF", compression="jpeg"),
        "fax.tif": saved(Image.fromarray(mask > 0), "TIFF", compression="group4"),
        "palette.tif": saved(palette, "TIFF"),
        "deep.tif": by_opencv(deep, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1),
        "deep_lzw.tif": by_opencv(deep, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 5),
        "float.tif": by_opencv((deep / 65535).astype(np.float32), ".tif"),
        "double.tif": by_opencv(deep[..., 0] / 65535, ".tif"),
    }


def _read_picture(path: Path, rng: Random) -> None:
    kind = rng.randrange(3)
    if kind == 0:
        read = read_image(path, rng.choice((None, None, 1, 10, 5000)))
        assert read.ndim == 3, read.shape
        assert read.shape[2] == 3, read.shape
    elif kind == 1:
        read = read_mask(path, rng.choice(("white", "black")))
    else:
        read = read_edges(path, rng.choice(("white", "black")))
    if kind:
        assert read.ndim == 2, read.shape
        assert read.max() <= 1
    assert read.dtype == np.uint8
    assert read.size > 0
    if kind == 1 and rng.random() < 0.1:
        folder = path.with_name("masks")
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / path.name)
        try:
            mask = MaskFolder(str(folder))((16, 24), np.random.default_rng(0), (0.0, 1.0))
            assert mask.shape == (16, 24)
        finally:
            (folder / path.name).unlink()


# Tensors


class _Code:
    """Malicious code in a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (OWNED,)


def _tensor_files() -> dict[str, bytes]:
    state = {"state": {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}, "step": 3, "names": ["a", None]}

    def torch_saved(content: Any, **options: Any) -> bytes:
        stream = BytesIO()
        torch.save(content, stream, **options)
        return stream.getvalue()

    return {
        "zip": torch_saved(state),
        "legacy": torch_saved(state, _use_new_zipfile_serialization=False),
        "safetensors": save(state["state"]),  # type: ignore[arg-type]
        "pickle": pickle.dumps({"a": [1, 2.0, "b"]}),
        "code": pickle.dumps(_Code()),
        "code_in_zip": torch_saved({"w": torch.zeros(2), "x": _Code()}),
    }


def _read_tensors(path: Path, rng: Random) -> None:
    try:
        read_tensor_file(path, "checkpoint")
    finally:
        assert not Path(OWNED).exists(), "code in a pickle was run"


# Mask banks, records and votes


def _banks(folder: Path) -> dict[str, bytes]:
    path = folder / "seed.npz"
    banks = {}
    for name, bins in {"two": [(0.0, 0.1), (0.1, 0.2)], "one": [(0.1, 0.3)]}.items():
        MaskBank.draw(Rectangles(), (9, 14), per_bin=2, seed=0, bins=bins).save(path)
        banks[name] = path.read_bytes()
    with np.load(path) as archive:
        np.savez(path, **archive)  # uncompressed, so that changed bytes reach the masks
    return banks | {"plain": path.read_bytes()}


def _read_bank(path: Path, rng: Random) -> None:
    bank = MaskBank.load(path)
    for b in range(len(bank.bins)):
        for k in range(bank.per_bin):
            assert bank.mask(b, k).shape == bank.size
            assert bank.mask(b, k).max() <= 1
    assert len(bank.hash) == 64


def _records(folder: Path) -> dict[str, bytes]:
    frame = pd.DataFrame(
        {
            "method": ["lbam"] * 3, "data": ["photos"] * 3, "path": list("abc"), "index": range(3),
            "bin": ["(0,0.1]"] * 3, "hole_ratio": [0.02, 0.05, 0.1], "composite_psnr": [30.0, 31.0, 32.5],
        }
    )  # fmt: skip
    provenance = Provenance.collect(
        config={"model": {"name": "lbam"}}, seed=0, data={"name": "photos"}, mask_bank_hash="0" * 64, checkpoint=None,
        device=torch.device("cpu"), started=datetime(2020, 1, 1, tzinfo=timezone.utc), absent_scores={},
    )  # fmt: skip
    write_records(frame, folder / "records.parquet", provenance)
    return {"records": (folder / "records.parquet").read_bytes()}


def _read_records(path: Path, rng: Random) -> None:
    frame, provenance = read_records(path)
    assert "hole_ratio" in frame
    assert provenance is not None


def _manifests(folder: Path) -> dict[str, bytes]:
    rows = [
        {"path": f"{i}.png", "split": split, "bytes": 9, "modified_ns": 1, "sha256": "0" * 64, "corrupt": corrupt}
        for i, (split, corrupt) in enumerate([("train", None), ("test", None), (None, "is empty")])
    ]
    table = pa.Table.from_pylist(rows, COLUMNS)
    write_manifest(folder / "seed.parquet", table, name="folder", root=folder, split=partial(by_shares, seed=0))
    return {"manifest": (folder / "seed.parquet").read_bytes()}


def _read_manifest(path: Path, rng: Random) -> None:
    manifest = Manifest.read(path)
    for split in SPLITS:
        assert all(isinstance(name, str) for name in manifest.names(split))
    assert all(isinstance(name, str) for name in manifest.corrupt)
    manifest.find_changes(path.parent / "seeds", SPLITS, contents=False)


def _votes(folder: Path) -> dict[str, bytes]:
    path = folder / "votes.db"
    path.unlink(missing_ok=True)
    votes = Votes.open_or_create(path, {"methods": ["a", "b"], "seed": 0, "images": {"p": "0" * 64}})
    for voter in "xyz":
        votes.record(Vote(voter, "p", "a", ("b", "a"), 2.5))
    return {"votes": path.read_bytes()}


def _read_votes(path: Path, rng: Random) -> None:
    votes = Votes(path)
    assert list(votes.table().columns) == ["voter", "question", "method", "shown", "seconds", "time"]
    votes.answered("x")


# Configs in checkpoints

_NETWORK = {
    "_target_": "src.networks.lbam.LBAM",
    "width": 0.02,
    "levels": 2,
    "forward_maps": {
        "_target_": "src.networks.layers.attention_map.learnable_maps", "_partial_": True,
    },
}  # fmt: skip
_CONTENT = {
    "config": {"model": {"name": "lbam", "network": _NETWORK}, "scale": {"name": "smoke", "image_size": 32}},
    "global_step": 3,
    "state_dict": "weights",
}
# No number of layers in the millions, as they would all be built.
_JUNK = (
    *(None, True, 0, -1, 1.5, 70, float("nan"), "", "${oc.env:HOME}", "${", "os.system", "???", [], {}),
    *([1, [2]], {"_target_": "os.mkdir", "path": OWNED}, {"_target_": "src.networks.lbam.LBAM"}, {"_args_": [1]}),
    *(
        {"_target_": "builtins.eval", "_args_": ["1"]},
        {"_target_": 3},
        {"_target_": "src.networks.interface.torch.hub"},
    ),
    *({"_partial_": True}, {"_recursive_": False}, "src.networks.lbam.LBAM", {"_convert_": "all"}, {"x": {"y": 1}}),
)


def _configurations() -> dict[str, bytes]:
    return {"checkpoint": json.dumps(_CONTENT).encode()}


def _configuration_changed(data: bytes, rng: Random) -> bytes:
    """Delete, rename or replace nodes of the tree."""
    content = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        nodes: list[tuple[Any, Any]] = []

        def collect(node: Any, nodes: list[tuple[Any, Any]] = nodes) -> None:
            for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
                nodes.append((node, key))
                collect(node[key])

        collect(content)
        if not nodes:
            break
        parent, key = rng.choice(nodes)
        kind = rng.randrange(4)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(("_target_", "_args_", "_partial_", "unknown", "0", "network"))] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(rng.choice(_JUNK))
    return json.dumps(content).encode()


def _read_configuration(path: Path, rng: Random) -> None:
    content = json.loads(path.read_text())
    if isinstance(content, dict) and content.get("state_dict") == "weights":
        network = LBAM(width=0.02, levels=2)
        content["state_dict"] = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint_path = path.with_suffix(".ckpt")
    torch.save(content, checkpoint_path)
    try:
        checkpoint = load_checkpoint(checkpoint_path)
        assert isinstance(checkpoint.network, InpaintingNetwork)
        assert isinstance(checkpoint.config, dict)
        assert isinstance(checkpoint.step, int)
    finally:
        assert not Path(OWNED).exists(), "a configuration was run"


def _yaml() -> dict[str, bytes]:
    aliases = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'y'}]\n" for i in range(12))
    plain = yaml.safe_dump(_CONTENT["config"], sort_keys=False)
    return {"config": plain.encode(), "aliases": (plain + aliases).encode()}


def _read_exported(path: Path, rng: Random) -> None:
    folder = path.with_name("exported")
    folder.mkdir(exist_ok=True)
    if not (folder / WEIGHTS).is_file():
        (folder / WEIGHTS).write_bytes(save(LBAM(width=0.02, levels=2).state_dict(), {"step": "3"}))
    shutil.copy(path, folder / CONFIG)
    assert isinstance(read_checkpoint(folder), dict)
    assert isinstance(load_checkpoint(folder).network, InpaintingNetwork)
