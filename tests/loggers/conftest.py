"""Fixtures of tests/training for tests of logged trainings."""

from tests.training.conftest import train_with

__all__ = ["train_with"]
