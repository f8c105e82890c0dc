"""Stop signals: recording, previous handlers, and requeued Slurm jobs."""

import os
import signal

import pytest

from src.training.callbacks.stop_signals import SIGNALS, StopSignals


@pytest.fixture
def handlers():
    """Restore the handlers after the test."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background process
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A fake scontrol that records its arguments."""
    arguments = tmp_path / "arguments"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {arguments}\nexit ${{SCONTROL_CODE:-0}}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    return arguments


def test_signal_is_recorded_without_ending_the_process(handlers):
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.received == signal.SIGUSR1


@pytest.mark.parametrize(
    ("signum", "is_first", "expected"),
    [
        (signal.SIGUSR1, True, "requeue 4711\n"),
        (signal.SIGUSR2, True, "requeue 4711\n"),
        (signal.SIGUSR1, False, ""),  # only the first process requeues the job
        (signal.SIGTERM, True, ""),  # perhaps a user's scancel; Slurm requeues preempted jobs itself
    ],
)
def test_slurm_job_is_requeued_on_time_limit_signals(handlers, scontrol, signum, is_first, expected):
    with pytest.raises(SystemExit) as ended:
        StopSignals().handle(signum, is_first)
    assert ended.value.code == 128 + signum
    assert (scontrol.read_text() if scontrol.is_file() else "") == expected


def test_array_task_is_requeued_alone(handlers, scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(SystemExit):
        StopSignals().handle(signal.SIGUSR1, True)
    assert scontrol.read_text() == "requeue 4700_3\n"


def test_failed_requeue_is_logged(handlers, scontrol, monkeypatch, caplog):
    monkeypatch.setenv("SCONTROL_CODE", "1")
    with pytest.raises(SystemExit):
        StopSignals().handle(signal.SIGUSR1, True)
    assert "4711 could not be requeued" in caplog.text


def test_previous_handler_is_called_and_may_let_the_run_continue(handlers, scontrol):
    calls = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: calls.append(signum))  # as submitit's, which requeues
    signals = StopSignals()
    signals.remember_handlers()
    signals.install()
    os.kill(os.getpid(), signal.SIGUSR2)
    signals.handle(signals.received, True)
    assert calls == [signal.SIGUSR2]
    assert signals.received == 0
    assert not scontrol.exists()


def test_second_ctrl_c_ends_the_run_at_once(handlers):
    signals = StopSignals()
    signals.remember_handlers()
    signals.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.received == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        signals.handle(signal.SIGINT, True)
    assert ended.value.code == 130


def test_ignored_signal_stays_ignored(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.received == 0
