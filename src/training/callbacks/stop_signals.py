"""Signals that stop a run: it saves a checkpoint first and can be resumed later."""

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
"""SIGTERM is Slurm's preemption, SIGUSR1 that of `sbatch --signal=USR1@90`, SIGUSR2 submitit's, SIGINT Ctrl-C."""


class StopSignals:
    """Defer a stop signal until the run is saved between two batches, where a checkpoint is exact.

    `received` is the latest signal's number, or 0. Lightning's Trainer restores the previous handlers when it ends.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def remember_handlers(self) -> None:
        """Remember the current handlers, such as submitit's requeueing, before Lightning installs its own."""
        self._before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        if self._before[signal.SIGINT] is signal.default_int_handler:
            del self._before[signal.SIGINT]  # which would not end the process as a signal does

    def install(self) -> None:
        """Replace Lightning's handlers, which save in the middle of a batch."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) is not signal.SIG_IGN:  # a shell ignores SIGINT for background jobs
                    signal.signal(signum, self._note)

    def handle(self, signum: int, is_global_zero: bool) -> None:
        """Handle a signal after saving: call the previous handler, or end the process with exit code 128 + `signum`.

        SIGUSR1 and SIGUSR2 announce the end of a Slurm job's time, so the job is requeued. SIGTERM may be a user's
        scancel, and Slurm requeues preempted jobs itself.
        """
        self.received = 0
        if callable(handler := self._before.get(signum)):
            handler(signum, None)
            return  # submitit's handler returns for some signals
        if signum in (signal.SIGUSR1, signal.SIGUSR2) and is_global_zero and "SLURM_JOB_ID" in os.environ:
            _requeue()
        raise SystemExit(128 + signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        self.received = signum
        again = ", press Ctrl-C again to stop at once" if signum == signal.SIGINT else ""
        log.warning("%s: saving the run before the next batch%s", signal.Signals(signum).name, again)


def _requeue() -> None:
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
        log.warning("the Slurm job %s is requeued", job)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()
        log.error("the Slurm job %s could not be requeued: scontrol: %s", job, reason)
