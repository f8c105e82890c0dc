"""What the page can fill with: the networks found on this disk and methods without weights; loaded late, a few kept."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from src.checkpoints.export_directory import WEIGHTS
from src.common.errors import InputError
from src.prediction import Inpainter, load, methods_without_weights

RUN_FOLDER = "checkpoints"
"""Where a run keeps best.ckpt and last.ckpt, of which one stands for it."""


class StoppedError(Exception):
    """Who asked for this has taken it back."""


@dataclass(frozen=True)
class Method:
    """One method to choose.

    Args:
        name: what the page shows and asks for; no two are alike.
        source: what `src.prediction.load` takes.
    """

    name: str
    source: str | Path

    @property
    def has_weights(self) -> bool:
        """Whether it was trained."""
        return isinstance(self.source, Path)


def methods_found(folders: Sequence[str], ckpt: Sequence[str]) -> list[Method]:
    """The networks in folders and their subfolders, the newest first, after those that are named; then all others.

    Of a run its best checkpoint counts, or the last where validation has yet to choose one. No file is opened.

    Args:
        folders: those that are not there hold nothing.
        ckpt: checkpoints or exported folders.
    Raises:
        InputError: there is nothing at a path of ckpt.
    """
    named = [Path(path).expanduser() for path in ckpt]
    for path in named:
        if not (path / WEIGHTS if path.is_dir() else path).is_file():
            raise InputError(f"ckpt: there is no checkpoint, nor an exported network, at {path}")
    found = [Method(str(path), path) for path in named]
    for folder in (Path(folder).expanduser() for folder in folders):
        below = sorted(_networks_below(folder), key=lambda pair: (-_changed(pair[1]), pair[0]))
        found += [Method(name, path) for name, path in below]
    by_name = {method.name: method for method in reversed(found)}  # of two alike the first counts
    return [
        *(method for method in found if by_name[method.name] is method),
        *(Method(name, name) for name in methods_without_weights()),
    ]


def _networks_below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*.ckpt"):
        if not path.is_file():  # a folder, or a link to what is gone
            continue
        if path.parent.name != RUN_FOLDER:
            yield str(path.relative_to(folder).with_suffix("")), path
        elif path.name == "best.ckpt" or (path.name == "last.ckpt" and not path.with_name("best.ckpt").is_file()):
            yield str(path.parent.parent.relative_to(folder)), path
    for path in folder.rglob(WEIGHTS):
        if path.is_file():
            yield str(path.parent.relative_to(folder)), path.parent


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # it went a moment ago, as a run's last checkpoint does
        return 0


class Methods:
    """Gets methods ready, for one request at a time, and keeps those that were used last.

    Args:
        choice: what `methods_found` found.
        device: as in `src.prediction.load`.
        keep: so many networks stay in memory.
        most_waiting: so many requests wait for the one that is under way; another is refused.
    """

    def __init__(self, choice: Sequence[Method], device: str, keep: int, most_waiting: int = 16) -> None:
        self.choice = {method.name: method for method in choice}
        self._device, self._keep, self._most_waiting = device, keep, most_waiting
        self._kept: OrderedDict[str, Inpainter] = OrderedDict()
        self._lock = threading.Lock()
        self._requests: list[_Request] = []
        self._under_way: _Request | None = None

    @contextmanager
    def using(self, name: str, user: str) -> Iterator[Inpainter]:
        """A method for `user`, who waits until nobody else has any.

        Raises:
            InputError: the page offers no such method, its file is damaged, or too many wait.
            StoppedError: within the block or before, if the user called `stop`.
        """
        method = self.choice.get(name)
        if method is None:
            raise InputError(f"there is no method {name!r} here")
        if len(self._requests) > self._most_waiting:
            raise InputError(f"{self._most_waiting} requests are waiting already: try again in a minute")
        request = _Request(user)
        self._requests.append(request)
        try:
            with self._lock:
                self._under_way = request
                request.go_on()
                kept = self._kept.pop(name, None) or self._ready(method)
                self._kept[name] = kept  # the most recently used stands last
                if len(self._kept) > self._keep:
                    self._kept.popitem(last=False)
                yield kept
        finally:
            self._requests.remove(request)

    def stop(self, user: str) -> None:
        """End what `user` has waiting or under way, at the network's next layer; OpenCV and SciPy end by themselves."""
        for request in list(self._requests):
            if request.user == user:
                request.stopped = True

    def _ready(self, method: Method) -> Inpainter:
        inpainter = load(method.source, device=self._device)
        for layer in inpainter.network.modules():
            layer.register_forward_pre_hook(self._go_on)
        return inpainter

    def _go_on(self, layer: nn.Module, given: tuple[Any, ...]) -> None:
        if self._under_way is not None:
            self._under_way.go_on()


@dataclass(eq=False)
class _Request:
    user: str
    stopped: bool = False

    def go_on(self) -> None:
        if self.stopped:
            raise StoppedError
