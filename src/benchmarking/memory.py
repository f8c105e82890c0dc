"""Measure peak memory."""

import ctypes
import gc
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets VmHWM to the present resident size


class PeakMemory:
    """`with PeakMemory(device) as peak: ...` measures the peak memory in the block beyond the memory in use before.

    On a GPU this is memory from torch's allocator; on the CPU the resident memory of the process by the kernel's
    high-water mark, which includes allocations of other threads.

    Attributes:
        bytes: set after the block; None if the kernel keeps no high-water mark.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None
        self._before: int | None = None

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            self._before = _reset_peak()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak: int | None = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = None if self._before is None else _resident("VmHWM")
        if self._before is not None and peak is not None:
            self.bytes = max(0, peak - self._before)


def _reset_peak() -> int | None:
    """Return freed memory to the system, whose reuse would not show, and reset the high-water mark."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
        _CLEAR.write_text(_RESET_PEAK)
    except (OSError, AttributeError, TypeError):
        return None
    return _resident("VmRSS")


def _resident(name: str) -> int | None:
    for line in _STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return 1024 * int(value.split()[0])  # the kernel's kB are KiB
    return None
