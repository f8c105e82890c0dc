"""Failed measurements: the record contains the reason, and the benchmark continues with the others."""

import gc
from collections.abc import Callable

import torch

from src.benchmarking.clock import Record

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")
"""Lower-case parts of RuntimeErrors from torch's CPU allocator, its shared memory and CUDA calls."""


class NotMeasuredError(Exception):
    """This configuration can't be measured here, but others may; the message is the reason."""


def attempt(measure: Callable[[], Record]) -> Record:
    """Return the record of `measure`, or a record with a `failure`.

    Failures are NotMeasuredError, errors of torch.compile, and running out of memory; other errors are raised.
    """
    try:
        return measure()
    except NotMeasuredError as error:
        reason = str(error)
    except (RuntimeError, MemoryError) as error:
        is_memory_error = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if is_memory_error or any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            kind = "out of memory"
        elif type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):  # e.g. without a C++ compiler
            kind = "torch.compile failed"
        else:
            raise
        reason = f"{kind}: {(str(error).splitlines() or [type(error).__name__])[0]}"
    # Outside the handler, as the traceback keeps the allocations alive.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {"failure": reason}
