"""Convolutions of maps that hold few values: there the filters' way through memory is what takes the time."""

from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.ops.tracing import is_exported

CONVOLVED_VALUES, DECONVOLVED_VALUES = 16, 64
"""Values a channel, all images of the batch together, up to which one matrix product is faster on a CPU: of a
convolution's output, and of a transposed convolution's input. oneDNN reorders its filters at each call, the product
reads them as they lie. Measured for 512 to 1,024 channels and filters of 3 x 3 and 4 x 4, forward and backward."""


def _as_matrix(values: int, limit: int, weight: Tensor) -> bool:
    return not is_exported() and values <= limit and weight.device.type == "cpu" and weight.is_contiguous()


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d without dilation, groups and bias, whose small maps are unfolded and multiplied with the filters."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int, padding: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.side, self.step, self.margin = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, H', W')."""
        return self.convolve(x, self.weight)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """`forward` with other filters (out_channels, C, k, k) than its own."""
        height, width = ((size + 2 * self.margin - self.side) // self.step + 1 for size in x.shape[-2:])
        if not _as_matrix(x.shape[0] * height * width, CONVOLVED_VALUES, weight):
            return F.conv2d(x, weight, None, self.stride, self.padding)
        windows = F.unfold(x, self.side, padding=self.margin, stride=self.step)
        return (weight.flatten(1) @ windows).view(len(x), -1, height, width)


class SmallMapConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d that doubles a map, 4x4, stride 2, without bias; small maps are multiplied and folded."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, 2 H, 2 W)."""
        height, width = x.shape[-2:]
        if not _as_matrix(x.shape[0] * height * width, DECONVOLVED_VALUES, self.weight):
            return super().forward(x, output_size)
        windows = self.weight.flatten(1).t() @ x.flatten(2)
        return F.fold(windows, (2 * height, 2 * width), 4, padding=1, stride=2)
