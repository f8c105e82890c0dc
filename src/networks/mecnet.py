"""MECNet: multi-scale edge completion."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from src.networks.layers.coarse_to_fine import scaled
from src.networks.layers.residual_block import ResidualBlock, decoder, encoder, initialised


class MECNet(nn.Module):
    """Multi-scale edge completion network.

    f = encoder(gray, edges, hole);  g_s = body(pool(f, 1 / 2^s)), s = scales - 1 ... 0, one body for all scales
    h_s = cat(g_s, ReLU(IN(deconv_s(h_s+1))));  h = g at the coarsest scale;  edges = decoder(h_0)
    Source: Edge-LBAM (arXiv:2104.12087), Sec. 3.3: scales of 8, 16, 32 and 64 for 256x256 images. As in the release,
    the "four branches of eight residual blocks" are eight blocks, applied to all four scales.
    Where the paper is silent, as the release: EdgeConnect's generator (arXiv:1901.00212, appendix A) with a 7x7 and
    two 4x4 stride-2 convolutions, eight residual blocks and a mirrored decoder; spectral norm except in the
    deconvolutions between scales and the last layer; instance norm without parameters; reflection padding; unknown
    pixels of the grey image are white.
    Departs from the release, in training mode only: the power iteration of the body's spectral norm advances once per
    call, there once per scale.
    Decision for MECNet(ML): each supervised scale has a decoder like the finest scale's and predicts edges at four
    times the size of its features: a pyramid of 1/8, 1/4 and 1/2 of the image size, and the full size.

    Args:
        width: factor of the channels 64, 128, 256 (at least 4 are kept).
        scales: 4, or 1 for MECNet(S), which has the finest branch only.
        supervised_scales: number of scales, from the finest, that predict edges: 1, or `scales` for MECNet(ML).
        blocks: number of residual blocks in the body.
    Raises ValueError if `scales` or `supervised_scales` is out of range.
    """

    def __init__(self, width: float = 1.0, scales: int = 4, supervised_scales: int = 1, blocks: int = 8) -> None:
        super().__init__()
        if scales < 1:
            raise ValueError(f"scales must be >= 1, got {scales}")
        if not 1 <= supervised_scales <= scales:
            raise ValueError(f"supervised_scales must be between 1 and scales={scales}, got {supervised_scales}")
        self.stride = 4 * 2**scales  # coarsest features of at least 2x2, as instance norm needs more than one value
        channels = [scaled(count, width) for count in (64, 128, 256)]
        c256 = channels[-1]
        merged = [c256, *[2 * c256] * (scales - 1)]  # channels of h, coarsest first
        self.encoder = encoder(3, channels, _normalised)
        self.body = nn.Sequential(*(ResidualBlock(c256, start=_normalised) for _ in range(blocks)))
        self.upsamples = nn.ModuleList(
            nn.Sequential(
                initialised(nn.ConvTranspose2d(joined, c256, 4, stride=2, padding=1)),
                nn.InstanceNorm2d(c256),
                nn.ReLU(),
            )
            for joined in merged[:-1]
        )
        self.decoders = nn.ModuleList(
            decoder(joined, 1, channels, _normalised) for joined in merged[-supervised_scales:]
        )
        self.pool_factors = [2**scale for scale in reversed(range(scales))]

    def forward(self, gray: Tensor, edges: Tensor, mask: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Predict the edges of the whole image, known pixels included; gray and edges are not read in the hole.

        Returns the edges and those of the coarser supervised scales, coarsest first.

        Shapes:
            gray (B, 1, H, W) in [0, 1]; edges (B, 1, H, W) of known pixels; mask (B, 1, H, W), 1 = known, 0 = hole.
            Returns (B, 1, H, W) in [0, 1], and (B, 1, H / 2^s, W / 2^s) in [0, 1] for scale s.
        Raises ValueError if H or W is not a multiple of `stride`.
        """
        if gray.shape[-2] % self.stride or gray.shape[-1] % self.stride:
            raise ValueError(f"H and W must be multiples of {self.stride}, got {tuple(gray.shape[-2:])}")
        known = mask > 0
        seen = torch.cat([torch.where(known, gray, 1.0), torch.where(known, edges, 0.0), 1 - mask], dim=1)
        with parametrize.cached():
            self._normalise_filters(seen.device.type)
            features = self.encoder(seen)
            branches = [self.body(F.avg_pool2d(features, factor)) for factor in self.pool_factors]
            merged = branches[:1]
            for upsample, branch in zip(self.upsamples, branches[1:], strict=True):
                merged.append(torch.cat([branch, upsample(merged[-1])], dim=1))
            *coarser, finest = (
                decode(h).float().sigmoid()
                for decode, h in zip(self.decoders, merged[-len(self.decoders) :], strict=True)
            )
        return finest, tuple(coarser)

    def _normalise_filters(self, device: str) -> None:
        """Compute all normalised filters in float32 and cache them, as the body runs on every scale."""
        parametrized = [layer for layer in self.modules() if parametrize.is_parametrized(layer)]
        if not parametrized:  # parametrizations were removed for an export, and torch.export fails on an empty context
            return
        with torch.autocast(device, enabled=False):
            for layer in parametrized:
                _ = layer.weight


def _normalised(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    return spectral_norm(initialised(conv))
