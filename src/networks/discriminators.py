"""Discriminators that several models' adversarial losses can use."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TwoColumnDiscriminator(nn.Module):
    """LBAM's critic: one column sees the known pixels, the other the hole's.

    Source: Xie et al., ICCV 2019, supplement Table 1 (Table 3 of the arXiv version). Filters 4x4, stride 2, padding 1
    until 4x4 is left of the features (6 layers at 256x256), batch norm from the second on, LeakyReLU(0.2); both columns
    together end in one valid 4x4 convolution and a sigmoid ("stride = 0" there can't be meant).
    Where the paper is silent, as the release: convolutions have biases, filters start as N(0, 0.02^2), and images of
    another size are resized to `size` (nearest).

    Args:
        size: height and width of what the columns see; a power of two from 8 on.
        width: multiplies the channels 64, 128, 256, 512, 512 ... (at least 8 are kept).
    """

    def __init__(self, size: int = 256, width: float = 1.0) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"size must be a power of two and at least 8, got {size}")
        self.size = size
        layers = size.bit_length() - 3  # log2(size / 4)
        channels = [max(8, round(width * min(64 * 2**layer, 512))) for layer in range(layers)]
        self.known_column, self.hole_column = self._column(channels), self._column(channels)
        self.score = nn.Sequential(nn.Conv2d(2 * channels[-1], 1, 4), nn.Sigmoid())
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)

    @staticmethod
    def _column(channels: list[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, o in zip((3, *channels[:-1]), channels, strict=True):
            norm = nn.BatchNorm2d(o) if layers else nn.Identity()
            layers += [nn.Conv2d(i, o, 4, stride=2, padding=1), norm, nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Score each image; the higher, the more real.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete; mask (B, 1, H, W), 1 = known, 0 = hole. Returns (B,) in (0, 1).
        Raises:
            ValueError: a shape is not as above.
        """
        if image.ndim != 4 or image.shape[1] != 3 or mask.shape != (len(image), 1, *image.shape[-2:]):
            raise ValueError(
                f"image must be (B, 3, H, W) and mask (B, 1, H, W), got {tuple(image.shape)} and {tuple(mask.shape)}"
            )
        image, mask = (F.interpolate(t, size=(self.size, self.size), mode="nearest") for t in (image, mask))
        columns = self.known_column(image * mask), self.hole_column(image * (1 - mask))
        score: Tensor = self.score(torch.cat(columns, dim=1))
        return score.flatten()
