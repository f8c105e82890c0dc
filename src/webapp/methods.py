"""The methods that the page offers: find checkpoints, load them on demand, keep recent ones in memory."""

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


class StoppedError(Exception):
    """Raised in a request whose user called `stop`."""


@dataclass(frozen=True)
class Method:
    """A method that the page offers; `source` is the path of its weights, or the name of a classical method."""

    name: str
    source: str | Path

    @property
    def has_weights(self) -> bool:
        """Whether the method is a trained network."""
        return isinstance(self.source, Path)


def find_methods(folders: Sequence[str], ckpt: Sequence[str]) -> list[Method]:
    """List the networks of `ckpt`, those found in `folders` (recursively, newest first), and the classical methods.

    A run is listed once, with its best checkpoint, or the last one before the first validation. No file is opened,
    and missing folders are ignored.

    Raises:
        InputError: a path of `ckpt` does not exist.
    """
    explicit = {path: find_checkpoint(Path(path).expanduser()) for path in ckpt}
    for path in explicit.values():
        if not (path / WEIGHTS if path.is_dir() else path).is_file():
            raise InputError(f"ckpt={path}: no such checkpoint, run directory or export directory")
    found = [Method(str(Path(name).expanduser()), path) for name, path in explicit.items()]
    for folder in folders:
        networks = sorted(_find_networks(Path(folder).expanduser()), key=lambda pair: (-_modified_ns(pair[1]), pair[0]))
        found += [Method(name, path) for name, path in networks]
    found += [Method(name, name) for name in list_classical_methods()]
    by_name = {method.name: method for method in reversed(found)}  # the first of equal names is kept
    return [method for method in found if by_name[method.name] is method]


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

    Up to `max_waiting` requests wait for the running one; further ones are rejected.
    """

    def __init__(self, methods: Sequence[Method], device: str, cache_size: int, max_waiting: int = 16) -> None:
        self.methods = {method.name: method for method in methods}
        self._device, self._cache_size, self._max_waiting = device, cache_size, max_waiting
        self._cache: OrderedDict[str, Inpainter] = OrderedDict()
        self._lock = threading.Lock()
        self._requests: list[_Request] = []
        self._running: _Request | None = None

    @contextmanager
    def acquire(self, name: str, user: str) -> Iterator[Inpainter]:
        """Wait until no other request runs, then yield the method.

        Raises:
            InputError: the method is unknown or corrupt, or too many requests are waiting.
            StoppedError: the user called `stop`, before or within the block.
        """
        method = self.methods.get(name)
        if method is None:
            raise InputError(f"unknown method {name!r}: reload the page")
        if len(self._requests) > self._max_waiting:
            raise InputError(f"{self._max_waiting} requests are already waiting: try again in a minute")
        request = _Request(user)
        self._requests.append(request)
        try:
            with self._lock:
                self._running = request
                self._raise_if_stopped()
                inpainter = self._cache.pop(name, None) or self._load(method)
                self._cache[name] = inpainter  # at the end, as the most recently used
                if len(self._cache) > self._cache_size:
                    self._cache.popitem(last=False)
                yield inpainter
        finally:
            self._requests.remove(request)

    def stop(self, user: str) -> None:
        """Stop the requests of `user`: a network stops at its next layer; OpenCV and SciPy can't be interrupted."""
        for request in list(self._requests):
            if request.user == user:
                request.is_stopped = True

    def _load(self, method: Method) -> Inpainter:
        inpainter = load(method.source, device=self._device)
        for layer in inpainter.network.modules():
            layer.register_forward_pre_hook(self._raise_if_stopped)
        return inpainter

    def _raise_if_stopped(self, *_: object) -> None:
        if self._running is not None and self._running.is_stopped:
            raise StoppedError


@dataclass(eq=False)
class _Request:
    user: str
    is_stopped: bool = False
