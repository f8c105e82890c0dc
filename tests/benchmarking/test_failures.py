import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from src.benchmarking.failures import NotMeasuredError, attempt


def raising(error):
    def measure():
        raise error

    return measure


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore"),
            "CUDA out of memory. Tried to allocate",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "not enough memory"),
        (MemoryError(), "out of memory: MemoryError"),
        (BackendCompilerFailed("inductor", RuntimeError("no g++"), None), "torch.compile failed: "),
        (NotMeasuredError("there are 0 GPUs"), "there are 0 GPUs"),
    ],
)
def test_a_failure_is_recorded_with_its_reason_in_one_line(error, reason):
    (made,) = attempt(raising(error)).items()
    assert made[0] == "failure"
    assert reason in made[1]
    assert "\n" not in made[1]


def test_other_errors_are_raised():
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(raising(RuntimeError("shapes do not fit")))
    assert attempt(lambda: {"a": 1}) == {"a": 1}
