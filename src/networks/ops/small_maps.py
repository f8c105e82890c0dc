"""Convolutions that are fast on small feature maps, where reading the filters from memory dominates the time."""

from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.ops.tracing import is_exporting

CONVOLVED_VALUES, DECONVOLVED_VALUES = 16, 64
"""Number of values per channel, over the whole batch, up to which one matrix product is faster on a CPU.

Counted in the output of a convolution and in the input of a transposed convolution. oneDNN reorders its filters at each
call; the matrix product reads them in place.
"""


def _as_matrix(values: int, limit: int, weight: Tensor) -> bool:
    return not is_exporting() and values <= limit and weight.device.type == "cpu" and weight.is_contiguous()


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d without dilation, groups and bias that uses unfold and a matrix product on small maps."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int, padding: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.side, self.step, self.margin = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, in_channels, H, W) to (B, out_channels, H', W')."""
        return self.convolve(x, self.weight)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with the given filters (out_channels, C, k, k)."""
        height, width = ((size + 2 * self.margin - self.side) // self.step + 1 for size in x.shape[-2:])
        if not _as_matrix(x.shape[0] * height * width, CONVOLVED_VALUES, weight):
            return F.conv2d(x, weight, None, self.stride, self.padding)
        windows = F.unfold(x, self.side, padding=self.margin, stride=self.step)
        return (weight.flatten(1) @ windows).view(len(x), -1, height, width)


class SmallMapConvTranspose2d(nn.ConvTranspose2d):
    """4x4 nn.ConvTranspose2d with stride 2 and without bias that uses a matrix product and fold on small maps."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsample (B, in_channels, H, W) to (B, out_channels, 2 H, 2 W)."""
        height, width = x.shape[-2:]
        if not _as_matrix(x.shape[0] * height * width, DECONVOLVED_VALUES, self.weight):
            return super().forward(x, output_size)
        windows = self.weight.flatten(1).t() @ x.flatten(2)
        return F.fold(windows, (2 * height, 2 * width), 4, padding=1, stride=2)
