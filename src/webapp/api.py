"""The functions that the page calls on the server: open an image, mask or example, predict edges, fill."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.common.errors import InputError
from src.image_files.reading import to_rgb_array
from src.networks.classical import Biharmonic
from src.prediction import AroundHoles, Inpainter, Reduced, SizeStrategy, Whole
from src.rendering.grids import Grid
from src.webapp.encoding import MEGA, Limits, decode_image, decode_mask_file, encode_png, encode_preview
from src.webapp.examples import EXAMPLES
from src.webapp.methods import MethodPool

Request = Mapping[str, Any]
Response = dict[str, Any]


AUTO = "auto"
"""Working size: windows around the holes at the training's size for networks, `CLASSICAL_SIDE_PX` for other methods."""

CLASSICAL_SIDE_PX = 512


class Api:
    """Answers the page's requests. Nothing is stored, and images are decoded from the request's own bytes only.

    Args:
        sides_px: working sizes that the page offers; None is the image's own size, see also `AUTO`.
        figure_side_px: longer side of the image for which network internals are drawn.
    """

    def __init__(
        self, methods: MethodPool, limits: Limits, sides_px: tuple[int | str | None, ...], figure_side_px: int
    ) -> None:
        self.methods, self.limits, self.sides_px, self.figure_side_px = methods, limits, sides_px, figure_side_px
        self._opening = threading.Lock()  # at most one full-size image is in memory at a time

    def open_image(self, request: Request) -> Response:
        """Return the size and a preview of `image`."""
        with self._opening:
            return _describe(decode_image(request.get("image"), "image", self.limits))

    def open_mask(self, request: Request) -> Response:
        """Return the mask of a mask file, white = hole, as `python -m src.predict` reads it with the same `hole`."""
        with self._opening:
            return {
                "mask": encode_png(decode_mask_file(request.get("mask"), request.get("hole", "white"), self.limits))
            }

    def open_example(self, request: Request) -> Response:
        """Return the image, size, preview and mask of the example with the index `example`."""
        index = request.get("example")
        if type(index) is not int or not 0 <= index < len(EXAMPLES):
            raise InputError(f"there is no example {index!r}: choose one of 0 ... {len(EXAMPLES) - 1}")
        image = EXAMPLES[index].load_image()
        return {**_describe(image), "image": encode_png(image), "mask": encode_png(EXAMPLES[index].draw_mask())}

    def predict_edges(self, request: Request, stopped: threading.Event | None = None) -> Response:
        """Return the edges that a method uses, white on black; `fill` has the same inputs and others."""
        size = self._parse_size(request)
        with self.methods.acquire(_parse_method(request), stopped) as inpainter:
            image, mask, _ = self._decode_inputs(request)
            edges = _with_size(inpainter, size).predict_edges(image, mask)
        if edges is None:
            raise InputError(f"{request['method']} takes no edges: choose an edge_lbam")
        return {"edges": encode_png(edges)}

    def fill(self, request: Request, stopped: threading.Event | None = None) -> Response:
        """Return the filled image, the time it took in seconds and, if requested, figures of the network.

        Args:
            request: has `method`, `image`, `mask`, `side`; optionally `edges`, which only some methods use,
                `figures`, and, for a stochastic method, the `seed` of a sample.
            stopped: ends the request when set; see `MethodPool.acquire`.
        """
        size, seed = self._parse_size(request), _parse_seed(request)
        with self.methods.acquire(_parse_method(request), stopped) as method:
            inpainter = method if seed is None else method.with_seed(seed)
            image, mask, edges = self._decode_inputs(request)  # here, as no other request has images in memory
            if isinstance(inpainter.network, Biharmonic):
                self._require_small_hole(mask, request["side"])
            used_edges = edges if inpainter.network.takes_edges else None
            start = time.perf_counter()
            unfamiliar: list[str] = []
            filled = _with_size(inpainter, size)(image, mask, used_edges, warn=unfamiliar.append)
            seconds = time.perf_counter() - start
            reduced = _with_size(inpainter, Reduced(self.figure_side_px))
            figures = reduced.draw_figures(image, mask, used_edges) if request.get("figures") is True else {}
        return {
            "model": inpainter.name,
            "seconds": seconds,
            "image": encode_png(filled),
            "takes_edges": inpainter.network.takes_edges,
            "stochastic": inpainter.network.stochastic,
            "used_edges": used_edges is not None,
            "warning": "".join(f"{one}: the result may be poor." for one in unfamiliar),
            "figures": [_encode_figure(name, grid) for name, grid in figures.items()],
        }

    def _decode_inputs(self, request: Request) -> tuple[Image.Image, Image.Image, NDArray[np.float32] | None]:
        image, mask = (decode_image(request.get(name), name, self.limits) for name in ("image", "mask"))
        if request.get("edges") is None:
            return image, mask, None
        edges = decode_image(request["edges"], "edge map", self.limits)
        # As numbers, because a PIL image would be thresholded: predicted edges that were not edited stay grey.
        return image, mask, np.asarray(edges.convert("L"), np.float32) / np.float32(255)

    def _parse_size(self, request: Request) -> SizeStrategy:
        side = request.get("side")
        if side not in self.sides_px or isinstance(side, bool):
            raise InputError(f"unknown working size {side!r}: choose one of {', '.join(map(str, self.sides_px))}")
        return AroundHoles() if side == AUTO else Whole() if side is None else Reduced(side)

    def _require_small_hole(self, mask: Image.Image, side: int | str | None) -> None:
        side_px = CLASSICAL_SIDE_PX if isinstance(side, str) else side
        factor = 1 if side_px is None else min(1, side_px / max(mask.size))
        megapixels = np.count_nonzero(np.asarray(mask.convert("L")) >= 128) * factor**2 / MEGA
        if megapixels > self.limits.hole_megapixels:
            raise InputError(
                f"at this working size the hole has {megapixels:.3g} megapixels, the limit of this method is "
                f"{self.limits.hole_megapixels:g}, as it can't be stopped: choose a smaller working size or hole"
            )


def _describe(image: Image.Image) -> Response:
    preview = encode_preview(Image.fromarray(to_rgb_array(image)))
    return {"height": image.height, "width": image.width, "preview": preview}


def _parse_method(request: Request) -> str:
    if not isinstance(request.get("method"), str):
        raise InputError(f"method must be a string, got {request.get('method')!r:.50}")
    return str(request["method"])


def _parse_seed(request: Request) -> int | None:
    seed = request.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**31):
        raise InputError(f"seed must be an integer from 0 to {2**31 - 1}, got {seed!r:.50}")
    return seed


def _with_size(inpainter: Inpainter, size: SizeStrategy) -> Inpainter:
    is_classical = isinstance(size, AroundHoles) and inpainter.trained_on is None
    return inpainter.with_size(Reduced(CLASSICAL_SIDE_PX) if is_classical else size)


def _encode_figure(name: str, grid: Grid) -> Response:
    """Encode each image of a figure on its own, as the page lays them out, except the input, which it shows already."""
    (row,) = grid.rows
    images = [
        {"title": title, "png": encode_png(Image.fromarray(picture.pixels))}
        for title, picture in zip(grid.columns[1:], row[1:], strict=True)
    ]
    return {"title": name.replace("_", " "), "images": images}
