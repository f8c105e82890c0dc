"""A copy of a small study's images that a test may change."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def study_dir(tmp_path: Path, study_pictures: Path) -> Path:
    return shutil.copytree(study_pictures, tmp_path / "study")
