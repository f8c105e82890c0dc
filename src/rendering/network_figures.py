"""Figures of a network's internals as in the papers: masks, features, edges, attention, coarse and refined results."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite
from src.networks.layers.attention_scores import attention_offsets
from src.networks.layers.canny import Canny
from src.networks.layers.coarse_to_fine import pad_to_multiple
from src.rendering.grids import CaptionedImage, Grid, enlarge, hatch_hole, to_rgb

Columns = dict[str, Tensor]
"""Images (B or 1, 1 or 3, h, w) in [0, 1], of any size, by column heading."""

FIGURES = ("updated_masks", "attention_maps", "features", "edges", "attention", "stages")
"""Names of the figures of `draw_internals`; each network has some of them."""

LEVELS_SHOWN = 3
HALLUCINATED = (0.85, 0.1, 0.1)
"""The red of Edge-LBAM, Fig. 9."""

DIMMED = 0.35
"""Brightness factor of pixels that no hole pixel attends to."""


def draw_internals(
    network: InpaintingNetwork, image: Tensor, mask: Tensor, edges: Tensor | None = None
) -> dict[str, Grid]:
    """Run `network` and draw its internals: one grid per figure that it has, by name, with one row per sample.

    attention_maps (LBAM, Fig. 8), updated_masks (Edge-LBAM, Fig. 13; for PConv the encoder's and the decoder's): the
        first three forward and the last three reverse layers, normalised to [0, 1], then the maximum over channels.
    features: the first encoder layer and the last decoder layer before the image (LBAM, Fig. 7): the mean absolute
        value over channels, normalised.
    edges: Canny edges of the known pixels in black, predicted or input edges in the hole in red (Edge-LBAM, Fig. 9).
    attention: the direction from each hole cell to the patch it attends to, as a colour (Yu et al., CVPR 2018, Fig. 4:
        white is no offset, pink the bottom left, green the top right), and the attended patches (Fig. 15).
    stages: the coarse and the refined result (MPGA/GLA, Fig. 6).

    Shapes:
        image, mask, edges as in `InpaintingNetwork.forward`.
    """
    size = image.shape[-2:]
    # Maps have the padded size, so everything is drawn at that size and cropped at the end.
    image, mask = (pad_to_multiple(t, network.stride) for t in (image, mask))
    edges = None if edges is None else pad_to_multiple(edges, network.stride)
    with torch.inference_mode():
        output = network(image, mask, edges, maps=True)
    maps, shown_edges = output.maps, output.edges if edges is None or not network.takes_edges else edges
    masks = _by_level(maps, "forward_mask", "reverse_mask") or _by_level(maps, "encoder", "decoder")
    columns = {
        "attention_maps": _by_level(maps, "forward", "reverse"),
        "updated_masks": masks,
        "features": _features(maps),
        "edges": {} if shown_edges is None else _edges(shown_edges, image, mask, network.canny),
        "attention": _attention(output, image, mask),
        "stages": {} if output.coarse is None else {
            "coarse": composite(image, mask, InpaintingOutput(output.coarse)),
            "refined": composite(image, mask, output),
            "image": image,
        },
    }  # fmt: skip
    return {name: _grid(image, mask, shown, size) for name, shown in columns.items() if shown}


def _by_level(maps: Mapping[str, Tensor], down: str, up: str) -> Columns:
    names = [f"{down}_{level}" for level in range(1, LEVELS_SHOWN + 1)]
    names += [f"{up}_{level}" for level in range(LEVELS_SHOWN, 0, -1)]
    return {
        name.replace("_mask", "").replace("_", " "): _normalised(maps[name]).amax(1, keepdim=True)
        for name in names
        if name in maps
    }


def _features(maps: Mapping[str, Tensor]) -> Columns:
    return {
        f"{side} features": _normalised(maps[f"{side}_feature_1"].abs().mean(1, keepdim=True))
        for side in ("encoder", "decoder")
        if f"{side}_feature_1" in maps
    }


def _edges(edges: Tensor, image: Tensor, mask: Tensor, canny: Canny) -> Columns:
    red = torch.tensor(HALLUCINATED, device=image.device).view(3, 1, 1)
    hallucinated = torch.where(mask > 0, 0.0, edges)
    return {
        "Canny edges of the whole image": 1 - canny.known_edges(image, torch.ones_like(mask)),
        "known edges and edges in the hole": (1 - canny.known_edges(image, mask)) * (1 - hallucinated * (1 - red)),
    }


def _attention(output: InpaintingOutput, image: Tensor, mask: Tensor) -> Columns:
    size = image.shape[-2:]

    def coloured(offsets: Tensor) -> Tensor:
        colours = torch.stack([_flow_colours(one) for one in offsets])
        return torch.where(mask > 0, 1.0, F.interpolate(colours, size=size, mode="nearest"))

    if "flow" in output.maps:
        return {"attention direction": coloured(output.maps["flow"]), "result": composite(image, mask, output)}
    if "attention" not in output.maps:
        return {}
    attention = output.maps["attention"]
    height, width = attention.shape[-2:]
    stride = round((height * width / attention.shape[1]) ** 0.5)
    patches = (-(-height // stride), -(-width // stride))
    # the number of hole cells that attend most to each background patch
    hole = F.adaptive_max_pool2d(1 - mask, (height, width))
    taken = attention.new_zeros(len(attention), attention.shape[1])
    taken.scatter_add_(1, attention.argmax(1).flatten(1), hole.flatten(1))
    spotlight = F.interpolate((taken > 0).float().view(-1, 1, *patches), size=size, mode="nearest")
    return {
        "attention direction": coloured(attention_offsets(attention, patches, stride)),
        "attended patches": image * mask * (DIMMED + (1 - DIMMED) * spotlight),
        "result": composite(image, mask, output),
    }


def _flow_colours(offset: Tensor) -> Tensor:
    """Convert offsets in cells (2, h, w), down and right, to colours (3, h, w) in [0, 1]; the longest has full colour.

    The paper's colours are those of Middlebury's flow wheel with down and right swapped.
    """
    from torchvision.utils import flow_to_image  # here, as importing torchvision is slow

    coloured: Tensor = flow_to_image(offset.float().cpu())
    return coloured.to(offset.device).float() / 255


def _normalised(maps: Tensor) -> Tensor:
    """Scale the values of each sample to [0, 1]; constant maps are unchanged, as a mask may be 1 everywhere."""
    flat = maps.float().flatten(1)
    low, high = (t.view(-1, 1, 1, 1) for t in (flat.amin(1), flat.amax(1)))
    return torch.where(high > low, (maps.float() - low) / torch.where(high > low, high - low, 1.0), maps.float())


def _grid(image: Tensor, mask: Tensor, columns: Columns, size: torch.Size) -> Grid:
    """Return the input with a hatched hole and the columns at the image size, cropped to `size`."""

    def shown(column: Tensor) -> Tensor:
        whole = F.interpolate(column.float(), size=image.shape[-2:], mode="nearest")
        return whole.expand(len(image), 3, -1, -1)[..., : size[0], : size[1]]

    cells = [[CaptionedImage(to_rgb(enlarge(one))) for one in shown(column)] for column in columns.values()]
    inputs = [
        CaptionedImage(to_rgb(hatch_hole(enlarge(one), enlarge(known))))
        for one, known in zip(shown(image), shown(mask)[:, :1], strict=True)
    ]
    return Grid(("input", *columns), tuple(zip(inputs, *cells, strict=True)))
