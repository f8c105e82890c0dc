"""The fixtures of training, for tests that log one."""

from tests.training.conftest import train_with

__all__ = ["train_with"]
