"""What a network did inside, drawn as the papers draw it: masks, features, edges, attention, coarse beside refined."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import flow_to_image

from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite
from src.networks.layers.canny import known_edges
from src.networks.layers.contextual_attention import attention_offsets
from src.reporting.pictures import Grid, Picture, enlarge, hatch_hole, to_rgb

LEVELS_SHOWN = 3
HALLUCINATED = (0.85, 0.1, 0.1)
"""The red of Edge-LBAM, Fig. 9."""

DIMMED = 0.25
"""What is left of the brightness of pixels that no hole pixel attends to."""


def inner_figures(
    network: InpaintingNetwork, image: Tensor, mask: Tensor, edges: Tensor | None = None
) -> dict[str, Grid]:
    """Run `network` and draw what it shows of itself, by name; a row a sample, only what it has.

    masks: attention maps (LBAM, Fig. 8) and updated masks (Edge-LBAM, Fig. 13) of the first three forward and the last
        three reverse layers, or of a partial convolution's encoder and decoder; each normalised to [0, 1], then the
        maximum over channels.
    features: of the first encoder layer and the last decoder layer before the image (LBAM, Fig. 7): the mean size over
        channels, normalised.
    edges: the known pixels' Canny edges in black, predicted ones in red (Edge-LBAM, Fig. 9).
    attention: where each hole cell looks, as a colour for the direction (Yu et al., CVPR 2018, Fig. 4: white itself,
        pink to the bottom left, green to the top right), and the parts of the picture most looked at (Fig. 15).
    stages: the coarse result beside the refined one (MPGA/GLA, Fig. 6).

    Shapes:
        image, mask, edges as in `InpaintingNetwork.forward`.
    """
    with torch.inference_mode():
        output = network(image, mask, edges, maps=True)
    drawn = {
        "masks": _masks(output.maps, image, mask),
        "features": _features(output.maps, image, mask),
        "edges": _edges(output, image, mask),
        "attention": _attention(output, image, mask),
        "stages": _stages(output, image, mask),
    }
    return {name: grid for name, grid in drawn.items() if grid is not None}


def _masks(maps: Mapping[str, Tensor], image: Tensor, mask: Tensor) -> Grid | None:
    kinds = {
        "attention maps": ("forward", "reverse"),
        "updated masks": ("forward_mask", "reverse_mask"),
        "masks": ("encoder", "decoder"),
    }
    columns: dict[str, Tensor] = {}
    for kind, (down, up) in kinds.items():
        names = [f"{down}_{level}" for level in range(1, LEVELS_SHOWN + 1)]
        names += [f"{up}_{level}" for level in range(LEVELS_SHOWN, 0, -1)]
        columns |= {
            f"{name.replace('_mask_', ' ').replace('_', ' ')}, {kind}": _normalised(maps[name]).amax(1, keepdim=True)
            for name in names
            if name in maps
        }
    return _grid(image, mask, columns) if columns else None


def _features(maps: Mapping[str, Tensor], image: Tensor, mask: Tensor) -> Grid | None:
    columns = {
        f"{side} features": _normalised(maps[f"{side}_feature_1"].abs().mean(1, keepdim=True))
        for side in ("encoder", "decoder")
        if f"{side}_feature_1" in maps
    }
    return _grid(image, mask, columns) if columns else None


def _edges(output: InpaintingOutput, image: Tensor, mask: Tensor) -> Grid | None:
    if output.edges is None:
        return None
    red = torch.tensor(HALLUCINATED, device=image.device).view(3, 1, 1)
    whole = known_edges(image, torch.ones_like(mask))
    hallucinated = torch.where(mask > 0, 0.0, output.edges)
    known = known_edges(image, mask)
    drawn = (1 - known) * (1 - hallucinated * (1 - red))
    return _grid(image, mask, {"Canny edges of the truth": 1 - whole, "known and predicted edges": drawn})


def _attention(output: InpaintingOutput, image: Tensor, mask: Tensor) -> Grid | None:
    if "attention" not in output.maps:
        return None
    attention = output.maps["attention"]
    cells = (attention.shape[-2], attention.shape[-1])
    offsets = attention_offsets(attention, cells)
    flow = torch.stack([_flow_colours(one) for one in offsets])
    hole = F.adaptive_max_pool2d(1 - mask, cells)
    # how often each background cell is the one that a hole cell attends to most
    looked_at = torch.zeros(len(attention), cells[0] * cells[1], device=image.device)
    looked_at.scatter_add_(1, attention.argmax(1).flatten(1), hole.flatten(1))
    attended = (looked_at > 0).float().view(-1, 1, *cells)
    size = image.shape[-2:]
    spotlight = F.interpolate(attended, size=size, mode="nearest") * mask
    columns = {
        "where it looks": torch.where(mask > 0, 1.0, F.interpolate(flow, size=size, mode="nearest")),
        "what it looks at": image * mask * (DIMMED + (1 - DIMMED) * spotlight),
        "result": composite(image, mask, output),
    }
    return _grid(image, mask, columns)


def _flow_colours(offset: Tensor) -> Tensor:
    """(2, h, w) cells, down and right, to (3, h, w) in [0, 1]; (down, right) in the place of (right, down) gives the
    paper's colours."""
    coloured: Tensor = flow_to_image(offset.float().cpu())
    return coloured.to(offset.device).float() / 255


def _stages(output: InpaintingOutput, image: Tensor, mask: Tensor) -> Grid | None:
    if output.coarse is None:
        return None
    coarse = composite(image, mask, InpaintingOutput(output.coarse))
    return _grid(image, mask, {"coarse": coarse, "refined": composite(image, mask, output), "truth": image})


def _normalised(maps: Tensor) -> Tensor:
    """Each sample's smallest value to 0 and its largest to 1; a constant map to 0."""
    flat = maps.float().flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    span = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    return (maps.float() - low.view(-1, 1, 1, 1)) / span.view(-1, 1, 1, 1)


def _grid(image: Tensor, mask: Tensor, columns: Mapping[str, Tensor]) -> Grid:
    """The input and the columns, each (B or 1, 1 or 3, h, w), brought to the picture's size by repeating."""
    size = image.shape[-2:]

    def shown(picture: Tensor) -> Picture:
        return Picture(to_rgb(enlarge(picture.expand(3, -1, -1))))

    sized = [
        F.interpolate(column, size=size, mode="nearest").expand(len(image), -1, -1, -1) for column in columns.values()
    ]
    rows = tuple(
        (
            Picture(to_rgb(hatch_hole(enlarge(image[i]), enlarge(mask[i])))),
            *(shown(column[i]) for column in sized),
        )
        for i in range(len(image))
    )
    return Grid(("input", *columns), rows)
