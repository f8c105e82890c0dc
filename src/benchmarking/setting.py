"""How a network is run: precision, compiled or not, memory format, and what the backward pass computes again."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch
from omegaconf import DictConfig
from torch import nn

from src.benchmarking.clock import Record
from src.benchmarking.failures import NotMeasuredError
from src.common.errors import InputError
from src.networks.execution import prepare
from src.networks.interface import InpaintingNetwork

FILTER_DIMENSIONS = 4

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Of matrix products and convolutions, by Lightning's name."""


def lies_channels_last(module: nn.Module) -> bool:
    """Whether filters lie with the channels of a pixel side by side, as some networks lay theirs when they are made."""
    filters = (p for p in module.parameters() if p.ndim == FILTER_DIMENSIONS)
    return any(f.is_contiguous(memory_format=torch.channels_last) and not f.is_contiguous() for f in filters)


@dataclass(frozen=True)
class Setting:
    """As the keys of conf/train.yaml of these names; precision is the Trainer's.

    Raises:
        InputError: there is no such precision.
    """

    precision: str = "32-true"
    compile: bool = False
    channels_last: bool = False
    gradient_checkpointing: bool = False

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

    def prepared(self, network: InpaintingNetwork) -> InpaintingNetwork:
        """A copy that is run like this; a method without weights has nothing to prepare.

        Raises:
            NotMeasuredError: the network can't be run like this.
        """
        copy = deepcopy(network)
        if not any(True for _ in copy.parameters()):
            return copy
        if self.compile:  # as if alone: after another size torch.compile would make code for all sizes
            torch.compiler.reset()
        try:
            prepare(
                copy,
                compile=self.compile,
                channels_last=self.channels_last,
                gradient_checkpointing=self.gradient_checkpointing,
            )
        except InputError as error:
            raise NotMeasuredError(str(error)) from error
        return copy


def setting_of(cfg: DictConfig, device: torch.device) -> Setting:
    """What conf/benchmark.yaml composes, for a device.

    Raises:
        InputError: there is no such precision, or none on this device.
    """
    if cfg.precision == "16-mixed" and device.type == "cpu":
        raise InputError("precision=16-mixed is for GPUs: on the CPU give bf16-mixed")
    return Setting(cfg.precision, cfg.compile, cfg.channels_last, cfg.gradient_checkpointing)
