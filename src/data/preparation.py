"""Prepare a dataset: draw its splits, read its images, and write both into a manifest."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import albumentations as A
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from src.common.errors import InputError
from src.data.files import DatasetFiles, escape_unprintable, summarize
from src.data.manifest import COLUMNS, FACTS, SPLITS, Manifest, Origin, relative_names, write_manifest
from src.data.scan import scan_files, unchanged_files
from src.data.transforms import crop_size
from src.image_files.search import images_under


@dataclass(frozen=True)
class PreparedDataset:
    """Result of `prepare`; `origin` is None if no manifest was written.

    Attributes:
        manifest_path: path of the manifest, written or not; None if `data.manifest=null`.
        images: the manifest's rows, `manifest.COLUMNS`, in the order of the splits; images of no split come last.
        files_read: number of files read, in `seconds`; the others had not changed.
        enlarged: number of images smaller than their crop.
    """

    manifest_path: Path | None
    origin: Origin | None
    images: pd.DataFrame
    files_read: int
    seconds: float
    enlarged: int

    @property
    def corrupt(self) -> pd.DataFrame:
        """The rows of images that can't be used."""
        return self.images[self.images["corrupt"].notna()]

    @property
    def duplicates(self) -> list[tuple[str, str]]:
        """Pairs of identical files in different splits."""
        intact = self.images[self.images["split"].notna() & self.images["corrupt"].isna()]
        groups = intact.drop_duplicates(["sha256", "split"]).groupby("sha256", sort=False)["path"].agg(list)
        return [(group[0], group[-1]) for group in groups if len(group) > 1]


def prepare(
    files: DatasetFiles,
    transforms: Mapping[str, A.Compose],
    *,
    corrupt: Literal["stop", "skip"] = "stop",
    moved: Literal["stop", "keep", "redraw"] = "stop",
    verify: Literal["changed", "all"] = "changed",
    workers: int = 0,
) -> PreparedDataset:
    """Read every image of a dataset and write its manifest.

    An existing manifest is updated: files that still have their recorded size and modification time are not read again.

    Args:
        transforms: pipelines for "train" and "evaluation"; each image must be large enough for its pipeline.
        corrupt: what to do with corrupt images: "skip" leaves them out of the splits, "stop" writes no manifest.
        moved: what to do if added or removed files would change the split of an image in the existing manifest: "keep"
            leaves known images in their splits and ignores new ones, "redraw" draws all splits again, also with other
            arguments, and "stop" raises an error.
        verify: which known files to read again: "changed" or "all".
        workers: number of reader processes; 0 reads in the main process.
    """
    path = files.manifest_path
    previous = Manifest.read(path) if path is not None and path.is_file() else None
    drawn = {split: relative_names(files.directory, paths) for split, paths in files.draw().items()}
    on_disk = images_under(files.directory)
    for name in on_disk.union(*drawn.values()):
        if not name.isascii() and name.encode(errors="replace").decode() != name:
            raise InputError(f"data.root={files.root}: the name {escape_unprintable(name)} is not UTF-8: rename it")
    kept = previous if moved != "redraw" else None
    names = drawn if kept is None else _keep_splits(files, kept, drawn, on_disk, moved)
    if path is not None:
        _require_writable(path)
    start = time.monotonic()
    split_of = {name: split for split in SPLITS for name in names[split]}
    table, files_read = _read(files, list(split_of), previous if verify == "changed" else None, workers)
    seconds = time.monotonic() - start
    table.insert(1, "split", list(split_of.values()))
    enlarged = _check_sizes(table, transforms)
    unused = pa.Table.from_pylist([{"path": name} for name in sorted(on_disk.difference(split_of))], COLUMNS)
    rows = pa.concat_tables([pa.Table.from_pandas(table, COLUMNS, preserve_index=False), unused])
    origin = None
    if path is not None and (table["corrupt"].isna().all() or corrupt == "skip"):
        _require_nonempty_splits(drawn, kept, table)
        origin = write_manifest(path, rows, name=files.name, root=files.directory, split=files.split)
    return PreparedDataset(path, origin, rows.to_pandas(), files_read, seconds, enlarged)


def _require_writable(path: Path) -> None:
    """Fail before the images are read, which may take an hour."""
    try:
        with suppress(FileExistsError):  # a file there is reported by the next line
            path.parent.mkdir(parents=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(
            f"data.manifest={path} can't be written ({error.strerror}): set data.manifest=<another file>, here and in "
            "the commands that use it"
        ) from error


def _keep_splits(
    files: DatasetFiles, previous: Manifest, drawn: dict[str, list[str]], on_disk: set[str], moved: str
) -> dict[str, list[str]]:
    """Return the names by split if no image of the previous manifest changes its split; otherwise follow `moved`."""
    if differences := files.differences(previous):
        raise InputError(
            f"the manifest {previous.path} was made with other splits ({', '.join(differences)}): set "
            "data.manifest=<another file>, or moved=redraw to replace it"
        )
    split_now = {name: split for split in SPLITS for name in drawn[split]}
    split_before = {name: split for name, split in previous.split_of().items() if name in on_disk}
    changes = [
        f"{name} from {split or 'none'} to {split_now.get(name, 'none')}"
        for name, split in split_before.items()
        if split_now.get(name) != split
    ]
    if not changes:
        return drawn
    if moved == "keep":
        return {split: [name for name, before in split_before.items() if before == split] for split in SPLITS}
    raise InputError(
        f"{len(changes)} images of the manifest {previous.path} would change their split, as files were added or "
        f"removed: {summarize(changes)}; moved=keep leaves them in their splits and ignores new files; moved=redraw "
        "draws all splits again, after which results are not comparable with earlier ones"
    )


def _require_nonempty_splits(drawn: dict[str, list[str]], previous: Manifest | None, images: pd.DataFrame) -> None:
    """Raise InputError if a split that had images, as drawn now or in the previous manifest, has no intact one left."""
    for split in SPLITS:
        of_split = images[images["split"] == split]
        expected = drawn[split] or (previous is not None and previous.names(split))
        if expected and of_split["corrupt"].notna().all():
            advice = (
                "restore the removed files, or set moved=redraw to draw all splits again"
                if of_split.empty
                else "replace its corrupt images"
            )
            raise InputError(f"no manifest was written, as the {split} split would have no intact image: {advice}")


def _read(files: DatasetFiles, names: list[str], previous: Manifest | None, workers: int) -> tuple[pd.DataFrame, int]:
    """Return the facts about files, in order, and the number of files read; the others are as in `previous`."""
    wanted, unchanged = pa.array(names, pa.string()), FACTS.empty_table()
    if previous is not None:
        known = previous.table.select(FACTS.names).cast(FACTS)
        unchanged = unchanged_files(files.directory, known.filter(pc.is_in(known["path"], value_set=wanted)))
    unread = wanted.filter(pc.invert(pc.is_in(wanted, unchanged["path"]))).to_pylist()
    facts = pa.concat_tables([unchanged, scan_files(files.directory, unread, workers)])
    return facts.take(pc.index_in(wanted, facts["path"].combine_chunks())).to_pandas(), len(unread)


def _check_sizes(table: pd.DataFrame, transforms: Mapping[str, A.Compose]) -> int:
    """Mark images that are too small for their crop as corrupt, and return how many have to be enlarged for it."""

    @cache
    def check(pipeline: str, height: int, width: int) -> tuple[str | None, bool]:
        try:
            crop = crop_size(transforms[pipeline], height, width)
        except InputError as error:
            return str(error), False
        return None, height < crop[0] or width < crop[1]

    intact = table["corrupt"].isna()
    pipelines = np.where(table["split"] == "train", "train", "evaluation")[intact]
    sizes = zip(pipelines, *(table.loc[intact, side].astype(int) for side in ("height", "width")), strict=True)
    results = [check(*size) for size in sizes]
    table.loc[intact, "corrupt"] = [reason for reason, _ in results]
    return sum(enlarged for _, enlarged in results)
