"""Signals that ask a run to leave: who is told, and what becomes of a Slurm job."""

import os
import signal

import pytest

from src.training.callbacks.stop_signals import SIGNALS, StopSignals


@pytest.fixture
def handlers():
    """Put the tests' own handlers back."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background takes away
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A Slurm of the test's own, which writes down what it is asked for."""
    asked = tmp_path / "asked"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexit ${{SCONTROL_CODE:-0}}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    return asked


def test_a_signal_is_noted_and_ends_nothing_by_itself(handlers):
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.received == signal.SIGUSR1


@pytest.mark.parametrize(
    ("signum", "is_first", "expected"),
    [
        (signal.SIGUSR1, True, "requeue 4711\n"),
        (signal.SIGUSR2, True, "requeue 4711\n"),
        (signal.SIGUSR1, False, ""),  # one of the processes asks for all
        (signal.SIGTERM, True, ""),  # perhaps a user's scancel; a job that is preempted Slurm queues by itself
    ],
)
def test_a_job_whose_time_is_over_is_queued_again(handlers, scontrol, signum, is_first, expected):
    with pytest.raises(SystemExit) as ended:
        StopSignals().handle(signum, is_first)
    assert ended.value.code == 128 + signum
    assert (scontrol.read_text() if scontrol.is_file() else "") == expected


def test_a_task_of_an_array_is_queued_again_by_itself(handlers, scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(SystemExit):
        StopSignals().handle(signal.SIGUSR1, True)
    assert scontrol.read_text() == "requeue 4700_3\n"


def test_a_refusal_of_slurm_is_said(handlers, scontrol, monkeypatch, caplog):
    monkeypatch.setenv("SCONTROL_CODE", "1")
    with pytest.raises(SystemExit):
        StopSignals().handle(signal.SIGUSR1, True)
    assert "4711 could not be requeued" in caplog.text


def test_whoever_handled_the_signal_before_is_told_and_may_let_the_run_go_on(handlers, scontrol):
    told = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: told.append(signum))  # as submitit does, which queues again
    signals = StopSignals()
    signals.remember_handlers()
    signals.install()
    os.kill(os.getpid(), signal.SIGUSR2)
    signals.handle(signals.received, True)
    assert told == [signal.SIGUSR2]
    assert signals.received == 0
    assert not scontrol.exists()


def test_ctrl_c_saves_first_and_ends_at_once_the_second_time(handlers):
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


def test_a_signal_that_is_ignored_stays_so(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.received == 0
