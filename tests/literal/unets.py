"""Literal forms."""

from collections.abc import Callable

from torch import nn

FORMS: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {}
