"""Ending a run by a signal at a moment of the test's choice: `+callbacks.kill={_target_:tests.killing.Kill,...}`."""

import os
import signal as signals
from typing import Any

from hydra.utils import get_class
from lightning.pytorch import Callback

WITHIN = {"fsync": ("os", "fsync"), "replace": ("pathlib.Path", "replace")}
"""Moments within a write: before a file is flushed to the disk, before one takes its place."""


class Kill(Callback):
    """Send this process a signal when it comes to a moment for the `count`-th time.

    Args:
        moment: a hook of a callback, or one of `WITHIN`.
        signal: its name; SIGKILL leaves no time for anything.
    """

    def __init__(self, moment: str, count: int, signal: str = "SIGKILL") -> None:
        self.calls_left, self.signal = count, signals.Signals[signal]
        if moment not in WITHIN:
            setattr(self, moment, self._called)
            return
        place, name = WITHIN[moment]
        owner = os if place == "os" else get_class(place)
        function = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self._called()
            return function(*args, **kwargs)

        setattr(owner, name, called)

    def _called(self, *_: Any, **__: Any) -> None:
        self.calls_left -= 1
        if self.calls_left == 0:
            os.kill(os.getpid(), self.signal)
