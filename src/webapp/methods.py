"""The methods that the page offers: find checkpoints, load them on demand, keep recent ones in memory."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from src.checkpoints.export_directory import WEIGHTS
from src.checkpoints.reading import find_checkpoint
from src.common.errors import InputError
from src.prediction import Inpainter, list_classical_methods, load

CHECKPOINT_DIR = "checkpoints"
"""Subdirectory of a run with best.ckpt and last.ckpt; the page offers one of them."""

_CHECK_S = 0.1
"""How often a waiting request checks whether it was stopped."""


log = logging.getLogger(__name__)


class StoppedError(Exception):
    """Raised in a request whose client has disconnected."""


@dataclass(frozen=True)
class Method:
    """A method that the page offers; `source` is the path of its weights, or the name of a classical method."""

    name: str
    source: str | Path

    @property
    def has_weights(self) -> bool:
        """Whether the method is a trained network."""
        return isinstance(self.source, Path)


def find_methods(folders: Sequence[str], ckpt: Sequence[str], shipped: Sequence[Path] = ()) -> list[Method]:
    """List the networks of `ckpt`, `shipped` ones, those in `folders` (newest first), and the classical methods.

    A run is listed once, with its best checkpoint, or the last one before the first validation. No file is opened,
    and missing folders are ignored.

    Raises:
        InputError: a path of `ckpt` does not exist.
    """
    explicit = {path: find_checkpoint(Path(path).expanduser()) for path in ckpt}
    for path in explicit.values():
        if not (path / WEIGHTS if path.is_dir() else path).is_file():
            raise InputError(f"ckpt={path}: no such checkpoint, run directory or export directory")
    names = _short_names([Path(name).expanduser() for name in explicit])
    found = [Method(name, path) for name, path in zip(names, explicit.values(), strict=True) if path not in shipped]
    found += [Method(path.name, path) for path in shipped]
    for folder in folders:
        networks = sorted(_find_networks(Path(folder).expanduser()), key=lambda pair: (-_modified_ns(pair[1]), pair[0]))
        found += [Method(name, path) for name, path in networks]
    found += [Method(name, name) for name in list_classical_methods()]
    by_name = {method.name: method for method in reversed(found)}  # the first of equal names is kept
    return [method for method in found if by_name[method.name] is method]


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Name absolute paths by as many of their last parts as tell them apart, as clients should not learn the rest."""
    parts = [path.parts[1:] if path.is_absolute() else path.parts for path in paths]
    count = 3
    while len({own[-count:] for own in parts}) < len(set(parts)):
        count += 1
    return [
        str(Path(*own[-count:])) if path.is_absolute() else str(path) for path, own in zip(paths, parts, strict=True)
    ]


def _find_networks(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*.ckpt"):
        if not path.is_file():  # a directory or a broken link
            continue
        if path.parent.name != CHECKPOINT_DIR:
            yield str(path.relative_to(folder).with_suffix("")), path
        elif path.name == "best.ckpt" or (path.name == "last.ckpt" and not path.with_name("best.ckpt").is_file()):
            yield str(path.parent.parent.relative_to(folder)), path
    for path in folder.rglob(WEIGHTS):
        if path.is_file():
            yield str(path.parent.relative_to(folder)), path.parent


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # a running training has just deleted it
        return 0


class MethodPool:
    """Loads methods, keeps the `cache_size` most recently used ones in memory, and runs one request at a time.

    Up to `max_waiting` requests wait for the running one, in their order; further ones are rejected.
    """

    def __init__(self, methods: Sequence[Method], device: str, cache_size: int, max_waiting: int = 16) -> None:
        self.methods = {method.name: method for method in methods}
        self._device, self._cache_size, self._max_waiting = device, cache_size, max_waiting
        self._cache: OrderedDict[str, Inpainter] = OrderedDict()
        self._turn = threading.Condition()
        self._requests: list[threading.Event] = []  # the first one runs

    @contextmanager
    def acquire(self, name: str, stopped: threading.Event | None = None) -> Iterator[Inpainter]:
        """Wait until no other request runs, then yield the method.

        Args:
            stopped: when set, a waiting request leaves the queue, and a network stops at its next layer; OpenCV and
                SciPy can't be interrupted.
        Raises:
            InputError: the method is unknown or corrupt, or too many requests are waiting.
            StoppedError: `stopped` was set, before or within the block.
        """
        method = self.methods.get(name)
        if method is None:
            raise InputError(f"unknown method {name!r}: reload the page")
        request = threading.Event() if stopped is None else stopped
        with self._turn:
            if len(self._requests) > self._max_waiting:
                raise InputError(f"{self._max_waiting} requests are already waiting: try again in a minute")
            self._requests.append(request)
        try:
            with self._turn:
                while self._requests[0] is not request and not request.is_set():
                    self._turn.wait(_CHECK_S)
            if request.is_set():
                raise StoppedError
            inpainter = self._cache.pop(name, None) or self._load(method)
            self._cache[name] = inpainter  # at the end, as the most recently used
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
            yield inpainter
        finally:
            with self._turn:
                self._requests.remove(request)
                self._turn.notify_all()

    def _load(self, method: Method) -> Inpainter:
        try:
            inpainter = load(method.source, device=self._device)
        except InputError as error:  # its message names the file's place on this machine
            log.warning("%s can't be loaded: %s", method.name, error)
            raise InputError(f"{method.name} can't be loaded, see the server log: choose another method") from error
        for layer in inpainter.network.modules():
            layer.register_forward_pre_hook(self._raise_if_stopped)
        return inpainter

    def _raise_if_stopped(self, *_: object) -> None:
        if self._requests and self._requests[0].is_set():  # as only the first one runs
            raise StoppedError
