"""Ending a run by a signal at a moment of the test's choice: `+callbacks.kill={_target_:tests.killing.Kill,...}`."""

import os
import signal as signals
import subprocess
from typing import Any

from hydra.utils import get_class
from lightning.pytorch import Callback

WITHIN = {"fsync": ("os", "fsync"), "replace": ("pathlib.Path", "replace")}
"""Moments within a write: before a file is flushed to the disk, before one takes its place."""


class Kill(Callback):
    """Have this process get a signal when it comes to a moment for the `count`-th time.

    Args:
        moment: a hook of a callback, or one of `WITHIN`.
        signal: its name; SIGKILL leaves no time for anything.
        group: whether all processes of the group get it, as by a shell's or a scheduler's hand.
    """

    def __init__(self, moment: str, count: int, signal: str = "SIGKILL", group: bool = False) -> None:
        self.calls_left, self.signal, self.group = count, signals.Signals[signal], group
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
        if self.calls_left != 0:
            return
        if self.group:  # from outside
            name = self.signal.name.removeprefix("SIG")
            subprocess.run(["kill", "-s", name, "--", f"-{os.getpgrp()}"], check=True, start_new_session=True)
        else:
            os.kill(os.getpid(), self.signal)
