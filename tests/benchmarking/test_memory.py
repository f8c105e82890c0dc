import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.benchmarking import memory
from src.benchmarking.memory import PeakMemory, memory_limit

CPU = torch.device("cpu")
MIB = 2**20

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's high-water mark is Linux's")


@linux
def test_the_peak_of_a_known_allocation():
    kept = torch.ones(64 * MIB // 4)  # is there before, so does not count
    with PeakMemory(CPU) as peak:
        gone = torch.ones(96 * MIB // 4)
        del gone  # what is there at the end is less
    assert peak.bytes == pytest.approx(96 * MIB, rel=0.2)
    with PeakMemory(CPU) as again:
        pass
    assert again.bytes < 5 * MIB  # the mark was lowered
    assert kept.sum() > 0


def test_without_the_kernels_mark_there_is_no_number(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", Path(tmp_path / "not" / "there"))
    with PeakMemory(CPU) as peak:
        torch.ones(10)
    assert peak.bytes is None


@linux
def test_beyond_the_limit_allocations_fail_instead_of_the_process():
    # in a process of its own, as what this one holds already would count
    code = """
import torch
from src.benchmarking.failures import attempt
from src.benchmarking.memory import memory_limit
with memory_limit(2.0):
    print(attempt(lambda: {"sum": float(torch.ones(2**30).sum())}))  # 4 GiB
print(attempt(lambda: {"sum": float(torch.ones(2**10).sum())}))
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    failed, fine = run.stdout.splitlines()
    assert "out of memory" in failed
    assert fine == "{'sum': 1024.0}"


def test_no_limit_is_none():
    with memory_limit(None):
        torch.ones(10)
