"""A network as one graph: what goes into it and comes out, and how torch.export records it."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic
from torch.nn.utils import parametrize

from src.common.errors import InputError
from src.networks.edge_lbam import EdgeCompletion, EdgeLBAM
from src.networks.interface import InpaintingNetwork, InpaintingOutput, composite

LARGEST_BATCH, LARGEST_SIDE_PX = 4096, 16384  # that a graph of any size takes

Size = tuple[int, int] | None
"""Height and width, in px, that a graph is made for; None for any."""


class Graph(nn.Module):
    """A network without Python around it: tensors in, a tuple of tensors out.

    Padding, cropping and pasting are in the graph: the known pixels come back as they were, and those of the hole are
    not read. Canny, which is scikit-image's, is not: a network that looks for edges is given them.

    Args:
        network: it is copied, its spectral norms computed once and for all.
        given: whether `edges` are those of the whole picture, taken as they are; else those of the known pixels, which
            the network completes.
    Attributes:
        inputs, outputs: their names. image (B, 3, H, W) in [0, 1]; mask (B, 1, H, W), 1 = known, 0 = hole; edges
            (B, 1, H, W), 1 on an edge, else 0. composite, prediction (B, 3, H, W) and edges_completed (B, 1, H, W) in
            [0, 1].
    Raises:
        InputError: `given`, and the network takes no edges or only completes them.
    """

    def __init__(self, network: InpaintingNetwork, *, given: bool = False) -> None:
        super().__init__()
        if given and (not network.takes_edges or isinstance(network, EdgeCompletion)):
            raise InputError(f"edges=given is for networks that fill along edges, as {type(network).__name__} does not")
        self.network, self.given = _plain(network), given
        self.inputs = ("image", "mask", "edges") if network.takes_edges else ("image", "mask")
        self.outputs: tuple[str, ...] = ("composite", "prediction")
        if isinstance(network, EdgeCompletion):
            self.outputs = ("edges_completed",)
        elif self.completes_edges:
            self.outputs = (*self.outputs, "edges_completed")

    @property
    def completes_edges(self) -> bool:
        """Whether `edges` are those of the known pixels, and the graph finds the hole's."""
        return isinstance(self.network, EdgeLBAM | EdgeCompletion) and not self.given

    def forward(self, image: Tensor, mask: Tensor, edges: Tensor | None = None) -> tuple[Tensor, ...]:
        """Fill the hole; shapes as in the class."""
        kept = [torch.arange(side, device=image.device) for side in image.shape[-2:]]
        spread = [_to_multiple(positions, self.network.stride) for positions in kept]
        emptied = torch.where(mask > 0, image, 0.0)
        output = self._fill(
            _picked(emptied, spread), _picked(mask, spread), None if edges is None else _picked(edges, spread)
        )
        made = {"prediction": output.prediction, "edges_completed": output.edges}
        found = {name: _picked(t, kept) for name, t in made.items() if name in self.outputs and t is not None}
        if "composite" in self.outputs:
            found["composite"] = composite(image, mask, InpaintingOutput(found["prediction"]))
        return tuple(found[name] for name in self.outputs)

    def _fill(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        if isinstance(self.network, EdgeLBAM) and not self.given and edges is not None:
            return self.network.inpaint_from_known(image, mask, edges)
        return self.network.inpaint(image, mask, edges)


def _to_multiple(positions: Tensor, stride: int) -> Tensor:
    """0 .. n - 1, and n - 1 again until `stride` divides how many there are: `pad_to_multiple` for any n at once."""
    count = positions.shape[0]
    return torch.arange((count + stride - 1) // stride * stride, device=positions.device).clamp(max=count - 1)


def _picked(t: Tensor, rows_and_columns: list[Tensor]) -> Tensor:
    rows, columns = rows_and_columns
    return t.index_select(-2, rows).index_select(-1, columns)


def _plain(network: InpaintingNetwork) -> InpaintingNetwork:
    """A copy in eval mode, on the CPU in float32, with plain filters that lie as the exporters expect."""
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


def example(graph: Graph, batch: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Inputs drawn by chance: noise, a hole of several shapes whose pixels are no numbers, and lines for edges."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, height, width, generator=generator)
    mask = torch.ones(batch, 1, height, width)
    for n, one in enumerate(mask):
        one[:, height // 4 : height // 2 + 1 + n, width // (3 + n) : width // 2 + 2] = 0
    edges = (torch.rand(batch, 1, height, width, generator=generator) > 0.8).float() * mask
    image = torch.where(mask > 0, image, torch.nan)
    return (image, mask, edges)[: len(graph.inputs)]


def record(graph: Graph, size: Size) -> ExportedProgram:
    """The graph as torch.export records it, for any batch and for one size or any.

    Raises:
        InputError: the network can't be recorded.
    """
    batch = Dim("batch", min=1, max=LARGEST_BATCH)
    sides: dict[int, Any] = {} if size else {
        n: Dim(name, min=1, max=LARGEST_SIDE_PX) for n, name in ((2, "height"), (3, "width"))
    }  # fmt: skip
    # of no multiple of any stride, and not alike, as sizes that happen to be so are taken to be so always
    inputs = example(graph, 2, *(size or (graph.network.stride + 13, graph.network.stride * 2 + 29)))
    shapes = {name: {0: batch, **sides} for name in graph.inputs}
    try:
        # else no map may ever have a single row, which a small picture's deepest has
        with torch.no_grad(), symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            return torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export's own errors are of many kinds, and plain RuntimeErrors
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        more = "" if size else "; size=256 or size=[192,256] records it for one size"
        raise InputError(f"{type(graph.network).__name__} can't be recorded by torch.export: {reason}{more}") from error
