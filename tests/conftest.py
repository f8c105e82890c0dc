"""Fixtures for tests that compose configurations and run entry points."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# The tests' tensors are tiny: threads would spend more time waiting for each other, and for the machine's other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from PIL import Image

import src  # noqa: F401  # before any test module: it lets torchvision import beside a CPU torch

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten smooth colour pictures of several sizes, none square."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(10):
        height, width = 70 + 3 * i, 100 - 2 * i
        y, x = np.mgrid[:height, :width]
        picture = np.stack([127 + 127 * np.sin((x * (i + 1) + c * y) / 40) for c in range(3)], axis=-1)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"photo_{i}.png")
    return folder


@pytest.fixture
def composed(tmp_path: Path, photo_folder: Path) -> Iterator[Callable[..., DictConfig]]:
    """Compose a run, conf/train.yaml unless told otherwise, on the small folder; its output goes to the test's."""
    common = ["data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0", f"output_dir={tmp_path / 'run'}"]
    quiet = ["trainer.enable_progress_bar=false"]
    of_config = {"train": ["scale=smoke", "callbacks.progress=null"], "evaluate": ["lpips=false"]}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides, config="train": compose(config, [*common, *quiet, *of_config[config], *overrides])


@pytest.fixture
def asked(tmp_path: Path, photo_folder: Path) -> Iterator[Callable[..., DictConfig]]:
    """`asked(*overrides)` -> what `python -m src.reproduce` composes, on the small folder unless told otherwise."""
    common = ["table=lbam/table2", "scale=smoke", f"study={tmp_path / 'study'}", "trainer=cpu", "workers=0"]
    quiet = ["callbacks.progress=null", "trainer.enable_progress_bar=false", "test_masks_per_bin=2"]

    def typed(*overrides: str, data: tuple[str, ...] = ("data=folder", f"data.root={photo_folder}")):
        cfg = compose("reproduce", [*common, *quiet, *data, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        return cfg

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield typed
    HydraConfig.instance().cfg = None
