"""Read every image file of a dataset in parallel, and record its properties or the reason why it is corrupt."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from rich.progress import track

from src.common.errors import InputError
from src.data.manifest import FACTS, file_sha256, sizes_and_mtimes
from src.image_files.reading import read_image

FILES_PER_TASK = 32

FileFacts = dict[str, Any]
"""A row of `manifest.FACTS`."""


def scan_file(root: Path, name: str) -> FileFacts:
    """Read, hash and decode one file; `name` is relative to `root`."""
    path = root / name
    facts: FileFacts = dict.fromkeys(FACTS.names) | {"path": name, "bytes": -1, "modified_ns": -1}
    try:
        status = path.stat()
        facts |= {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "sha256": file_sha256(path)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about EXIF data and similar do not name the file
            facts["height"], facts["width"], _ = read_image(path).shape
            with suppress(OSError), Image.open(path) as header:  # Pillow can't read 16-bit TIFFs, which stay without
                facts |= {"mode": header.mode, "format": header.format}
    except InputError as error:
        facts["corrupt"] = str(error).removeprefix(f"{path}: ")
    except FileNotFoundError:
        facts["corrupt"] = "is a broken link" if path.is_symlink() else "does not exist"
    except OSError as error:
        facts["corrupt"] = f"can't be read: {error.strerror}"
    return facts


def scan_files(root: Path, names: Sequence[str], workers: int) -> pa.Table:
    """Scan files in `workers` processes, or in this one, and return a table of `FACTS`, in the order of `names`."""
    tasks = [names[i : i + FILES_PER_TASK] for i in range(0, len(names), FILES_PER_TASK)]
    scan = partial(_scan_task, root)
    if workers == 0:
        return _collect(map(scan, tasks), len(tasks))
    with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
        try:
            return _collect(pool.map(scan, tasks), len(tasks))
        except BrokenProcessPool:
            raise InputError(
                f"a process that read the images in {root} died: an image decoder crashed, or memory ran out; try "
                "again with fewer workers, or with workers=0 to see the crash itself"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def unchanged_files(root: Path, known: pa.Table) -> pa.Table:
    """Return the rows of `known`, as in `FACTS`, whose files were intact and have not changed in size or time."""
    known = known.filter(pc.is_valid(pc.field("sha256")) & pc.is_null(pc.field("corrupt")))
    recorded = np.stack([known["bytes"].to_numpy(), known["modified_ns"].to_numpy()], axis=1)
    current = sizes_and_mtimes([f"{root}/{name}" for name in known["path"].to_pylist()])
    return known.filter(pa.array((recorded == current).all(axis=1)))


def _scan_task(root: Path, names: Sequence[str]) -> pa.Table:
    return pa.Table.from_pylist([scan_file(root, name) for name in names], FACTS)


def _collect(tables: Iterable[pa.Table], count: int) -> pa.Table:
    shown = track(tables, f"reading images, {FILES_PER_TASK} at a time", count, transient=True)
    return pa.concat_tables([FACTS.empty_table(), *shown])


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the main process
    cv2.setNumThreads(0)  # OpenCV's threads would compete with the other workers for the cores
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this worker if the main process is killed, as nothing else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
