"""Fuzz targets: for each reader of files its valid files, their mutation, and checks of what it returns."""

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from safetensors.torch import save

from src.common.provenance import Provenance
from src.common.tensor_files import read_tensor_file
from src.data.manifest import COLUMNS, SPLITS, Manifest, write_manifest
from src.data.splits import by_shares
from src.evaluation.records import read_records, write_records
from src.masks.bank import MaskBank
from src.masks.rectangles import Rectangles
from src.voting.votes import Vote, Votes
from tests.fuzz.checkpoint_configs import (
    OWNED,
    checkpoint_configs,
    config_changed,
    exported_configs,
    read_config_in_checkpoint,
    read_exported,
)  # fmt: skip
from tests.fuzz.images import image_files, read_any_image
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
from tests.fuzz.run_directories import read_run_directory, run_directories, run_directory_changed
from tests.fuzz.run_states import check_run_state, load_optimizer_state, recipe


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
    images = image_files()
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
            {name: data for name, data in images.items() if name.endswith(kind)},
            either(*mutations),
            read_any_image,
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
        "checkpoint": Target(".json", checkpoint_configs(), config_changed, read_config_in_checkpoint),
        "exported": Target(".yaml", exported_configs(), plain, read_exported),
        "optimizer": Target(".json", {"unchanged": b"[]"}, recipe, load_optimizer_state),
        "run_directory": Target(".json", run_directories(), run_directory_changed, read_run_directory),
        "run_state": Target(".json", {"unchanged": b"[]"}, recipe, check_run_state(folder)),
    }


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
