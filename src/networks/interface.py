"""The common interface of all inpainting methods: `InpaintingNetwork`, its output, and `composite`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from src.common.errors import InputError
from src.networks.layers.canny import DEFAULT_CANNY, Canny
from src.networks.layers.coarse_to_fine import pad_to_multiple


@dataclass(frozen=True)
class InpaintingOutput:
    """Output of an inpainting method.

    Shapes:
        prediction (B, 3, H, W) in [0, 1], for known pixels too; `composite` pastes the given pixels back.
        coarse (B, 3, H, W) in [0, 1], the result of the first stage; None for single-stage methods.
        edges (B, 1, H, W) in [0, 1], the predicted edges; None if the method predicts none.
        edge_pyramid: edges predicted at coarser scales, (B, 1, h, w), coarsest first; empty unless the network is
            supervised at several scales.
        parts: further images (B, 3, h, w) in [0, 1] by name that loss terms supervise, such as those of coarser scales.
        latents: distributions of the latent features of stochastic methods by name, for loss terms.
        maps: attention maps (B, C, h, w) by name for visualisation; attention scores have no gradient. Empty unless
            `forward(..., maps=True)`.
    """

    prediction: Tensor
    coarse: Tensor | None = None
    edges: Tensor | None = None
    edge_pyramid: tuple[Tensor, ...] = ()
    parts: dict[str, Tensor] = field(default_factory=dict)
    latents: dict[str, Normal] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)


def require_stochastic(methods: Mapping[str, "InpaintingNetwork"], samples: int) -> None:
    """Raise InputError if one of the methods, by name, is deterministic and so has no samples."""
    if deterministic := [name for name, network in methods.items() if not network.stochastic]:
        raise InputError(
            f"samples={samples}: {', '.join(deterministic)} has one result for an image, as it is deterministic: omit "
            "samples=, or use a stochastic method, such as picnet"
        )


def composite(image: Tensor, mask: Tensor, output: InpaintingOutput) -> Tensor:
    """Combine the known pixels of `image` with the prediction in the hole; hole pixels of `image` are never read."""
    return torch.where(mask > 0, image, output.prediction)


class InpaintingNetwork(nn.Module, ABC):
    """Base class of all inpainting methods, with or without weights.

    Subclasses implement `inpaint`. Its input is validated, zeroed in the hole and padded to `stride`.

    Attributes:
        stride: H and W passed to `inpaint` are multiples of this.
        takes_edges: whether the method uses `edges`.
        stochastic: whether the method has several results for one image: see `seeds` in `forward`.
        reach_px: how far from the holes the method reads pixels; None if it reads the whole image.
        canny: settings of the edge detector; edges passed to `forward` should be made with the same.
    """

    stride: int = 1
    reach_px: int | None = None
    takes_edges: bool = False
    stochastic: bool = False
    canny: Canny = DEFAULT_CANNY

    @abstractmethod
    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole. `image` is 0 in the hole, H and W are multiples of `stride`; shapes as in `forward`."""

    def inpaint_samples(
        self, image: Tensor, mask: Tensor, edges: Tensor | None, seeds: Sequence[int]
    ) -> InpaintingOutput:
        """Fill the hole of each image with a sample by its seed; shapes as in `inpaint`. For stochastic methods."""
        raise InputError(f"{type(self).__name__} is deterministic and has no samples: call it without seeds")

    def map_layers(self) -> dict[str, nn.Module]:
        """Return the layers whose outputs `forward(..., maps=True)` returns, by the name of the map."""
        return {}

    def attention_weights(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return those `maps` of an output that are attention weights, (B, patches, h, w), for `effective_patches`."""
        return {}

    def checkpointed_parts(self) -> Sequence[nn.Module]:
        """Return the parts, none inside another, that gradient checkpointing recomputes in the backward pass."""
        return ()

    def forward(
        self,
        image: Tensor,
        mask: Tensor,
        edges: Tensor | None = None,
        *,
        maps: bool = False,
        seeds: Sequence[int] | None = None,
    ) -> InpaintingOutput:
        """Fill the hole of each image in a batch.

        H and W are arbitrary: image and mask are padded to `stride` at the right and bottom by repeating the last row
        and column, and the results are cropped. Attention maps keep the padded size.

        Args:
            edges: edges to use; None lets the method find its own. Methods without edges ignore them.
            maps: whether to return the outputs of `map_layers`, too.
            seeds: one seed for each image, for samples of a stochastic method. A sample depends on its image, mask and
                seed only, not on the batch. None for the method's deterministic result.
        Shapes:
            image (B, 3, H, W) in [0, 1]; mask (B, 1, H, W), 1 = known, 0 = hole; edges (B, 1, H, W) in [0, 1].
        Raises:
            ValueError: a tensor has another shape, or the number of seeds is not B.
            InputError: there are seeds, but the method is deterministic.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
        height, width = image.shape[-2:]
        expected = (image.shape[0], 1, height, width)
        for name, plane in (("mask", mask), ("edges", mask if edges is None else edges)):
            if plane.shape != expected:
                raise ValueError(
                    f"{name} must be {expected}: one channel, same size as the image; got {tuple(plane.shape)}"
                )

        if seeds is not None and len(seeds) != len(image):
            raise ValueError(f"expected one seed for each of {len(image)} images, got {len(seeds)}")

        emptied = torch.where(mask > 0, image, 0.0)  # not a product, as NaN * 0 is NaN
        recorded: dict[str, Tensor] = {}
        hooks = [
            layer.register_forward_hook(lambda *call, name=name: recorded.update({name: call[-1]}))
            for name, layer in (self.map_layers().items() if maps else ())
        ]
        try:
            padded = (
                pad_to_multiple(emptied, self.stride),
                pad_to_multiple(mask, self.stride),
                None if edges is None else pad_to_multiple(edges, self.stride),
            )
            output = self.inpaint(*padded) if seeds is None else self.inpaint_samples(*padded, seeds)
        finally:
            for hook in hooks:
                hook.remove()

        def crop(t: Tensor | None) -> Tensor | None:
            return None if t is None else t[..., :height, :width]

        return replace(
            output,
            prediction=output.prediction[..., :height, :width],
            coarse=crop(output.coarse),
            edges=crop(output.edges),
            maps={**output.maps, **recorded},
        )


def to_channels_last(network: nn.Module) -> None:
    """Convert the filters, and thereby the features, to the channels-last memory format.

    Networks of plain convolutions do this in their constructors; LBAM, whose deep maps are small, gains nothing.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the type stubs lack this overload
