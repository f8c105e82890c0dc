"""The interface of every inpainting method: one call, one output, one way to paste known pixels back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.ops.canny import DEFAULT_CANNY, Canny


@dataclass(frozen=True)
class InpaintingOutput:
    """What a method returns.

    Shapes:
        prediction (B, 3, H, W) in [0, 1], known pixels too: `composite` pastes the given ones back.
        coarse (B, 3, H, W) in [0, 1], the first of two stages; None where there is one stage.
        edges (B, 1, H, W) in [0, 1], predicted edges; None where the method predicts none.
        edge_pyramid: edges predicted at coarser scales too, (B, 1, h, w), coarsest first; empty unless a network is
            supervised at each of its scales.
        maps: attention maps (B, C, h, w) by name, to be looked at: attention scores come without a gradient; empty
            unless `forward(..., maps=True)`.
    """

    prediction: Tensor
    coarse: Tensor | None = None
    edges: Tensor | None = None
    edge_pyramid: tuple[Tensor, ...] = ()
    maps: dict[str, Tensor] = field(default_factory=dict)


def composite(image: Tensor, mask: Tensor, output: InpaintingOutput) -> Tensor:
    """Known pixels of `image`, the prediction elsewhere; (B, 3, H, W). Hole pixels of `image` are not read."""
    return torch.where(mask > 0, image, output.prediction)


class InpaintingNetwork(nn.Module, ABC):
    """A method that fills holes: networks with weights and classical methods alike.

    Subclasses write `inpaint`, on input that is already checked, emptied in the hole and padded to `stride`, and may
    name the layers whose outputs, one tensor each, `maps=True` returns in `map_layers`.

    Attributes:
        stride: H and W that `inpaint` sees are multiples of this.
        takes_edges: whether `edges` make a difference.
        canny: how this method's edges are found; those that are given should be found alike.
    """

    stride: int = 1
    takes_edges: bool = False
    canny: Canny = DEFAULT_CANNY

    @abstractmethod
    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Fill the hole. `image` is 0 in the hole; H and W are multiples of `stride`; shapes as in `forward`."""

    def map_layers(self) -> dict[str, nn.Module]:
        """Layers whose outputs are this method's attention maps, by the name under which they are returned."""
        return {}

    def attention_weights(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the `maps` of an output those that are attention scores, laid out for `effective_patches`.

        Shapes:
            Returns (B, patches, h, w) by name, >= 0: how much each cell of the map takes of each patch or feature.
        """
        return {}

    def checkpointed_parts(self) -> Sequence[nn.Module]:
        """Return the parts, none inside another, that gradient checkpointing recomputes in the backward pass."""
        return ()

    def forward(
        self, image: Tensor, mask: Tensor, edges: Tensor | None = None, *, maps: bool = False
    ) -> InpaintingOutput:
        """Fill the hole of every image of a batch.

        Any H and W: images are padded to `stride` at the right and bottom by repeating the last row and column, of the
        image and of the mask alike, and the results are cropped. Attention maps keep the padded size.

        Args:
            edges: what the method is to take for the edges; None lets it find its own. Methods without edges ignore it.
            maps: also return the outputs of `map_layers`.
        Shapes:
            image (B, 3, H, W) in [0, 1]; mask (B, 1, H, W), 1 = known, 0 = hole; edges (B, 1, H, W) in [0, 1].
        Raises:
            ValueError: a shape is not as above.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
        height, width = image.shape[-2:]
        expected = (image.shape[0], 1, height, width)
        if mask.shape != expected:
            raise ValueError(f"mask must be {expected}, one channel and the image's size, got {tuple(mask.shape)}")
        if edges is not None and edges.shape != expected:
            raise ValueError(f"edges must be {expected}, one channel and the image's size, got {tuple(edges.shape)}")

        emptied = torch.where(mask > 0, image, 0.0)  # where, not a product: NaN * 0 is NaN
        recorded: dict[str, Tensor] = {}
        hooks = [
            layer.register_forward_hook(_record_into(recorded, name))
            for name, layer in (self.map_layers().items() if maps else ())
        ]
        try:
            output = self.inpaint(
                pad_to_multiple(emptied, self.stride),
                pad_to_multiple(mask, self.stride),
                None if edges is None else pad_to_multiple(edges, self.stride),
            )
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
    """Lay out the filters, and so the features, with the channels of a pixel side by side; state and results stay.

    Networks of plain convolutions do so when they are made: on a CPU oneDNN's took 13% less time for contextual
    attention's at 256x256. LBAM's, whose deep maps are small, gained nothing.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its types know one form of to()


def pad_to_multiple(t: Tensor, stride: int) -> Tensor:
    """(B, C, H, W) with its last row and column repeated until `stride` divides H and W."""
    right, bottom = -t.shape[-1] % stride, -t.shape[-2] % stride
    return F.pad(t, (0, right, 0, bottom), mode="replicate") if right or bottom else t


def _record_into(recorded: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        recorded[name] = output

    return hook
