"""Fixtures that start processes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import ROOT, Commands, Ended

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "workers=0", "trainer.enable_progress_bar=false")


@pytest.fixture(scope="session")
def by_two(commands: Commands, photo_folder: Path) -> Callable[..., Ended]:
    """`by_two(command, *arguments)` runs a command at smoke scale on the small dataset in two processes."""
    common = ("data=folder", f"data.root={photo_folder}", *TWO)
    return lambda command, *arguments, scale="smoke": commands(command, *arguments, f"scale={scale}", *common, cwd=ROOT)
