"""Whether records are of the same test: the same images, crops and masks, wherever the files of the images are."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from src.common.errors import InputError
from src.common.provenance import Provenance
from src.data.manifest import file_sha256, relative_names
from src.evaluation.records import MASK_INDEX

CONTENTS = "sha256_of_scored_files"
"""Fact of `Provenance.data`: the hash of the names and contents of the scored images, from `hash_contents`."""

_MANIFEST = "sha256_of_manifest"

_FACTS = {
    "sha256_of_file_list": "test images (hash of their relative names)",
    CONTENTS: "contents of the test images (hash)",
    _MANIFEST: "manifest of the dataset (hash)",
    "samples_per_image": "crops of each image",
    "masks_per_bin": "masks of each crop and bin",
    "crop_seed": "seed of the crops",
}
"""Facts of `Provenance.data` that identify a test; the name and the directory of the dataset do not."""

_ADVICE = (
    "score all methods on copies of the same images, with the same options of data= and bank=<the bank.npz that "
    "src.evaluate wrote next to the other records>, or with the same protocol="
)


def hash_contents(root: Path, paths: Sequence[str]) -> str:
    """Return the hash of the names, relative to `root`, and contents of image files, whatever their order."""
    unique = sorted(set(paths))
    digest = hashlib.sha256()
    for name, path in zip(relative_names(root, [Path(path) for path in unique]), unique, strict=True):
        digest.update(os.fsencode(json.dumps([name, file_sha256(path)])))
    return digest.hexdigest()


def relative_paths(frame: pd.DataFrame, provenance: Provenance) -> pd.Series:
    """Return the paths of images in records relative to their dataset's directory, which differs between machines."""
    prefix = os.path.join(str(provenance.data.get("root", "")), "")  # noqa: PTH118  # only this adds a trailing slash

    def shorten(path: str) -> str:
        if len(prefix) > 1 and path.startswith(prefix):
            return path[len(prefix) :]
        return PurePath(path).name if PurePath(path).is_absolute() else path

    return frame["path"].map(shorten)


def find_differences(one: Provenance, other: Provenance) -> list[str]:
    """Describe in what the tests of two methods differ; empty if their scores can be compared.

    Facts that only one of them has, such as the hash of a manifest, are left out. A manifest covers training images as
    well and is compared only if the contents of the scored images were not hashed.
    """
    found = []
    if one.mask_bank_hash != other.mask_bank_hash:
        found.append(f"mask bank ({_short(one.mask_bank_hash)} and {_short(other.mask_bank_hash)})")
    common = one.data.keys() & other.data.keys()
    for name, described in _FACTS.items():
        known = name in common and not (name == _MANIFEST and CONTENTS in common)
        if known and one.data[name] != other.data[name]:
            found.append(f"{described} ({_short(one.data[name])} and {_short(other.data[name])})")
    transforms = [_evaluation_transform(made) for made in (one, other)]
    if None not in transforms and transforms[0] != transforms[1]:
        found.append(f"evaluation transform ({transforms[0]} and {transforms[1]})")
    return found


def require_same_test(by_file: Mapping[str, tuple[Provenance, pd.DataFrame]]) -> None:
    """Raise InputError if the records of files, with relative paths, are not of the same images, crops and masks."""
    (first_file, (first_made, first)), *others = by_file.items()
    expected = _samples(first)
    for file, (made, records) in others:
        if differences := find_differences(first_made, made):
            raise InputError(f"{first_file} and {file} are of different tests: {'; '.join(differences)}; {_ADVICE}")
        if len(records) != len(expected):
            raise InputError(
                f"{first_file} has {len(expected)} records and {file} has {len(records)} of the same test: score all "
                "images in both, with the same scale.test_batches="
            )
        found = _samples(records)
        unlike = found.index[(found[["path", "index"]] != expected[["path", "index"]]).any(axis=1)]
        if len(unlike):
            name, other = expected.loc[unlike[0], "path"], found.loc[unlike[0], "path"]
            raise InputError(f"{first_file} and {file} are of different images, such as {name} and {other}; {_ADVICE}")


def contents_are_known(provenances: Sequence[Provenance]) -> bool:
    """Return whether the contents of the images were compared: all have a hash of the scored files, or a manifest."""
    return any(all(fact in made.data for made in provenances) for fact in (CONTENTS, _MANIFEST))


def _samples(records: pd.DataFrame) -> pd.DataFrame:
    keys = ["index", *([MASK_INDEX] if MASK_INDEX in records else []), "hole_ratio", "path"]
    return records.sort_values(keys, ignore_index=True)


def _evaluation_transform(made: Provenance) -> Any:
    data = made.config.get("data")
    transforms = data.get("transforms") if isinstance(data, dict) else None
    return transforms.get("evaluation") if isinstance(transforms, dict) else None


def _short(value: object) -> str:
    """Return a value, or the beginning of a hash."""
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 16 else str(value)
