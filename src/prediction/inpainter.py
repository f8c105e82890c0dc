"""An inpainting method that is ready to use, and the function that fills a batch with a network."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from src.checkpoints.reading import TrainedOn
from src.common.errors import InputError
from src.image_files.binary_images import Hole
from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite, require_stochastic
from src.prediction.blending import Blend, paste
from src.prediction.inputs import (
    Colour,
    ImageT,
    MaskLike,
    convert_edges,
    convert_image,
    convert_mask,
    from_unit,
    to_unit,
)
from src.prediction.sizes import SizeStrategy, Whole
from src.prediction.windows import AroundHoles
from src.rendering.grids import Grid
from src.rendering.network_figures import draw_internals

WHOLE = Whole()

USUAL_SIDE_PX = 256
"""Side of most papers' training images, for networks whose config does not tell theirs."""


class Inpainter:
    """A method with its weights, on a device: `inpainter(image, mask)` fills the hole.

    Images are PIL images of any mode, arrays (H, W, 3), uint8 or floating point in [0, 1], or floating-point tensors
    (3, H, W) or (B, 3, H, W) in [0, 1]. In a mask that is a PIL image the hole is everything that is not black; with
    `hole="black"`, everything that is not white, with `hole="transparent"`, what is transparent.
    In a mask array or tensor, 1 = known and 0 = hole; its shape is (H, W), or (B, 1, H, W) for a batch. The EXIF
    orientation of PIL images is applied, as viewers do, to masks and edges too; results keep the file's orientation.

    Attributes:
        name: the model's name in conf/model.
        network: in eval mode.
        size: how images are passed to the network: around holes, whole, tiled or reduced. A method that was not
            trained, as `trained_on` is None, sees the whole image instead of windows around holes.
        blend: how predictions are blended into the hole: `paste` or `blend_poisson`.
        seed: seed of a stochastic method's results, see `with_seed`; None for its deterministic result.
        trained_on: images and holes of the training; None for classical methods.
    """

    def __init__(
        self,
        name: str,
        network: InpaintingNetwork,
        device: torch.device,
        size: SizeStrategy = WHOLE,
        blend: Blend = paste,
        trained_on: TrainedOn | None = None,
    ) -> None:
        if isinstance(size, AroundHoles):
            size = WHOLE if trained_on is None else size.with_default(trained_on.side_px or USUAL_SIDE_PX)
        self.name, self.network, self.device, self.size = name, network.eval().to(device), device, size
        self.blend, self.trained_on = blend, trained_on
        self.seed: int | None = None

    def with_size(self, size: SizeStrategy) -> "Inpainter":
        """Return this method with images passed to its network in another way."""
        resized = Inpainter(self.name, self.network, self.device, size, self.blend, self.trained_on)
        resized.seed = self.seed
        return resized

    def with_seed(self, seed: int) -> "Inpainter":
        """Return this method with samples by a seed as results, with the same network.

        A result depends on its image, mask and seed only, not on other images of a batch.

        Raises InputError if the method is deterministic.
        """
        require_stochastic({self.name: self.network}, 1)
        seeded = copy.copy(self)
        seeded.seed = seed
        return seeded

    def __call__(
        self,
        image: ImageT,
        mask: MaskLike,
        edges: MaskLike | None = None,
        *,
        hole: Hole = "white",
        lines: Colour = "white",
        warn: Callable[[str], object] | None = None,
    ) -> ImageT:
        """Fill the hole. Known pixels are returned bit for bit; PIL images keep transparency, EXIF and profile too.

        Args:
            edges: edges to use in the hole instead of the predicted ones: a PIL image with lines of the colour `lines`,
                or numbers, 1 on a line. Known pixels keep their own edges.
            warn: is called with a sentence if the image is far from those of the training.
        Returns:
            An image of the same type: arrays and tensors keep their dtype, PIL images their mode, except that palette
            images become RGB, 1-bit images greyscale, and 16-bit images 8-bit.
        """
        tensor, restore = convert_image(image)
        pixels, known, edge_map = self._convert(tensor, mask, edges, hole, lines)
        with self._explain_out_of_memory(pixels):
            rows, columns = self.size.select_region(known, self.network.reach_px)
            part = (..., rows, columns)
            part_edges = None if edge_map is None else edge_map[part]
            if warn is not None and (unfamiliar := self._explain_unfamiliar(known, known[part])) is not None:
                warn(unfamiliar)
            filled = pixels.clone()
            of_part = fill(
                self.network, to_unit(pixels[part]), known[part], part_edges, self.size, self.blend, self.seed
            )
            filled[part] = from_unit(of_part, pixels.dtype)
            return restore(filled, known)

    def draw_figures(
        self,
        image: ImageT,
        mask: MaskLike,
        edges: MaskLike | None = None,
        *,
        hole: Hole = "white",
        lines: Colour = "white",
    ) -> dict[str, Grid]:
        """Draw the network's masks, features, edges and attention, by name; empty for methods without layers.

        They show the whole image or, with windows around holes, the largest window.
        """
        inputs = self._convert(to_unit(convert_image(image)[0]), mask, edges, hole, lines)
        with self._explain_out_of_memory(inputs[0]):
            _, (pixels, known, edge_map) = next(self.size.views(*inputs))
            return draw_internals(self.network, pixels, known, combine_edges(self.network, pixels, known, edge_map))

    def predict_edges(self, image: ImageT, mask: MaskLike, *, hole: Hole = "white") -> Image.Image | None:
        """Return the edges that the network uses, to edit and pass as `edges`; None if the method uses no edges.

        They are white on black: known pixels have their Canny edges, the hole has predicted ones in shades of grey.
        """
        if not self.network.takes_edges:
            return None
        inputs = self._convert(to_unit(convert_image(image)[0]), mask, None, hole, "white")
        edges = torch.zeros_like(inputs[1], dtype=torch.float32)
        with torch.inference_mode(), self._explain_out_of_memory(inputs[0]):
            for tile, (pixels, known, _) in self.size.views(*inputs):
                predicted = F.interpolate(self.network(pixels, known).edges, size=tile.weights.shape, mode="nearest")
                part = (..., slice(*tile.rows), slice(*tile.columns))
                # Other holes of a window have their own.
                used = (torch.from_numpy(tile.weights).to(self.device) > 0) | (inputs[1][part] > 0)
                edges[part] = torch.where(used, predicted, edges[part])
        return Image.fromarray((edges[0, 0] * 255).round().byte().cpu().numpy())

    def _convert(
        self, pixels: Tensor, mask: MaskLike, edges: MaskLike | None, hole: Hole, lines: Colour
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if edges is not None and not self.network.takes_edges:
            raise InputError(f"{self.name} takes no edges: leave them out, or use edge_lbam")
        known = convert_mask(mask, pixels, hole)
        edge_map = None if edges is None else convert_edges(edges, pixels, lines).to(self.device)
        return pixels.to(self.device), known.to(self.device), edge_map

    def _explain_unfamiliar(self, known: Tensor, region: Tensor) -> str | None:
        """Return a sentence if the first image, or the largest hole ratio that the network sees, is unlike training."""
        if self.trained_on is None or bool((region > 0).all()):
            return None
        (height, width), side, largest = known.shape[-2:], self.trained_on.side_px, self.trained_on.hole_ratio
        if side is not None and min(height, width) < side:
            return f"{self.name} was trained on {side}x{side} px, but the image has only {width}x{height} px"
        ratio = max(1 - float(seen.mean()) for _, (_, seen, _) in self.size.views(region, region, None))
        if largest is not None and ratio > largest:
            return (
                f"{self.name} was trained on holes of up to {largest:.0%} of an image, but sees a hole of {ratio:.0%}"
            )
        return None

    @contextmanager
    def _explain_out_of_memory(self, image: Tensor) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            # The CPU's allocator raises a plain RuntimeError, a GPU's a subclass, NumPy's a MemoryError.
            if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
                height, width = image.shape[-2:]
                raise InputError(
                    f"an image of {width}x{height} pixels (width x height) does not fit into the memory of this "
                    f"{self.device.type}: use size=tiled or size=reduced, or another model"
                ) from error
            raise


def fill(
    network: InpaintingNetwork,
    image: Tensor,
    mask: Tensor,
    edges: Tensor | None = None,
    size: SizeStrategy = WHOLE,
    blend: Blend = paste,
    seed: int | None = None,
) -> Tensor:
    """Fill the holes of a batch with a network; known pixels stay unchanged.

    Values are checked here and not in the network's `forward`, which runs in every training step.

    Args:
        edges: edges to use in the hole; known pixels keep their own.
        seed: seed of a stochastic network's sample, for each image and tile; None for its deterministic result.
    Shapes:
        as in `InpaintingNetwork.forward`; returns (B, 3, H, W) in [0, 1].
    Raises:
        InputError: a known pixel is outside [0, 1] or NaN, the mask is not binary, or the network returns NaN or
            infinity, which means that its weights are unusable.
    """
    if not ((mask == 0) | (mask == 1)).all():
        raise InputError("the mask must contain only 1 (known) and 0 (hole)")
    if not ((mask == 0) | ((image >= 0) & (image <= 1))).all():  # also False for NaN
        raise InputError("known pixels of the image must be in [0, 1]: divide 8-bit values by 255")

    def predict(image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        seeds = None if seed is None else [seed] * len(image)
        edges = combine_edges(network, image, mask, edges)
        return network(image, mask, edges, seeds=seeds).prediction  # type: ignore[no-any-return]

    with torch.inference_mode():
        predicted = size.predict(predict, image, mask, edges)
        filled = composite(image, mask, InpaintingOutput(predicted))
    if not filled.isfinite().all():
        raise InputError(
            f"{type(network).__name__} returned NaN or infinity, as after a diverged training: use another checkpoint"
        )
    return composite(image, mask, InpaintingOutput(blend(image, mask, predicted)))


def combine_edges(network: InpaintingNetwork, image: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor | None:
    """Return `edges` in the hole and the known pixels' own Canny edges elsewhere; None if `edges` is None."""
    return None if edges is None else torch.where(mask > 0, network.canny.known_edges(image, mask), edges)
