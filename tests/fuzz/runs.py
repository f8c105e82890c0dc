"""Fuzzing: a child process reads corrupt files, and crashes, hangs and excessive memory are recorded as findings.

An input is a function of the seed, the target's name and its number, so every finding can be reproduced.
"""

import faulthandler
import mmap
import os
import resource
import signal
import struct
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from src.common.errors import InputError
from tests.fuzz.targets import Target

HANG_S = 20.0
"""Time limit per input. An image of a hundred million pixels, which some formats store in few bytes, takes seconds."""

MEMORY_BYTES = 3 << 30
"""Limit of the address space that the process may add to its initial one."""


@dataclass
class Outcome:
    """Results of the inputs of a target.

    Attributes:
        read, rejected: numbers of inputs that were read as documented, and that raised an `InputError`.
        findings: directories of all others, each with the input and a description.
    """

    read: int = 0
    rejected: int = 0
    seconds: float = 0.0
    findings: list[Path] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.read + self.rejected + len(self.findings)


def fuzz(
    name: str, target: Target, folder: Path, *, seed: int, count: int | None = None, seconds: float | None = None,
    most_findings: int = 20,
) -> Outcome:  # fmt: skip
    """Run a target on `count` inputs, or for some seconds.

    Args:
        folder: parent directory of the findings, `<name>-<seed>-<number>`.
    """
    begun = time.monotonic()
    deadline = float("inf") if seconds is None else begun + seconds
    outcome, shared = Outcome(), mmap.mmap(-1, 24)  # current number, number read, number rejected
    number, end = 0, count or 1 << 62
    while number < end and time.monotonic() < deadline and len(outcome.findings) < most_findings:
        shared[:] = struct.pack("qqq", number, 0, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads, which are not forked; none is ours
            child = os.fork()
        if child == 0:
            _work(name, target, folder, seed, range(number, end), deadline, shared)
        status, hung = _watched(child, shared)
        number, read, rejected = struct.unpack("qqq", shared[:])
        outcome.read, outcome.rejected = outcome.read + read, outcome.rejected + rejected
        if status == 0:
            break
        found = folder / f"{name}-{seed}-{number}"
        found.mkdir(parents=True, exist_ok=True)
        summary = f"no answer in {HANG_S} s" if hung else f"the process ended with status {status}"
        with (found / "what.txt").open("a") as what:
            what.write(f"{summary}\n")
        (found / f"input{target.suffix}").write_bytes(target.input(_random(name, seed, number)))
        outcome.findings.append(found)
        number += 1
    outcome.seconds = time.monotonic() - begun
    return outcome


def _random(name: str, seed: int, number: int) -> Random:
    return Random(f"{name} {seed} {number}")  # a string is hashed with SHA-512: the same in every process


def _watched(child: int, shared: mmap.mmap) -> tuple[int, bool]:
    """Wait for a process, and kill it if it spends too long on one input."""
    seen, since = -1, time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status, False
        (number,) = struct.unpack_from("q", shared)
        if number != seen:
            seen, since = number, time.monotonic()
        if time.monotonic() - since > HANG_S:
            os.kill(child, signal.SIGABRT)  # faulthandler logs the traceback
            time.sleep(0.2)
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1] or 1, True
        time.sleep(0.005)


def _work(
    name: str, target: Target, folder: Path, seed: int, numbers: range, deadline: float, shared: mmap.mmap
) -> None:  # fmt: skip
    """Read inputs one after the other; exit with status 0 after the last one, or 1 after a finding."""
    path = folder / f"input{target.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    log = (folder / "log.txt").open("w")
    faulthandler.enable(log)
    os.dup2(log.fileno(), 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    warnings.simplefilter("ignore")
    counts = [0, 0]
    for number in numbers:
        if time.monotonic() > deadline:
            break
        shared[:] = struct.pack("qqq", number, *counts)
        rng = _random(name, seed, number)
        path.write_bytes(target.input(rng))
        try:
            target.read(path, rng)
            counts[0] += 1
        except InputError as refusal:
            counts[1] += 1
            if "\n" in str(refusal) or str(folder) not in str(refusal):
                _record_finding(
                    folder, name, seed, number, f"this message names no file or has several lines: {refusal!r}\n"
                )
                os._exit(1)
        except BaseException:
            _record_finding(folder, name, seed, number, traceback.format_exc())
            os._exit(1)
        shared[:] = struct.pack("qqq", number, *counts)
    os._exit(0)


def _record_finding(folder: Path, name: str, seed: int, number: int, text: str) -> None:
    found = folder / f"{name}-{seed}-{number}"
    found.mkdir(parents=True, exist_ok=True)
    (found / "what.txt").write_text(text)
