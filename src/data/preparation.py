"""A data set is made ready: its splits are settled, its pictures read, and both become a manifest."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import albumentations as A
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.data.examination import Examination, crop_size
from src.data.files import PictureFiles, some
from src.data.manifest import COLUMNS, FACTS, SPLITS, Manifest, Origin, names_by_split, write_manifest
from src.data.splits import pictures_under

NO_PATH = "its name is not UTF-8: rename it"


@dataclass(frozen=True)
class Prepared:
    """What is known of a data set.

    Attributes:
        path: of the manifest; None if none was to be written.
        origin: of the manifest that was written; None if none was, as there were damaged pictures.
        pictures: its rows, `manifest.COLUMNS`, in the order of the splits, those of no split last.
        read: how many files were read, in `seconds`; the others had not changed.
        enlarged: how many pictures are smaller than the crop that is made of them.
        damaged_list: where the damaged ones are listed; None if there are none, or there is no manifest.
    """

    path: Path | None
    origin: Origin | None
    pictures: pd.DataFrame
    read: int
    seconds: float
    enlarged: int
    damaged_list: Path | None

    @property
    def damaged(self) -> pd.DataFrame:
        """The rows of pictures that can't be used."""
        return self.pictures[self.pictures["damaged"].notna()]

    @property
    def repeated(self) -> list[tuple[str, str]]:
        """Pairs of pictures that are the same, byte for byte, and are in different splits."""
        sound = self.pictures[self.pictures["split"].notna() & self.pictures["damaged"].isna()]
        sound = sound[sound.duplicated("sha256", keep=False)].drop_duplicates(["sha256", "split"])
        pairs = sound.groupby("sha256", sort=False)["path"].agg(list)
        return [(same[0], same[-1]) for same in pairs if len(same) > 1]


def prepare(
    files: PictureFiles,
    transforms: Mapping[str, A.Compose],
    *,
    damaged: Literal["stop", "skip"] = "stop",
    moved: Literal["stop", "keep", "redraw"] = "stop",
    verify: Literal["changed", "all"] = "changed",
    workers: int = 0,
) -> Prepared:
    """Read every picture of a data set and write its manifest.

    A scan that was stopped goes on where it was. A manifest that is there already is brought up to date: files of the
    size and the time of change that it knows are not read again.

    Args:
        transforms: from photo to crop, by "train" and "evaluation"; pictures must be large enough for theirs.
        damaged: "skip" leaves damaged pictures out of the splits; with "stop" no manifest is written then.
        moved: what becomes of the splits of a manifest that is there, if other pictures came or went so that pictures
            it knows would now be drawn into another split. "keep" leaves those where they are, and new ones out;
            "redraw" draws the splits anew, with other arguments too; with "stop" nothing is done.
        verify: "all" reads what has not changed, too; but what a stopped scan of "all" has read.
        workers: processes that read.
    Raises:
        InputError: the folder is missing or laid out otherwise, pictures would move, a split would be left without
            any, or the manifest can't be written.
    """
    path = files.manifest_path
    before = Manifest.read(path) if path is not None and path.is_file() else None
    names = drawn = names_by_split(files.folder, files.drawn())
    on_disk = pictures_under(files.folder)
    if before is not None and moved != "redraw":
        names = _as_before(files, before, drawn, on_disk, moved)
    split_of = {name: split for split in SPLITS for name in names[split]}
    examination = Examination(files.folder, None if path is None else _unfinished(path), workers, verify == "all")
    started = time.monotonic()
    table, read = _read(
        examination,
        [name for name in split_of if _is_utf8(name)],
        before if verify == "changed" else None,
        files.name,
    )
    seconds = time.monotonic() - started
    table.insert(1, "split", [split_of[name] for name in table["path"]])
    enlarged = _judge_sizes(table, transforms)
    rows = pa.concat_tables(
        [pa.Table.from_pandas(table, COLUMNS, preserve_index=False), _known_by_name(split_of, on_disk)]
    )
    pictures = rows.to_pandas()
    unusable = pictures[pictures["damaged"].notna()]
    listed = None if path is None else _listed(path.with_name(f"{path.name}.damaged.csv"), unusable)
    origin = None
    if path is not None and (unusable.empty or damaged == "skip"):
        _check_none_is_emptied(drawn, before if moved != "redraw" else None, pictures)
        origin = write_manifest(path, rows, name=files.name, root=files.folder, split=files.split)
        examination.forget()
    return Prepared(path, origin, pictures, read, seconds, enlarged, listed)


def _unfinished(path: Path) -> Path:
    """A folder for what is found; made now, as it must not turn out after an hour that nothing can be written there."""
    folder = path.with_name(f"{path.name}.unfinished")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"data.manifest={path} can't be written: {error.strerror}; give data.manifest=<a file elsewhere>, here and "
            "to the commands that use it"
        ) from error
    return folder


def _as_before(
    files: PictureFiles, before: Manifest, names: dict[str, list[str]], on_disk: set[str], moved: str
) -> dict[str, list[str]]:
    """The names by split, if none that a manifest knows changes its split; else what `moved` says."""
    if differences := files.differences(before):
        raise InputError(
            f"the manifest {before.path} was made with other splits, asked for are {', '.join(differences)}: give "
            "data.manifest=<another file>, or moved=redraw to replace it"
        )
    now = {name: split for split in SPLITS for name in names[split]}
    then = {name: split for name, split in before.split_of().items() if name in on_disk}
    others = [
        f"{name} from {split or 'none'} to {now.get(name, 'none')}"
        for name, split in then.items()
        if now.get(name) != split
    ]
    if not others:
        return names
    if moved == "keep":
        return {split: [name for name, of in then.items() if of == split] for split in SPLITS}
    raise InputError(
        f"{len(others)} pictures that the manifest {before.path} knows would change their split, as others came or "
        f"went: {some(others)}; moved=keep leaves each where it is, and new ones out; moved=redraw draws the splits "
        "anew, after which results are not to be compared with those from before"
    )


def _check_none_is_emptied(drawn: dict[str, list[str]], before: Manifest | None, pictures: pd.DataFrame) -> None:
    """Refuse what would leave a split without a sound picture that has some, as drawn now or in a manifest."""
    taken = pictures[pictures["split"].notna()]
    left = set(taken["split"][taken["damaged"].isna()])
    wanted = [split for split in SPLITS if drawn[split] or (before is not None and before.names(split))]
    if emptied := [split for split in wanted if split not in left]:
        advice = (
            "replace its damaged ones"
            if emptied[0] in set(taken["split"])
            else "put back what was there, or give moved=redraw, which draws the splits anew of what is there now"
        )
        raise InputError(f"no manifest was written, as it would have no sound picture for {emptied[0]}: {advice}")


def _read(examination: Examination, names: list[str], before: Manifest | None, title: str) -> tuple[pd.DataFrame, int]:
    """What is in these files, in order, and how many of them were read; the others are as `before`, or a scan, knew."""
    known, wanted = examination.known(), pa.array(names, pa.string())
    if before is not None:
        known = pa.concat_tables([before.table.select(FACTS.names).cast(FACTS), known])
    unchanged = examination.unchanged(wanted, known)
    unread = wanted.filter(pc.invert(pc.is_in(wanted, unchanged["path"])))
    read = _examined(examination, unread.to_pylist(), title)
    facts = pa.concat_tables([unchanged, read])
    return facts.take(pc.index_in(wanted, facts["path"].combine_chunks())).to_pandas(), len(read)


def _examined(examination: Examination, names: list[str], title: str) -> pa.Table:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[damaged]} damaged"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    damaged = 0
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(title, total=len(names), damaged=0)

        def told(files: int, of_them_damaged: int) -> None:
            nonlocal damaged
            damaged += of_them_damaged
            progress.update(bar, advance=files, damaged=damaged)

        return examination.examine(names, told)


def _judge_sizes(table: pd.DataFrame, transforms: Mapping[str, A.Compose]) -> int:
    """Mark pictures that are too small for their crop as damaged; returns how many are enlarged for it."""

    @cache
    def judged(kind: str, height: int, width: int) -> tuple[str | None, bool]:
        try:
            crop = crop_size(transforms[kind], height, width)
        except InputError as error:
            return str(error), False
        return None, height < crop[0] or width < crop[1]

    sound = table["damaged"].isna()
    kinds = np.where(table["split"] == "train", "train", "evaluation")[sound]
    sizes = zip(kinds, *(table.loc[sound, side].astype(int) for side in ("height", "width")), strict=True)
    verdicts = [judged(*size) for size in sizes]
    table.loc[sound, "damaged"] = [reason for reason, _ in verdicts]
    return sum(enlarged for _, enlarged in verdicts)


def _known_by_name(split_of: Mapping[str, str], on_disk: set[str]) -> pa.Table:
    """Rows, as of `COLUMNS`, of files whose names can't be written down as they are, and of those of no split."""
    rows = [
        {"path": _as_utf8(name), "split": split, "bytes": -1, "modified_ns": -1, "damaged": NO_PATH}
        for name, split in split_of.items()
        if not _is_utf8(name)
    ]
    rows += [{"path": _as_utf8(name)} for name in sorted(on_disk.difference(split_of))]
    return pa.Table.from_pylist(rows, COLUMNS)


def _listed(listing: Path, found: pd.DataFrame) -> Path | None:
    """Write the damaged pictures into a file; one from before goes where there are none now."""
    if found.empty:
        listing.unlink(missing_ok=True)
        return None
    with atomic_write(listing) as temporary:
        found[["path", "split", "damaged"]].to_csv(temporary, index=False)
    return listing


def _is_utf8(name: str) -> bool:
    return name.isascii() or _as_utf8(name) == name


def _as_utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
