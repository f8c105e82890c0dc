"""Send a signal to a run at a chosen moment: `+callbacks.kill={_target_:tests.killing.Kill,...}`."""

import os
import signal as signals
import subprocess
from typing import Any

from hydra.utils import get_class
from lightning.pytorch import Callback

DURING_WRITE = {"fsync": ("os", "fsync"), "replace": ("pathlib.Path", "replace")}
"""Moments during a write: before a file is flushed to disk, and before it replaces the old one."""


class Kill(Callback):
    """Send a signal to this process the `count`-th time that a moment is reached.

    Args:
        moment: a callback hook, or a key of `DURING_WRITE`.
        signal: its name.
        group: whether to signal the whole process group, as a shell or a scheduler does.
    """

    def __init__(self, moment: str, count: int, signal: str = "SIGKILL", group: bool = False) -> None:
        self.calls_left, self.signal, self.group = count, signals.Signals[signal], group
        if moment not in DURING_WRITE:
            setattr(self, moment, self._called)
            return
        owner_name, name = DURING_WRITE[moment]
        owner = os if owner_name == "os" else get_class(owner_name)
        function = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self._called()
            return function(*args, **kwargs)

        setattr(owner, name, called)

    def _called(self, *_: Any, **__: Any) -> None:
        self.calls_left -= 1
        if self.calls_left != 0:
            return
        if self.group:  # by another process, outside the group
            name = self.signal.name.removeprefix("SIG")
            subprocess.run(["kill", "-s", name, "--", f"-{os.getpgrp()}"], check=True, start_new_session=True)
        else:
            os.kill(os.getpid(), self.signal)
