import sys
from pathlib import Path

import pytest
import torch

from src.benchmarking import memory
from src.benchmarking.memory import PeakMemory

CPU = torch.device("cpu")
MIB = 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has the kernel's high-water mark")
def test_the_peak_of_a_known_allocation():
    kept = torch.ones(64 * MIB // 4)  # allocated before, so it does not count
    with PeakMemory(CPU) as peak:
        freed = torch.ones(96 * MIB // 4)
        del freed  # less is in use at the end
    assert peak.bytes == pytest.approx(96 * MIB, rel=0.2)
    with PeakMemory(CPU) as again:
        pass
    assert again.bytes < 5 * MIB  # the mark was reset
    assert kept.sum() > 0


def test_without_the_kernels_mark_there_is_no_number(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", Path(tmp_path / "missing" / "file"))
    with PeakMemory(CPU) as peak:
        torch.ones(10)
    assert peak.bytes is None
