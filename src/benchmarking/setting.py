"""How a network is run: its precision, and whether it is compiled."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch
from omegaconf import DictConfig

from src.benchmarking.clock import Record
from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork
from src.training.execution import compile_network

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Of matrix products and convolutions, by Lightning's name."""


@dataclass(frozen=True)
class Setting:
    """As the keys of conf/train.yaml of these names; precision is the Trainer's.

    Raises:
        InputError: there is no such precision.
    """

    precision: str = "32-true"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in DTYPES:
            raise InputError(f"precision must be one of {', '.join(DTYPES)}, got {self.precision}")

    def columns(self) -> Record:
        """For a record."""
        return asdict(self)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """For a forward pass."""
        dtype = DTYPES[self.precision]
        return nullcontext() if dtype is torch.float32 else torch.autocast(device.type, dtype)

    def prepare(self, network: InpaintingNetwork) -> InpaintingNetwork:
        """Return a copy, compiled if so set; a method without weights is not."""
        copy = deepcopy(network)
        if self.compile and any(True for _ in copy.parameters()):
            torch.compiler.reset()  # as if alone: after another size torch.compile would make code for all sizes
            compile_network(copy)
        return copy


def make_setting(cfg: DictConfig, device: torch.device) -> Setting:
    """What conf/benchmark.yaml composes, for a device.

    Raises:
        InputError: there is no such precision, or none on this device.
    """
    if cfg.precision == "16-mixed" and device.type == "cpu":
        raise InputError("precision=16-mixed is for GPUs: on the CPU give bf16-mixed")
    return Setting(cfg.precision, cfg.compile)
