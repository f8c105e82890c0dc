"""PICNet: pluralistic image completion, whose results for one image follow from samples of a latent distribution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from src.common.distributed import draw_rank_consistent
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.coarse_to_fine import pad_to_multiple, to_signed, to_unit
from src.networks.layers.residual_block import MirrorPad
from src.networks.layers.spectral_blocks import (
    SLOPE,
    SelfAttention,
    SpectralBlock,
    UpsamplingBlock,
    halving_blocks,
    level_channels,
    spectral,
)


class ShortLongTermAttention(nn.Module):
    """Attention within the decoded features, whose weights also move the encoded features of known pixels.

    y = d + gamma attend(d);  c = attend(e);  flow = m e + alpha (1 - m) c;  merge(cat(y, flow))

    Source: Zheng et al., CVPR 2019, Sec. 3.3, "short + long term attention". Where the paper is silent, as the release:
    m is resized bilinearly with aligned corners, alpha starts at 0, and hole features get weights, too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = SelfAttention(channels)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.merge = SpectralBlock(2 * channels, channels, slope=0.01)

    def forward(self, decoded: Tensor, encoded: Tensor, mask: Tensor) -> Tensor:
        """Transform decoded features d and encoded features e.

        Shapes:
            decoded, encoded (B, channels, h, w); mask m (B, 1, H, W), 1 = known. Returns (B, channels, h, w).
        """
        known = F.interpolate(mask, size=decoded.shape[-2:], mode="bilinear", align_corners=True)
        short, long = self.attention.attend(decoded, [decoded, encoded])
        flow = self.alpha * (1 - known) * long + known * encoded
        merged: Tensor = self.merge(torch.cat([self.attention.gamma * short + decoded, flow], dim=1))
        return merged


class LatentDistribution(nn.Module):
    """Normal distribution of the latent features: mean, and softplus of the standard deviation, from one block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = SpectralBlock(channels, 2 * channels, hidden=channels)

    def forward(self, features: Tensor) -> Normal:
        """Return the distribution of z (B, channels, h, w), given features of that shape, in float32."""
        mean, spread = self.block(features).float().chunk(2, dim=1)
        return Normal(mean, F.softplus(spread), validate_args=False)


class PluralisticDecoder(nn.Module):
    """Decode latent features and those of the known pixels to images at several scales.

    x = generate(z) + f_deepest;  x = up_1(x);  x = attention(up_2(x), f, m);  image_2 = tanh(conv(x));
    x = up_i(cat(x, image_i-1));  image_i = tanh(conv(x))     for i = 3, 4 ...

    Args:
        channels: channels of the encoder's features, from the finest to the coarsest.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.generate = SpectralBlock(channels[-1], channels[-1])
        outputs = channels[::-1]
        inputs = [channels[-1], outputs[0], *(count + 3 for count in outputs[1:-1])]
        self.up = nn.ModuleList(UpsamplingBlock(i, o) for i, o in zip(inputs, outputs, strict=True))
        self.attention = ShortLongTermAttention(outputs[1])
        self.to_image = nn.ModuleList(
            nn.Sequential(nn.LeakyReLU(SLOPE), MirrorPad(1), spectral(nn.Conv2d(count, 3, 3)), nn.Tanh())
            for count in outputs[1:]
        )

    def forward(self, z: Tensor, features: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        """Return the images of all scales in [-1, 1], from the coarsest to the full size.

        Shapes:
            z (B, C, h, w), as the deepest features; features as of the encoder; mask (B, 1, H, W), 1 = known.
        """
        x = self.up[0](self.generate(z) + features[-1])
        x = self.attention(self.up[1](x), features[-3], mask)
        images = [self.to_image[0](x)]
        for up, to_image in zip(self.up[2:], self.to_image[1:], strict=True):
            x = up(torch.cat([x, images[-1]], dim=1))
            images.append(to_image(x))
        return images


class PICNet(InpaintingNetwork):
    """Pluralistic image completion network: a conditional variational autoencoder with two paths.

    f = encoder(known pixels);  prior = p(infer(f_deepest));  z ~ prior;  prediction = decoder(z, f, m)
    In training also: posterior = q(encoder(hole pixels)_deepest);  z ~ posterior;  reconstruction = decoder(z, f, m)

    `forward` takes the mean of the prior, and with seeds a sample of it for each image.

    Source: Zheng, Cham and Cai, "Pluralistic Image Completion", CVPR 2019, arXiv:1903.04227, Sec. 3. Where the paper is
    silent, as the release: layers, one level of latent features, no mask channel, images in [-1, 1] with 0 in the hole.

    Args:
        width: factor of the channels 32, 64, 128 (at least 4 are kept).
        levels: number of halvings, at least 3; 5 for images of 256x256, which have 8x8 latent features, and whose
            attention compares 32x32 features.
        infer_blocks: residual blocks between the features and the prior.
    """

    stochastic = True

    def __init__(self, width: float = 1.0, levels: int = 5, infer_blocks: int = 6) -> None:
        super().__init__()
        channels = level_channels(levels, width)
        self.stride = 2**levels
        self.encoder = halving_blocks(channels)
        self.infer = nn.Sequential(*(SpectralBlock(channels[-1], channels[-1]) for _ in range(infer_blocks)))
        self.prior, self.posterior = LatentDistribution(channels[-1]), LatentDistribution(channels[-1])
        self.decoder = PluralisticDecoder(channels)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of each level of an image (B, 3, H, W) in [-1, 1], from the finest to the coarsest."""
        features = [image]
        for block in self.encoder:
            features.append(block(features[-1]))
        return features[1:]

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole from the mean of the prior; `edges` are ignored."""
        return self.inpaint_samples(image, mask, edges, seeds=None)

    def inpaint_samples(
        self, image: Tensor, mask: Tensor, edges: Tensor | None, seeds: Sequence[int] | None
    ) -> InpaintingOutput:
        """Fill the hole of each image from a sample of the prior by its seed; None for the mean of the prior."""
        features = self.encode(to_signed(image) * mask)
        prior = self.prior(self.infer(features[-1]))
        z = prior.mean
        if seeds is not None:
            z = z + prior.stddev * _seeded_noise(seeds, z)
        images = self.decoder(z.to(image), features, mask)
        return InpaintingOutput(to_unit(images[-1]), parts=_coarser("prediction", images), latents={"prior": prior})

    def complete_both(self, image: Tensor, mask: Tensor) -> InpaintingOutput:
        """Return the results of the generative and of the reconstructive path, for training.

        Both have the features of the known pixels; z is a sample of the prior and of the posterior, which sees the
        hole of the complete `image`.

        Shapes:
            image (B, 3, H, W) in [0, 1], complete; mask (B, 1, H, W), 1 = known.
            Returns `prediction`, and in `parts` the `reconstruction` and `prediction_level_<n>` and
            `reconstruction_level_<n>`, both at 1 / 2^n of the size; `latents` are `prior` and `posterior`.
        """
        height, width = image.shape[-2:]
        image, mask = pad_to_multiple(image, self.stride), pad_to_multiple(mask, self.stride)
        signed = to_signed(image)
        both = self.encode(torch.cat([signed * mask, signed * (1 - mask)]))
        known, hidden = zip(*(level.chunk(2) for level in both), strict=True)
        latents = {"prior": self.prior(self.infer(known[-1])), "posterior": self.posterior(hidden[-1])}
        means, spreads = (
            torch.stack([getattr(latent, name) for latent in latents.values()]) for name in ("mean", "stddev")
        )

        def draw(samples: int) -> Tensor:
            return torch.randn(samples, *means.shape[:1], *means.shape[2:], device=image.device)

        z = means + spreads * draw_rank_consistent(draw, len(image)).transpose(0, 1)
        twice = [torch.cat([level, level]) for level in known]
        images = self.decoder(z.flatten(0, 1).to(image), twice, torch.cat([mask, mask]))
        generated, reconstructed = zip(*(scale.chunk(2) for scale in images), strict=True)
        parts = _coarser("prediction", generated) | _coarser("reconstruction", reconstructed)
        parts["reconstruction"] = to_unit(reconstructed[-1])[..., :height, :width]
        return InpaintingOutput(to_unit(generated[-1])[..., :height, :width], parts=parts, latents=latents)


def _coarser(name: str, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return all images in [-1, 1] but the last, of the full size, in [0, 1] as `<name>_level_<n>`, 1 the finest."""
    return {f"{name}_level_{n}": to_unit(image) for n, image in enumerate(reversed(images[:-1]), start=1)}


def _seeded_noise(seeds: Sequence[int], like: Tensor) -> Tensor:
    """Return standard normal noise of the shape (B, C, h, w) of `like`, that of each image from its own seed."""
    draws = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(draws).to(like)
