"""How a network is run in a benchmark: its precision, whether it is compiled, and whether its layers are literal."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from src.benchmarking.failures import NotMeasuredError
from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork
from src.networks.reference import FORMS, literal_form
from src.training.execution import compile_network

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Dtype of matrix products and convolutions, by Lightning's name of the precision."""


@dataclass(frozen=True)
class Setting:
    """Precision, compilation and layers of a measured network.

    Attributes:
        precision: `precision` of Lightning's Trainer, a key of `DTYPES`.
        compile: whether torch.compile compiles the network, as `compile` in conf/train.yaml.
        literal: whether layers are replaced by those of src/networks/reference, with the same weights.
    Raises:
        InputError: the precision is unknown.
    """

    precision: str = "32-true"
    compile: bool = False
    literal: bool = False

    def __post_init__(self) -> None:
        if self.precision not in DTYPES:
            raise InputError(f"precision must be one of {', '.join(DTYPES)}, got {self.precision}")

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the autocast context for a forward pass."""
        dtype = DTYPES[self.precision]
        return nullcontext() if dtype is torch.float32 else torch.autocast(device.type, dtype)

    def prepare(self, network: InpaintingNetwork) -> InpaintingNetwork:
        """Return a copy of a network to measure; methods without weights are never compiled.

        Raises:
            NotMeasuredError: `literal` is set, and no layer has a literal form.
        """
        if self.literal and not any(type(layer) in FORMS for layer in network.modules()):
            raise NotMeasuredError("no literal form")
        copy = literal_form(network) if self.literal else deepcopy(network)
        if self.compile and any(True for _ in copy.parameters()):
            torch.compiler.reset()  # else torch.compile would generate code for dynamic sizes after another size
            compile_network(copy)
        return copy


def make_setting(cfg: DictConfig, device: torch.device) -> Setting:
    """Return the setting of conf/benchmark.yaml for a device.

    Raises:
        InputError: the precision is unknown or not supported on this device.
    """
    if cfg.precision == "16-mixed" and device.type == "cpu":
        raise InputError("precision=16-mixed is not supported on the CPU: set precision=bf16-mixed")
    return Setting(cfg.precision, cfg.compile, cfg.literal)
