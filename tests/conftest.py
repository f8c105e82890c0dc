"""Fixtures for tests that compose configurations and run entry points."""

import gc
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

# The tests' tensors are tiny: threads would spend more time waiting for each other, and for the machine's other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from numpy.typing import ArrayLike
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import src.common.resolvers  # noqa: F401  # before any test module: src makes torchvision importable with a CPU build of torch
from src.checkpoints.export_directory import write_export_directory
from src.common.provenance import HashedFile, Provenance, Revision
from src.evaluation.records import write_records
from src.masks.hole_ratios import bin_holding
from src.metrics.metric import Metric
from tests.commands import Background, Commands
from tests.composing import fast_composition

CONF = Path(__file__).parents[1] / "conf"


def pytest_collection_finish() -> None:
    """Exclude the half a million objects made by imports from garbage collection."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def compose_each_combination_of_files_once() -> Iterator[None]:
    with fast_composition():
        yield


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten smooth colour images of several sizes, none square."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(10):
        height, width = 70 + 3 * i, 100 - 2 * i
        y, x = np.mgrid[:height, :width]
        image = np.stack([127 + 127 * np.sin((x * (i + 1) + c * y) / 40) for c in range(3)], axis=-1)
        Image.fromarray(image.astype(np.uint8)).save(folder / f"photo_{i}.png")
    return folder


@pytest.fixture
def composed(tmp_path: Path, photo_folder: Path) -> Iterator[Callable[..., DictConfig]]:
    """Return a function that composes conf/train.yaml, or `config`, on the small dataset, writing to `tmp_path`."""
    common = ["data=folder", f"data.root={photo_folder}", "trainer=cpu", "workers=0", f"output_dir={tmp_path / 'run'}"]
    quiet = ["trainer.enable_progress_bar=false"]
    of_config = {"train": ["scale=smoke", "callbacks.progress=null", "resume=null"], "evaluate": ["lpips=false"]}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides, config="train": compose(config, [*common, *quiet, *of_config[config], *overrides])


@pytest.fixture
def asked(tmp_path: Path, photo_folder: Path) -> Iterator[Callable[..., DictConfig]]:
    """Return a function that composes conf/reproduce.yaml, by default on the small dataset."""
    common = ["table=lbam/table2", "scale=smoke", f"study={tmp_path / 'study'}", "trainer=cpu", "workers=0"]
    quiet = ["callbacks.progress=null", "trainer.enable_progress_bar=false", "test_masks_per_bin=2"]

    def compose_reproduce(*overrides: str, data: tuple[str, ...] = ("data=folder", f"data.root={photo_folder}")):
        cfg = compose("reproduce", [*common, *quiet, *data, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        return cfg

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield compose_reproduce
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """Return a function that runs `python -m src.<name>`: `commands(name, *overrides, cwd=...)`."""
    with Commands() as running:
        yield running


@pytest.fixture(scope="session")
def study_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three questions about three methods, as src.user_study expects them; each image has one colour."""
    folder = tmp_path_factory.mktemp("study") / "images"
    for i, name in enumerate(("input", "PatchMatch", "lbam", "pconv")):
        (folder / name).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (16, 12), (60 * i, 100 * k, 30)).save(folder / name / f"photo_{k}.png")
    return folder


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory like outputs/ with tiny networks: a run of LBAM, demo/lbam, and an exported Edge-LBAM, edge_lbam."""
    folder = tmp_path_factory.mktemp("untrained") / "outputs"
    configs = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name in ("lbam", "edge_lbam"):
            composed = compose("train", [f"model={name}", "scale=smoke", "output_dir=none"])
            network = OmegaConf.to_container(composed.model.network, resolve=True)
            configs[name] = {"model": {"name": name, "network": network}}
    torch.manual_seed(0)
    networks = {name: instantiate(config["model"]["network"]) for name, config in configs.items()}
    run = folder / "demo" / "lbam" / "checkpoints"
    run.mkdir(parents=True)
    state = {f"network.{name}": tensor for name, tensor in networks["lbam"].state_dict().items()}
    torch.save({"state_dict": state, "config": configs["lbam"], "global_step": 1}, run / "best.ckpt")
    write_export_directory(folder / "edge_lbam", networks["edge_lbam"], configs["edge_lbam"], {"step": "1"})
    return folder


@dataclass(frozen=True)
class Server:
    """A running command that serves a page."""

    process: Background
    address: str

    def get(self, path: str) -> str:
        with urlopen(f"{self.address}{path}", timeout=30) as response:
            return str(response.read().decode())

    def call(self, function: str, data: Any) -> Any:
        """Call a function as the page's script does."""
        request = Request(
            f"{self.address}/call/{function}", json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def serve(commands: Commands) -> Iterator[Callable[..., Server]]:
    """Return a function that starts `python -m src.<name>`, by default at a free port, and waits for its page."""
    pytest.importorskip("gradio", reason="the page needs the extra `app`", exc_type=ModuleNotFoundError)
    with ExitStack() as started:

        def serve(name: str, *overrides: str, cwd: Path, port: int | None = None) -> Server:
            for _ in range(3):  # another process may have taken the port that was free
                at = free_port() if port is None else port
                process = commands.start(name, f"port={at}", *overrides, cwd=cwd)
                started.callback(process.kill)
                for line in process.stdout:  # ends when the process ends
                    if line.startswith("serving "):
                        return Server(process, f"http://127.0.0.1:{at}")
            raise AssertionError(f"{name} {overrides} ended with {process.wait()}")

        yield serve


@pytest.fixture(scope="session")
def app_server(serve: Callable[..., Server], untrained: Path) -> Server:
    """The page with the two networks of `untrained`, with upload limits of 2 MB and 1 megapixel."""
    return serve("app", "max_megabytes=2", "max_megapixels=1", "device=cpu", cwd=untrained.parent)


PSNR = Metric("psnr", "PSNR", "dB", 2, higher_is_better=True, formula="10 log10(1 / mean d^2)")
L1 = Metric("l1_percent", "l1", "%", 2, higher_is_better=False, formula="100 mean |d|")


@pytest.fixture(scope="session")
def psnr() -> Metric:
    return PSNR


@pytest.fixture(scope="session")
def l1() -> Metric:
    return L1


@pytest.fixture(scope="session")
def make_records() -> Callable[..., pd.DataFrame]:
    def make(method: str, psnr: list[float], l1: list[float] | None = None) -> pd.DataFrame:
        """Assign images 0 to 3 alternately to two bins, the larger holes first, and later images to none."""
        bins = ["(0.4,0.5]", "(0.1,0.2]"] * 2 + [None] * len(psnr)
        ratios = [0.45, 0.15] * 2 + [0.7] * len(psnr)
        count = len(psnr)
        frame = pd.DataFrame(
            {
                "method": method,
                "data": "photos",
                "path": [f"/photos/{i}.png" for i in range(count)],
                "index": range(count),
                "bin": pd.Series(bins[:count], dtype="str"),
                "hole_ratio": ratios[:count],
                "composite_psnr": psnr,
            }
        )
        return frame if l1 is None else frame.assign(composite_l1_percent=l1)

    return make


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return Provenance(
        revision=Revision("0123abc", dirty=False),
        config={"model": {"_target_": "src.networks.lbam.LBAM", "width": 0.25}, "note": "é </pre><script>"},
        seed=0,
        data={"name": "photos", "images": 5},
        mask_bank_hash="3f" * 32,
        checkpoint=HashedFile("runs/best.ckpt", "ab" * 32),
        device="a CPU, 2 threads",
        versions={"torch": "2.13.0"},
        started="2025-01-01T00:00:00+00:00",
        duration_s=1.5,
        absent_scores={"lpips": "AlexNet weights not found"},
    )


@pytest.fixture
def write_run(tmp_path, provenance) -> Callable[..., Path]:
    def write(row: str, seed: int, psnr: ArrayLike, *, change=None, origin=provenance, **scores: ArrayLike) -> Path:
        """Write records of each image with masks in the bins (0.1,0.2] and (0.4,0.5], and perhaps a third one in none.

        Shapes:
            psnr and every other score (images, 2 or 3); the third mask has a hole ratio of 0.7.
        """
        psnr = np.asarray(psnr, dtype=np.float64)
        count, masks = psnr.shape
        ratios = np.tile([0.15, 0.45, 0.7][:masks], count)
        frame = pd.DataFrame(
            {
                "method": "lbam",
                "data": "photos",
                "path": [f"/photos/{image}.png" for image in range(count) for _ in range(masks)],
                "index": np.arange(count * masks),
                "bin": [bin_holding(ratio) for ratio in ratios],
                "hole_ratio": ratios,
                "composite_psnr": psnr.ravel(),
                **{f"composite_{name}": np.asarray(values, float).ravel() for name, values in scores.items()},
            }
        )
        path = tmp_path / row / f"seed_{seed}" / "records.parquet"
        write_records(frame if change is None else change(frame), path, origin)
        return path

    return write
