"""Checkpoints in the releases' layouts, with the weights that the outputs in `parity/` were computed with."""

import json
import zlib
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

PARITY = Path(__file__).parent / "parity"
GAIN = {
    "lbam": 0.75,
    "contextual_attention": 1.0,
    "mpga_gla": 1.0,
    "edge_connect": 1.0,
    "gmcnn": 1.0,
    "medfe": 0.3,
    "gl": 1.6,
    "deepfill_v2": 2.0,
    "deepfill_v2_pt": 2.0,
    "picnet_discriminator": 8.0,
}  # of the filters; 1.4 elsewhere
SCALARS = {"a": 1.6, "mu": 1.2, "sigma1": 1.0, "sigma2": 0.8}
VECTORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "running_var": lambda n: 1 + 0.2 * np.abs(n),
    "running_mean": lambda n: 0.1 * n,
    "weight": lambda n: 1 + 0.1 * n,
    "bias": lambda n: 0.05 * n,
    "gamma": lambda n: 0.7 + 0.1 * n,  # of picnet, like alpha
    "alpha": lambda n: 0.7 + 0.1 * n,
}


@cache
def reference(name: str) -> Mapping[str, np.ndarray]:
    """Return inputs and outputs of the release: image, mask, output, and the vectors of spectral norms."""
    with np.load(PARITY / f"{name}.npz") as file:
        return dict(file)


def weight(name: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a random tensor, seeded by its name and scaled so that signals keep their variance."""
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.array(0)
    if leaf in ("weight_u", "weight_v", "fuse_weight"):
        return reference(name)[key]
    if key.endswith("mask_conv.weight") and name in ("pconv", "medfe"):
        return np.ones(shape, np.float32)
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    n = np.float32(n) if shape == () else n.astype(np.float32)
    if shape == ():
        return np.float32(SCALARS[leaf] + 0.1 * n)
    if len(shape) == 1:
        return VECTORS[leaf](n)
    fan = np.prod(shape[1:])
    if "maskConv" in key.split(".") or "reverseMaskConv" in key.split("."):
        return np.abs(n) * np.float32(2.5 / fan)
    if name == "pconv":
        return n * np.float32(1.4 * np.sqrt(fan))
    if key.endswith("input_conv.weight"):  # of medfe
        return n * np.float32(0.01 * np.sqrt(fan))
    return n * np.float32(GAIN.get(name, 1.4) / np.sqrt(fan))


def read_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a release's tensors by name."""
    keys = json.loads((PARITY / f"{name}.keys.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in keys.items()}


@lru_cache(maxsize=2)  # they are up to half a GB each
def weights(name: str) -> Mapping[str, Tensor]:
    """Return a state dict in the release's layout."""
    return {key: torch.as_tensor(weight(name, key, shape)) for key, shape in read_shapes(name).items()}


@pytest.fixture(scope="session")
def released() -> Callable[[str], dict[str, Tensor]]:
    """`released(name)` returns a new dictionary with a release's tensors."""
    return lambda name: dict(weights(name))


@pytest.fixture(scope="session")
def blank() -> Callable[[str], dict[str, Tensor]]:
    """`blank(name)` returns a dictionary with a release's names and shapes, and zeros as values."""
    return lambda name: {key: torch.zeros(shape) for key, shape in read_shapes(name).items()}


@pytest.fixture(scope="session")
def computed() -> Callable[[str], Mapping[str, np.ndarray]]:
    """`computed(name)` returns a release's inputs and outputs."""
    return reference
