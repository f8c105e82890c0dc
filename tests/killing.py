"""Killing a run with SIGKILL at a moment of the test's choice: `+callbacks.kill={_target_:tests.killing.Kill,...}`."""

import os
import signal
from typing import Any

from hydra.utils import get_class
from lightning.pytorch import Callback

WITHIN = {"fsync": ("os", "fsync"), "replace": ("pathlib.Path", "replace")}
"""Moments within a write: before a file is flushed to the disk, before one takes its place."""


class Kill(Callback):
    """Kill this process when it comes to a moment for the `count`-th time: a hook of a callback, or one of `WITHIN`."""

    def __init__(self, moment: str, count: int) -> None:
        self.calls_left = count
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
            os.kill(os.getpid(), signal.SIGKILL)
