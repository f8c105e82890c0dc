"""A network as one graph with named inputs and outputs, recorded by torch.export."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic
from torch.nn.utils import parametrize

from src.common.errors import InputError
from src.networks.edge_lbam import EdgeCompletion
from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite
from src.networks.layers.edge_completion import EdgeGuidedNetwork

LARGEST_BATCH, LARGEST_SIDE_PX = 4096, 16384  # of a graph for any size

Size = tuple[int, int] | None
"""Height and width of a graph's inputs in px; None for any."""


class Graph(nn.Module):
    """A network as a module that takes tensors and returns a tuple of tensors.

    The graph includes padding, cropping and pasting: known pixels are returned unchanged, and pixels in the hole are
    not read. It does not include Canny, which runs in scikit-image: edges are an input.

    Args:
        network: copied.
        edges_given: whether the input `edges` holds the whole image's edges, used unchanged, instead of the known
            pixels' edges, which the network completes.
    Attributes:
        inputs: names. image (B, 3, H, W) in [0, 1]; mask (B, 1, H, W), 1 = known, 0 = hole; edges (B, 1, H, W), 1 on
            an edge, else 0.
        outputs: names. composite, prediction (B, 3, H, W) and edges_completed (B, 1, H, W), all in [0, 1].
    Raises:
        InputError: `edges_given` with a network that takes no edges or only completes them.
    """

    def __init__(self, network: InpaintingNetwork, *, edges_given: bool = False) -> None:
        super().__init__()
        if edges_given and (not network.takes_edges or isinstance(network, EdgeCompletion)):
            raise InputError(
                f"edges=given needs a network that inpaints along edges, and {type(network).__name__} does not: use "
                "edges=known"
            )
        self.network, self.edges_given = _plain(network), edges_given
        self.inputs = ("image", "mask", "edges") if network.takes_edges else ("image", "mask")
        self.outputs: tuple[str, ...] = ("composite", "prediction")
        if self.completes_edges:
            self.outputs = (*(() if isinstance(network, EdgeCompletion) else self.outputs), "edges_completed")

    @property
    def completes_edges(self) -> bool:
        """Whether the input `edges` holds the known pixels' edges only, and the graph completes them in the hole."""
        return isinstance(self.network, EdgeGuidedNetwork | EdgeCompletion) and not self.edges_given

    def forward(self, image: Tensor, mask: Tensor, edges: Tensor | None = None) -> tuple[Tensor, ...]:
        """Inpaint; shapes as in the class."""
        own = [torch.arange(side, device=image.device) for side in image.shape[-2:]]
        padded = [_pad_positions(positions, self.network.stride) for positions in own]
        known_image = torch.where(mask > 0, image, 0.0)
        inputs = _select(known_image, padded), _select(mask, padded)
        padded_edges = None if edges is None else _select(edges, padded)
        if isinstance(self.network, EdgeGuidedNetwork) and padded_edges is not None and not self.edges_given:
            output = self.network.inpaint_from_known(*inputs, padded_edges)
        else:
            output = self.network.inpaint(*inputs, padded_edges)
        tensors = {"prediction": output.prediction, "edges_completed": output.edges}
        cropped = {name: _select(t, own) for name, t in tensors.items() if name in self.outputs and t is not None}
        if "composite" in self.outputs:
            cropped["composite"] = composite(image, mask, InpaintingOutput(cropped["prediction"]))
        return tuple(cropped[name] for name in self.outputs)


def _pad_positions(positions: Tensor, stride: int) -> Tensor:
    """Repeat the last of the positions 0 .. n - 1 up to a multiple of `stride`: `pad_to_multiple` for a symbolic n."""
    count = positions.shape[0]
    return torch.arange((count + stride - 1) // stride * stride, device=positions.device).clamp(max=count - 1)


def _select(t: Tensor, rows_and_columns: list[Tensor]) -> Tensor:
    rows, columns = rows_and_columns
    return t.index_select(-2, rows).index_select(-1, columns)


def _plain(network: InpaintingNetwork) -> InpaintingNetwork:
    """Return a copy in eval mode on the CPU, in float32, with contiguous filters and no parametrisations."""
    copy = deepcopy(network).eval().requires_grad_(False).cpu().float()
    for layer in list(copy.modules()):
        if not parametrize.is_parametrized(layer):
            continue
        # Not parametrize.remove_parametrizations: it changes the class, which the network's own layer shares.
        filters = {name: getattr(layer, name).detach() for name in layer.parametrizations}  # type: ignore[union-attr]
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        del layer.parametrizations
        for name, values in filters.items():
            layer.register_parameter(name, nn.Parameter(values, requires_grad=False))
    return copy.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def make_example(graph: Graph, batch: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Return random inputs: noise with NaN in a hole that differs between samples, and random edges."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, height, width, generator=generator)
    mask = torch.ones(batch, 1, height, width)
    for n, sample in enumerate(mask):
        sample[:, height // 4 : height // 2 + 1 + n, width // (3 + n) : width // 2 + 2] = 0
    edges = (torch.rand(batch, 1, height, width, generator=generator) > 0.8).float() * mask
    image = torch.where(mask > 0, image, torch.nan)
    return (image, mask, edges)[: len(graph.inputs)]


def record(graph: Graph, size: Size) -> ExportedProgram:
    """Record the graph with torch.export for any batch size, and for one image size or any; InputError if it can't."""
    batch = Dim("batch", min=1, max=LARGEST_BATCH)
    sides: dict[int, Any] = {} if size else {
        n: Dim(name, min=1, max=LARGEST_SIDE_PX) for n, name in ((2, "height"), (3, "width"))
    }  # fmt: skip
    # Neither multiples of a stride nor equal: torch.export would take either property as a condition on all inputs.
    inputs = make_example(graph, 2, *(size or (graph.network.stride + 13, graph.network.stride * 2 + 29)))
    shapes = {name: {0: batch, **sides} for name in graph.inputs}
    try:
        # Without the patch the graph rejects feature maps with one row, which small images have at the deepest level.
        with torch.no_grad(), symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            return torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export raises many types, RuntimeError among them
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        more = "" if size else "; try one size: size=256 or size=[192,256]"
        raise InputError(f"{type(graph.network).__name__} can't be recorded by torch.export: {reason}{more}") from error
