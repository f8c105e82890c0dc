"""A small study's pictures, to be changed at will."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def pictures(tmp_path: Path, study_pictures: Path) -> Path:
    return shutil.copytree(study_pictures, tmp_path / "pictures")
