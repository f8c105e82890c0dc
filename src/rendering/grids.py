"""Image grids: inputs, the composites of each method, and the ground truth side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from src.common.atomic_files import atomic_write
from src.networks.interface import InpaintingNetwork, composite

RGB = NDArray[np.uint8]

READABLE_SIDE_PX = 160
MAX_COLUMNS = 7  # of a comparison sheet; more are hard to compare on a screen
_HATCH_PERIOD_PX = 8
_HATCH_GREYS = (0.62, 0.86)
_GAP_PX, _FONT_PX = 8, 14
_INK, _FAINT_INK, _LINE, _PAPER = (20, 20, 20), (95, 95, 95), (205, 205, 205), (255, 255, 255)


@dataclass(frozen=True)
class FilledSample:
    """One test image with its hole, the composite of every method, and their PSNR; None without a ground truth.

    Shapes:
        image (3, H, W) in [0, 1]; mask (1, H, W), 1 = known, 0 = hole; every composite as image.
    """

    image: Tensor
    mask: Tensor
    composites: Mapping[str, Tensor]
    psnr_db: Mapping[str, float] | None


@dataclass(frozen=True)
class CaptionedImage:
    """Pixels (H, W, 3) and the caption below them."""

    pixels: RGB
    caption: str = ""


@dataclass(frozen=True)
class Grid:
    """Rows of images under common column headings, one image for each column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[CaptionedImage, ...], ...]
    caption: str = ""


def fill_samples(
    networks: Mapping[str, InpaintingNetwork], image: Tensor, mask: Tensor, *, is_truth: bool = True
) -> list[FilledSample]:
    """Fill a batch, as in `InpaintingNetwork.forward`, with every method; there is no PSNR unless `is_truth`."""
    from src.metrics.scores import PSNR  # here, so that drawing without scores does not import torchmetrics

    with torch.inference_mode():
        filled = {method: composite(image, mask, network(image, mask)) for method, network in networks.items()}
    decibels = {method: PSNR(images, image, mask) for method, images in filled.items()}
    return [
        FilledSample(
            image[i], mask[i], {method: images[i] for method, images in filled.items()},
            {method: float(decibels[method][i]) for method in filled} if is_truth else None,
        )
        for i in range(len(image))
    ]  # fmt: skip


def comparison_grid(samples: Sequence[FilledSample], caption: str = "") -> Grid:
    """Return one row per sample, sorted by hole ratio: the input with a hatched hole, composites, truth or image.

    Raises:
        ValueError: there are no samples, or they do not have the same methods, or some have a truth and others not.
    """
    alike = {(tuple(sample.composites), sample.psnr_db is None) for sample in samples}
    if len(alike) != 1:
        raise ValueError("a grid needs samples, all with the same methods in the same order, all with a truth or none")
    ((methods, without_truth),) = alike

    def row(sample: FilledSample) -> tuple[CaptionedImage, ...]:
        # Hatched after enlarging, so that the stripes stay thinner than the enlarged pixels.
        image, mask = enlarge(sample.image), enlarge(sample.mask)
        psnr_db = {method: f"{value:.2f} dB" for method, value in (sample.psnr_db or {}).items()}
        return (
            CaptionedImage(to_rgb(hatch_hole(image, mask)), f"hole {1 - sample.mask.mean().item():.0%}"),
            *(CaptionedImage(to_rgb(enlarge(sample.composites[m])), psnr_db.get(m, "")) for m in methods),
            CaptionedImage(to_rgb(image)),
        )

    ordered = sorted(samples, key=lambda sample: -sample.mask.mean().item())
    last = "image" if without_truth else "truth"
    return Grid(("input", *methods, last), tuple(row(sample) for sample in ordered), caption)


def batch_grid(columns: Mapping[str, Tensor]) -> RGB:
    """Draw a batch as one image (H, W, 3) for loggers: one row per sample, one column per name.

    Shapes:
        each of columns (B, 3, H, W) in [0, 1], all with the same B.
    """
    batches = [[CaptionedImage(to_rgb(enlarge(image))) for image in batch] for batch in columns.values()]
    return np.asarray(draw_grid(Grid(tuple(columns), tuple(zip(*batches, strict=True)))))


def save_grid(grid: Grid, path: Path) -> None:
    """Draw `grid` into a PNG file."""
    with atomic_write(path) as temporary:
        draw_grid(grid).save(temporary, format="PNG", optimize=True)


def save_sheet(grid: Grid, path: Path) -> None:
    """Draw `grid` into a PNG file, each row on several lines if there are more than `MAX_COLUMNS` columns."""
    lines = -(-len(grid.columns) // MAX_COLUMNS)
    if lines == 1:
        save_grid(grid, path)
        return
    per_line = -(-len(grid.columns) // lines)
    spans = [slice(first, first + per_line) for first in range(0, len(grid.columns), per_line)]
    parts = [draw_grid(Grid(grid.columns[span], (row[span],))) for row in grid.rows for span in spans]
    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), _PAPER)
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    with atomic_write(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def draw_grid(grid: Grid) -> Image.Image:
    """Draw the images of `grid` on white with their headings and captions."""
    font = _font(_FONT_PX)
    line_px = round(_FONT_PX * 1.5)
    top_px = line_px + _GAP_PX if grid.caption else 0
    captioned = any(cell.caption for row in grid.rows for cell in row)
    widths = [
        max(*(row[i].pixels.shape[1] for row in grid.rows), round(font.getlength(head)), 1)
        for i, head in enumerate(grid.columns)
    ]
    heights = [max(cell.pixels.shape[0] for cell in row) + (line_px if captioned else 0) for row in grid.rows]
    width_px = max(sum(widths) + _GAP_PX * (len(widths) + 1), round(font.getlength(grid.caption)) + 2 * _GAP_PX)
    height_px = top_px + line_px + sum(heights) + _GAP_PX * (len(heights) + 1)
    canvas = Image.new("RGB", (width_px, height_px), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP_PX, _GAP_PX / 2 + line_px / 2), grid.caption, fill=_INK, font=font, anchor="lm")

    x = _GAP_PX
    for i, head in enumerate(grid.columns):
        draw.text((x + widths[i] / 2, top_px + _GAP_PX / 2 + line_px / 2), head, fill=_INK, font=font, anchor="mm")
        y = top_px + line_px + _GAP_PX
        for row, height in zip(grid.rows, heights, strict=True):
            cell = row[i]
            cell_height, cell_width = cell.pixels.shape[:2]
            left = x + (widths[i] - cell_width) // 2
            # An outline, as masks and feature maps are often as white as the background.
            draw.rectangle((left - 1, y - 1, left + cell_width, y + cell_height), outline=_LINE)
            canvas.paste(Image.fromarray(cell.pixels), (left, y))
            middle = (x + widths[i] / 2, y + cell_height + line_px / 2)
            draw.text(middle, cell.caption, fill=_FAINT_INK, font=font, anchor="mm")
            y += height + _GAP_PX
        x += widths[i] + _GAP_PX
    return canvas


def hatch_hole(image: Tensor, mask: Tensor) -> Tensor:
    """Return the image with its hole under grey stripes, which are rare in photos; the hole's pixels are not read.

    Shapes:
        image (..., 3, H, W) in [0, 1]; mask (..., 1, H, W), 1 = known, 0 = hole. Returns as image.
    """
    height, width = image.shape[-2:]
    diagonal = torch.arange(height, device=image.device)[:, None] + torch.arange(width, device=image.device)
    dark, light = _HATCH_GREYS
    stripes = torch.where(diagonal % _HATCH_PERIOD_PX < _HATCH_PERIOD_PX // 2, dark, light)
    return torch.where(mask > 0, image, stripes.to(image.dtype))


def enlarge(image: Tensor) -> Tensor:
    """Repeat pixels until the longer side is READABLE_SIDE_PX or more; larger images are returned unchanged.

    Interpolation would smooth the method's output or add ringing at the hole's edge.

    Shapes:
        image (C, H, W); returns (C, k H, k W) for the smallest sufficient integer k.
    """
    times = max(1, -(-READABLE_SIDE_PX // max(image.shape[-2:])))
    return image.repeat_interleave(times, dim=-2).repeat_interleave(times, dim=-1)


def to_rgb(image: Tensor) -> RGB:
    """Convert an image (3, H, W) in [0, 1] to 8-bit pixels (H, W, 3); values are clipped, NaN becomes black."""
    levels = image.detach().float().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).cpu().numpy()


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    # Shipped with matplotlib, so text looks the same on every machine; it has more characters than Pillow's own font.
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans", fallback_to_default=False), size_px)
