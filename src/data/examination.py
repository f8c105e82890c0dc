"""Every picture of a data set is read, in parallel, and what was found is kept at once: a stopped scan goes on.

What is found gathers in Parquet files in a folder beside the manifest to be, each whole or not there. Several scans may
write there at once; at worst they find the same.
"""

import multiprocessing
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.data.manifest import FACTS, hash_of, sizes_and_times
from src.data.transforms import shorter_side_px, transformed
from src.image_files.reading import read_image

FILES_A_TASK = 32
"""So many files are given to a process at a time."""

KEPT_AFTER_FILES, KEPT_AFTER_S = 4096, 10.0
"""What was found is written after so many files or seconds, whichever is sooner: no more is lost of a killed scan."""

_OF_EVERYTHING = ".all.parquet"

Facts = dict[str, Any]
"""A row of `manifest.FACTS`."""


def examined(root: Path, name: str) -> Facts:
    """What is in a file: it is read, hashed and decoded.

    Args:
        name: relative to `root`.
    """
    path = root / name
    facts = _nothing_known(name)
    try:
        status = path.stat()
        facts |= {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "sha256": hash_of(path)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF data and the like; they do not name the file
            photo = read_image(path)
            facts |= {"height": photo.shape[0], "width": photo.shape[1]} | _kind(path)
    except InputError as error:
        facts["damaged"] = str(error).removeprefix(f"{path}: ")
    except FileNotFoundError:
        facts["damaged"] = "there is no such file" + (", the link leads nowhere" if path.is_symlink() else "")
    except OSError as error:
        facts["damaged"] = f"can't be read: {error.strerror}"
    return facts


def _kind(path: Path) -> Facts:
    try:
        with Image.open(path) as header:
            return {"mode": header.mode, "format": header.format}
    except OSError:
        return {}  # TIFFs of 16 bits, which `read_image` does not read through Pillow


@dataclass(frozen=True)
class Examination:
    """Reads pictures that have not been read before.

    Args:
        root: the data set's folder.
        kept_in: a folder of its own, for what is found; None keeps nothing.
        workers: processes; 0 reads in this one.
        everything: of scans that were stopped, only those count that were to read everything, too.
    """

    root: Path
    kept_in: Path | None
    workers: int
    everything: bool = False

    def known(self) -> pa.Table:
        """What scans that were stopped have found, as of `FACTS`."""
        tables, parts = [], f"*{_OF_EVERYTHING}" if self.everything else "*.parquet"
        for part in sorted(self.kept_in.glob(parts)) if self.kept_in is not None else []:
            with suppress(pa.ArrowException, OSError), pq.ParquetFile(part, page_checksum_verification=True) as file:
                tables.append(file.read().select(FACTS.names).cast(FACTS))  # a damaged part is found anew
        return pa.concat_tables([FACTS.empty_table(), *tables])

    def unchanged(self, names: pa.Array, known: pa.Table) -> pa.Table:
        """Rows of `known` whose files have the size and time of change that they had, and were not damaged."""
        # Of two rows of a path the later one counts.
        last = (
            pa.table({"path": known["path"], "row": np.arange(len(known))}).group_by("path").aggregate([("row", "max")])
        )
        known = known.take(last["row_max"]).filter(pc.is_null(pc.field("damaged")))
        known = known.filter(pc.is_in(known["path"], value_set=names))
        were = np.stack([known["bytes"].to_numpy(), known["modified_ns"].to_numpy()], axis=1)
        now = sizes_and_times([f"{self.root}/{name}" for name in known["path"].to_pylist()])
        return known.filter(pa.array((were == now).all(axis=1)))

    def examine(self, names: Sequence[str], told: Callable[[int, int], None]) -> pa.Table:
        """What is in these files, in no order.

        Args:
            told: called now and then with how many files were read since, and how many of them are damaged.
        Raises:
            InputError: what was found can't be kept.
        """
        tables, waiting, kept_at = [], list[Facts](), time.monotonic()
        try:
            for facts in self._in_parallel(names) if self.workers else ([examined(self.root, n)] for n in names):
                waiting += facts
                told(len(facts), sum(fact["damaged"] is not None for fact in facts))
                if len(waiting) >= KEPT_AFTER_FILES or time.monotonic() - kept_at > KEPT_AFTER_S:
                    tables.append(self._keep(waiting))
                    waiting, kept_at = [], time.monotonic()
        finally:
            tables.append(self._keep(waiting))
        return pa.concat_tables(tables)

    def forget(self) -> None:
        """Remove what was kept."""
        if self.kept_in is not None:
            shutil.rmtree(self.kept_in, ignore_errors=True)

    def _keep(self, facts: Sequence[Facts]) -> pa.Table:
        table = pa.Table.from_pylist(list(facts), FACTS)
        if facts and self.kept_in is not None:
            # Named by time, as the later counts, and by process.
            ending = _OF_EVERYTHING if self.everything else ".parquet"
            with atomic_write(self.kept_in / f"{time.time_ns()}-{os.getpid()}{ending}") as temporary:
                pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        return table

    def _in_parallel(self, names: Sequence[str]) -> Iterator[list[Facts]]:
        tasks = [names[i : i + FILES_A_TASK] for i in range(0, len(names), FILES_A_TASK)]
        while tasks:
            unfinished: dict[Future[list[Facts]], Sequence[str]] = {}
            with ProcessPoolExecutor(self.workers, initializer=_start_worker) as pool:
                try:
                    unfinished = {pool.submit(_all_examined, self.root, task): task for task in tasks}
                    for future in as_completed(list(unfinished)):
                        found = future.result()
                        del unfinished[future]
                        yield found
                except BrokenProcessPool:
                    pass
                finally:
                    pool.shutdown(wait=False, cancel_futures=True)
            # A process was ended from outside, or by a decoder. The file is among the first ones that are unfinished:
            # each process had one task, and there was a queue as long.
            tasks = list(unfinished.values())
            suspects, tasks = tasks[: 2 * self.workers + 1], tasks[2 * self.workers + 1 :]
            yield from ([self._alone(name)] for task in suspects for name in task)

    def _alone(self, name: str) -> Facts:
        with ProcessPoolExecutor(1, initializer=_start_worker) as pool:
            try:
                return pool.submit(examined, self.root, name).result()
            except BrokenProcessPool:
                reason = "ends the process that reads it: its decoder crashes, or there is too little memory"
                return _nothing_known(name) | {"damaged": reason}


def crop_size(transform: A.Compose, height: int, width: int) -> tuple[int, int]:
    """Height and width of what a pipeline makes of a photo of this size.

    Raises:
        InputError: nothing, as the photo is too small or too thin.
    """
    side_px = shorter_side_px(transform)
    enlarged_px = 0 if side_px is None else side_px**2 * max(height, width) // min(height, width)
    if Image.MAX_IMAGE_PIXELS is not None and enlarged_px > Image.MAX_IMAGE_PIXELS:
        raise InputError(f"is {width}x{height}: with a shorter side of {side_px} px it would have {enlarged_px} pixels")
    try:
        crop = transformed(transform, np.zeros((height, width, 3), np.uint8), np.random.SeedSequence(0))
    except Exception as error:  # whatever a user's own steps raise
        raise InputError(f"is {width}x{height}, of which the transforms make no crop: {error}") from error
    return crop.shape[0], crop.shape[1]


def _all_examined(root: Path, names: Sequence[str]) -> list[Facts]:
    return [examined(root, name) for name in names]


def _nothing_known(name: str) -> Facts:
    return dict.fromkeys(FACTS.names) | {"path": name, "bytes": -1, "modified_ns": -1}


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives out the tasks
    cv2.setNumThreads(0)  # its threads would fight the other workers for the cores
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Where the parent is killed, nobody else tells its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
