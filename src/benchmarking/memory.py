"""Peak memory: how much a run needs beyond what is there before it, and a limit that makes it fail instead of swap."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): makes VmHWM what is resident now


class PeakMemory:
    """`with PeakMemory(device) as peak: ...`: the most memory taken at once inside, less what was taken before.

    On a GPU what torch's allocator has given out; on the CPU what is resident in the process by the kernel's
    high-water mark, which counts what other threads take meanwhile.

    Attributes:
        bytes: after the block; None where the kernel keeps no such mark.
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
            self._before = _begin()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak: int | None = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = None if self._before is None else _resident("VmHWM")
        if self._before is not None and peak is not None:
            self.bytes = max(0, peak - self._before)


def _begin() -> int | None:
    """Give freed memory back, as it would be used again unseen, and lower the mark to what is resident then."""
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
            return 1024 * int(value.split()[0])  # it says kB and means KiB
    return None


@contextmanager
def at_most(gibibytes: float | None) -> Iterator[None]:
    """Let the CPU's allocations of this process, and of those that it starts, fail beyond so much; None: no limit.

    The kernel would kill the process otherwise. Heap and private mappings count; on Linux alone.
    """
    if gibibytes is None or not sys.platform.startswith("linux"):
        yield
        return
    import resource  # absent on Windows

    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(gibibytes * 2**30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
