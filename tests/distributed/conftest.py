"""Fixtures that start processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import ROOT, Commands, Ended

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "workers=0", "trainer.enable_progress_bar=false")


@pytest.fixture(scope="module")
def by_two(photo_folder: Path) -> Iterator[Callable[..., Ended]]:
    """`by_two(command, *arguments)`: the command at smoke scale on the small folder, run by two processes."""
    common = ("scale=smoke", "data=folder", f"data.root={photo_folder}", *TWO)
    with Commands() as commands:
        yield lambda command, *arguments: commands(command, *arguments, *common, cwd=ROOT)
