"""The files of records that `records=` lists: found by path, directory or pattern, and a name for every method."""

import glob
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from src.common.errors import InputError
from src.evaluation.records import MethodRecords, is_records, read_methods
from src.evaluation.same_test import relative_paths

log = logging.getLogger(__name__)


def read_listed(records: Any) -> list[MethodRecords]:
    """Read the records that an option lists, with a different name for every method and relative image paths.

    A method keeps its name if no other has it; otherwise, the end of its file's path that distinguishes them is added
    in brackets. In a mapping, the key is the name; if its files are of several methods, their names are added.
    An evaluation that is listed twice, such as in a merged file and in its own, is read once.

    Args:
        records: a path, a list of paths, or a mapping of names to paths. A path may be a file, a directory, whose
            records are searched in all subdirectories, or a glob pattern.
    Raises:
        InputError: no records are listed, a file is missing or invalid, or two names are of the same evaluation.
    """
    if isinstance(records, dict | DictConfig):
        named = {str(name): _find_files(str(path)) for name, path in records.items()}
    elif isinstance(records, str):
        named = {"": _find_files(records)}
    elif isinstance(records, list | tuple | ListConfig):
        named = {"": [file for path in records for file in _find_files(str(path))]}
    else:
        raise InputError(f"records must be a path, a list [a,b] or a mapping {{name: a, other: b}}, got {records!r}")
    read: dict[str, tuple[str, MethodRecords]] = {}  # by evaluation
    for name, files in named.items():
        for file in dict.fromkeys(files):
            for method in read_methods(file):
                evaluation = method.origin.provenance.to_json()
                if evaluation not in read:
                    read[evaluation] = name, method
                elif read[evaluation][0] != name:
                    raise InputError(
                        f"records: {read[evaluation][0]} and {name} are the same evaluation, {file}: leave one out"
                    )
                else:
                    log.info("%s: %s was read already", file, method.origin.method)
    if not read:
        raise InputError("records lists no files: set it to paths of files that src.evaluate wrote")
    methods = [method for _, method in read.values()]
    names = _unique_names([name for name, _ in read.values()], methods)
    return [_renamed(method, name) for method, name in zip(methods, names, strict=True)]


def _find_files(pattern: str) -> list[Path]:
    """Return the files that a path, directory or pattern is for, in the order of their names."""
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        if found := [file for file in sorted(path.rglob("*.parquet")) if is_records(file)]:
            return found
        raise InputError(f"records: {pattern} and its subdirectories have no records of src.evaluate")
    # "[" alone does not make a pattern of a path whose file was deleted or misspelt.
    if any(sign in pattern for sign in "*?"):
        matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        files = [file for match in matches for file in (_find_files(str(match)) if match.is_dir() else [match])]
        if files := [file for file in files if len(matches) == 1 or is_records(file)]:
            return files
        raise InputError(f"records: no file of records matches {pattern}")
    raise InputError(f"records: {pattern} does not exist: list files that src.evaluate wrote, or their directory")


def _unique_names(keys: Sequence[str], methods: Sequence[MethodRecords]) -> list[str]:
    """Return a name for each method, with the key of a mapping or "" for each."""
    names = []
    key_counts = Counter(keys)
    for key, method in zip(keys, methods, strict=True):
        own = method.origin.method
        names.append(own if not key else key if key_counts[key] == 1 else f"{key} ({own})")
    clashing = [name for name, count in Counter(names).items() if count > 1]
    for name in clashing:
        group = [i for i, other in enumerate(names) if other == name]
        ends = _distinguishing_ends([methods[i].origin.file.path for i in group])
        for i, end in zip(group, ends, strict=True):
            names[i] = f"{name} ({end})"
    return names


def _distinguishing_ends(paths: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that differ, without what all of them end with: `mine/records` is `mine`."""
    parts = [Path(path).with_suffix("").parts for path in paths]
    common = 0
    while all(len(part) > common + 1 for part in parts) and len({part[len(part) - 1 - common] for part in parts}) == 1:
        common += 1
    parts = [part[: len(part) - common] for part in parts]
    length = 1
    while len({part[-length:] for part in parts}) < len(parts) and length < max(map(len, parts)):
        length += 1
    ends = ["/".join(part[-length:]) for part in parts]
    if len(set(ends)) == len(ends):
        return ends
    return [f"{end}, {number}" for number, end in enumerate(ends, start=1)]  # of one file that has been overwritten


def _renamed(method: MethodRecords, name: str) -> MethodRecords:
    origin = replace(method.origin, method=name)
    frame = method.frame.assign(method=name, path=relative_paths(method.frame, origin.provenance))
    return MethodRecords(origin, frame)
