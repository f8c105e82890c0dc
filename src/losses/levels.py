"""The mean of a loss term over the results of a network at several scales."""

import torch
from torch import Tensor, nn

from src.losses.inputs import LossInput


class OverLevels(nn.Module):
    """mean over levels of term(result at 1 / 2^level of the image size).

    Source: Hong et al., ACM MM 2019, arXiv:1904.08060, Sec. 3.3: structure and texture terms of DFNet.

    Args:
        term: the loss term.
        levels: number of levels, from the finest, the prediction; a network may have fewer.
    """

    def __init__(self, term: nn.Module, levels: int) -> None:
        super().__init__()
        self.term, self.levels = term, levels
        self.needs_features = getattr(term, "needs_features", False)

    def forward(self, inputs: LossInput) -> Tensor:
        """Return the loss, a scalar."""
        coarser = [level for level in range(1, self.levels) if f"level_{level}" in inputs.output.parts]
        return torch.stack([self.term(inputs.at_level(level)) for level in (0, *coarser)]).mean()
