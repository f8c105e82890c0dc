"""Rows that can't be measured: they keep their place with the reason, and the others go on."""

import gc
from collections.abc import Callable

import torch

from src.benchmarking.clock import Record

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")
"""Of RuntimeErrors, lower case: torch's CPU allocator, its shared memory and CUDA's own calls say so."""


class NotMeasuredError(Exception):
    """This row can't be measured here, others may; the message is the reason."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _is_compilers(error: BaseException) -> bool:
    """Whether it comes from torch.compile, whose exceptions are in no public place: no C++ compiler, say."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def attempt(measure: Callable[[], Record]) -> Record:
    """What `measure` returns; if memory or torch.compile fails, or by `NotMeasuredError`, the reason as `failure`."""
    try:
        return measure()
    except NotMeasuredError as error:
        reason = str(error)
    except (RuntimeError, MemoryError) as error:
        kind = "out of memory" if is_out_of_memory(error) else "torch.compile failed" if _is_compilers(error) else None
        if kind is None:
            raise
        reason = f"{kind}: {(str(error).splitlines() or [type(error).__name__])[0]}"
    # Outside of the handler, as the traceback holds what was allocated.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {"failure": reason}
