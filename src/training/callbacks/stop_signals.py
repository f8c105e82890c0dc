"""Signals that ask a run to leave the machine: it saves where it stands, and goes on later."""

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
"""Slurm preempts with SIGTERM; `sbatch --signal=USR1@90` has it send SIGUSR1 first, and submitit asks for SIGUSR2.

SIGINT is Ctrl-C.
"""


class StopSignals:
    """Note a stop signal until the run is saved between two batches, where a checkpoint is exact, and then handle it.

    Lightning's Trainer puts the former handlers back when it ends.

    Attributes:
        received: the latest signal's number; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def remember_handlers(self) -> None:
        """Keep what handles the signals now, perhaps submitit's requeueing; Lightning has not come with its own yet."""
        self._before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        if self._before[signal.SIGINT] is signal.default_int_handler:
            del self._before[signal.SIGINT]  # which would not end the process as a signal does

    def install(self) -> None:
        """Handle the signals, in the place of Lightning's handlers, which save in the midst of a batch."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) is not signal.SIG_IGN:  # as of SIGINT, in a shell's background
                    signal.signal(signum, self._note)

    def handle(self, signum: int, is_global_zero: bool) -> None:
        """What is to happen once all is saved: whoever handled the signal before does so, or the process ends.

        SIGUSR1 and SIGUSR2 mean that a Slurm job's time is over, so it is queued again; SIGTERM may be a user's
        scancel, and Slurm queues a preempted job by itself.

        Raises:
            SystemExit: with 128 + `signum`, as shells have it.
        """
        self.received = 0
        if callable(handler := self._before.get(signum)):
            handler(signum, None)
            return  # submitit bypasses some
        if signum in (signal.SIGUSR1, signal.SIGUSR2) and is_global_zero and "SLURM_JOB_ID" in os.environ:
            _requeue()
        raise SystemExit(128 + signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        self.received = signum
        again = ", once more to end at once" if signum == signal.SIGINT else ""
        log.warning("%s: the run is saved before its next batch%s", signal.Signals(signum).name, again)


def _requeue() -> None:
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        answer = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
    except OSError as error:
        log.error("the Slurm job %s could not be queued again: scontrol: %s", job, error)
        return
    if answer.returncode:
        log.error("the Slurm job %s could not be queued again: %s", job, answer.stderr.strip())
    else:
        log.warning("the Slurm job %s is queued again", job)
