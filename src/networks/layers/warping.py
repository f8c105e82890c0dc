"""Alternatives to contextual attention (Sec. 5.1 of its paper): two kinds of warping, and a convolution."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.layers.coarse_to_fine import ConvBlock, mirror_pad
from src.networks.layers.contextual_attention import FeatureAttention


def warp(background: Tensor, flow: Tensor) -> Tensor:
    """Sample the background at (y, x) + flow for each foreground cell (y, x), bilinear, with border padding.

    Shapes:
        background (B, C, h', w'), any range; flow (B, 2, h, w), dy and dx in cells. Returns (B, C, h, w) in the
        dtype of the background.
    """
    with torch.autocast(background.device.type, enabled=False):  # bfloat16 is off by a quarter of a cell at 64
        (height, width), (rows, columns) = flow.shape[-2:], background.shape[-2:]
        y = torch.arange(height, device=flow.device)[:, None] + flow[:, 0].float()
        x = torch.arange(width, device=flow.device) + flow[:, 1].float()
        grid = torch.stack([(2 * x + 1) / columns - 1, (2 * y + 1) / rows - 1], -1)
        sampled = F.grid_sample(background.float(), grid, padding_mode="border", align_corners=False)
        return sampled.to(background.dtype)


class Warping(FeatureAttention):
    """Background features warped by a flow.

    Args:
        flow: predicts offsets (B, 2, h, w), dy and dx in cells, from features (B, C, h, w) and (B, C, h', w').
    Decision, where the paper is silent: `known` is ignored, as the warping papers have no mask; a flow may point into
    the hole.
    """

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Compute the foreground; shapes as in `FeatureAttention`."""
        return warp(background, self.flow(foreground, background))

    def map_layers(self) -> dict[str, nn.Module]:
        """Return `flow`: offsets (B, 2, h, w), dy and dx in cells."""
        return {"flow": self.flow}


class AffineFlow(nn.Module):
    """One affine transform per image, predicted from the background features.

    (x', y') = theta (x, y, 1), coordinates from -1 to 1 over foreground and background
    Source: Jaderberg et al., NeurIPS 2015, Sec. 3 and Eq. 1: a localisation network of any form whose last layer
    regresses theta and is initialised with zero weights and the identity as its bias.
    Decision, where both papers are silent: two 3x3 convolutions with stride 2, ELU and a quarter of the channels,
    averaged over a 4x4 grid, and a linear layer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden, grid = max(4, channels // 4), 4
        self.localisation = nn.Sequential(
            ConvBlock(channels, hidden, stride=2, pad=mirror_pad, activation=nn.ELU),
            ConvBlock(hidden, hidden, stride=2, pad=mirror_pad, activation=nn.ELU),
            nn.AdaptiveAvgPool2d(grid),
            nn.Flatten(),
        )
        self.to_theta = nn.Linear(hidden * grid**2, 6)
        nn.init.zeros_(self.to_theta.weight)
        with torch.no_grad():
            self.to_theta.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, foreground: Tensor, background: Tensor) -> Tensor:
        """Predict offsets in float32; shapes as in `Warping`."""
        with torch.autocast(background.device.type, enabled=False):
            theta = self.to_theta(self.localisation(background.float())).view(-1, 2, 3)
            (height, width), (rows, columns) = foreground.shape[-2:], background.shape[-2:]
            grid = F.affine_grid(theta, [len(foreground), 1, height, width], align_corners=False)
            x = ((grid[..., 0] + 1) * columns - 1) / 2 - torch.arange(width, device=grid.device)
            y = ((grid[..., 1] + 1) * rows - 1) / 2 - torch.arange(height, device=grid.device)[:, None]
            return torch.stack([y, x], 1)


class ConvFlow(nn.Module):
    """A flow predicted by one 3x3 convolution of the foreground features.

    Source: contextual attention (Yu et al., CVPR 2018), Sec. 5.1, "a convolution layer to directly predict 2-D pixel
    offsets as attention", after Zhou et al., ECCV 2016. Where both are silent: the initial flow is zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offsets = ConvBlock(channels, 2, pad=mirror_pad, activation=nn.Identity, start=nn.init.zeros_)

    def forward(self, foreground: Tensor, background: Tensor) -> Tensor:
        """Predict offsets in float32; shapes as in `Warping`."""
        with torch.autocast(foreground.device.type, enabled=False):
            offsets: Tensor = self.offsets(foreground.float())
            return offsets


class Convolution(FeatureAttention):
    """A 3x3 convolution with ELU in place of the attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ConvBlock(channels, channels, pad=mirror_pad, activation=nn.ELU)

    def forward(self, foreground: Tensor, background: Tensor, known: Tensor) -> Tensor:
        """Compute the foreground; shapes as in `FeatureAttention`."""
        out: Tensor = self.block(foreground)
        return out


def spatial_transformer(channels: int) -> Warping:
    """Build the spatial transformer, "as attention in our framework" in Fig. 8, left."""
    return Warping(AffineFlow(channels))


def appearance_flow(channels: int) -> Warping:
    """Build the appearance flow: one offset per cell; Fig. 8, middle."""
    return Warping(ConvFlow(channels))
