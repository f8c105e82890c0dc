"""Files of graphs: ONNX and torch.export's, written, and kept where they compute what the network computes."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.nn import functional as F

from src.common.atomic_files import atomic_write
from src.common.errors import InputError
from src.exporting.graph import Graph, Size, example, record
from src.networks.edge_lbam import EdgeLBAM
from src.networks.interface import InpaintingNetwork, composite
from src.networks.ops.canny import Canny

ONNX, TORCH = "onnx", "torch"
FILES = {ONNX: "model.onnx", TORCH: "model.pt2"}
NEEDS = {ONNX: ("onnx", "onnxruntime", "onnxscript"), TORCH: ()}
"""Packages that a format needs beside torch: the extra `export`."""

FACTS = "about.json"  # in a .pt2 file; in ONNX they are metadata

OPSET = 18
"""Of ONNX: what torch's exporter translates to, and every onnxruntime since 1.14 knows."""

TOLERANCE = 1e-3
"""The most by which a file may differ from the network, as its sums have another order: a quarter of an 8-bit step."""

INSTALL = "pip install -c constraints.txt -e '.[export]'"

Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Written:
    """A graph's file.

    Attributes:
        difference: the largest to the network, over all outputs of all inputs that were compared.
        sizes: of those inputs, (batch, height, width).
    """

    file: str
    difference: float
    sizes: tuple[tuple[int, int, int], ...]


def require(formats: Sequence[str]) -> None:
    """Refuse formats that nobody knows or that lack a package, before any work.

    Raises:
        InputError: it says which, and what to install.
    """
    for name in formats:
        if name not in FILES:
            raise InputError(f"formats={name}: choose of safetensors, {', '.join(FILES)}")
        if lacking := [package for package in NEEDS[name] if find_spec(package) is None]:
            raise InputError(f"formats={name} needs {', '.join(lacking)}: {INSTALL}")


@contextmanager
def written_graphs(
    folder: Path, formats: Sequence[str], network: InpaintingNetwork, graph: Graph, size: Size, facts: Mapping[str, str]
) -> Iterator[dict[str, Written]]:
    """Write the graph in every format, run each file, and compare what it returns with the network.

    They take their places, and files of other formats go, when the block ends well.

    Args:
        network: that the graph is of.
        facts: kept in the files.
    Yields:
        By format, what was written.
    Raises:
        InputError: the network can't be recorded or translated; a file would compute something else, and isn't kept.
    """
    with ExitStack() as stack:
        written = {}
        programs = [record(graph, size)] * len(formats) if formats else []
        for name, program in zip(formats, programs, strict=True):
            temporary = stack.enter_context(atomic_write(folder / FILES[name]))
            run = SAVERS[name](temporary, program, graph, facts)
            sizes = compared_sizes(graph.network.stride, size)
            difference = max(_difference_at(shape, name, network, graph, run) for shape in sizes)
            if not difference <= TOLERANCE:
                raise InputError(
                    f"{FILES[name]} would differ from the network by {difference:.2g}, more than {TOLERANCE:g}: "
                    f"it is not written. Leave {name} out of formats="
                )
            written[name] = Written(FILES[name], difference, sizes)
        yield written
    for name in FILES.keys() - written.keys():  # of another network
        (folder / FILES[name]).unlink(missing_ok=True)


def compared_sizes(stride: int, size: Size) -> tuple[tuple[int, int, int], ...]:
    """Batches, heights and widths to compare a file at: others than it was recorded at, some below a large stride."""
    if size is not None:
        return (1, *size), (3, *size)
    side = max(stride, 32)
    return (1, side + 5, 2 * side), (2, 2 * side - 3, side + 1), (1, side // 2 + 1, side - 1)


def _difference_at(shape: tuple[int, int, int], name: str, network: InpaintingNetwork, graph: Graph, run: Run) -> float:
    try:
        return largest_difference(network, graph, run, example(graph, *shape))
    except Exception as error:  # a guard of torch.export, or whatever onnxruntime has to say
        at, reason = " x ".join(str(n) for n in shape), str(error).strip().partition("\n")[0]
        raise InputError(f"{FILES[name]} would not run at {at}: {reason}; it is not written") from error


def largest_difference(network: InpaintingNetwork, graph: Graph, run: Run, inputs: tuple[Tensor, ...]) -> float:
    """Between what a file returns and what the network does; infinite where shapes differ or it is no number."""
    expected, found = reference(network, graph, *inputs), run(inputs)
    if [t.shape for t in expected] != [t.shape for t in found]:
        return float("inf")
    worst = max(float((e - f).abs().max()) for e, f in zip(expected, found, strict=True))
    return worst if worst == worst else float("inf")


@torch.no_grad()
def reference(
    network: InpaintingNetwork, graph: Graph, image: Tensor, mask: Tensor, edges: Tensor | None = None
) -> tuple[Tensor, ...]:
    """What the network itself makes of a graph's inputs, in the order of the graph's outputs."""
    if edges is not None and isinstance(network, EdgeLBAM) and graph.completes_edges:
        network, edges = _knowing(network, edges), None
    output = network(image, mask, edges)
    made = {
        "composite": composite(image, mask, output),
        "prediction": output.prediction,
        "edges_completed": output.edges,
    }
    return tuple(made[name] for name in graph.outputs)


@dataclass(frozen=True, kw_only=True)
class _Known(Canny):
    """Edges that somebody else has found, in Canny's place."""

    edges: Tensor

    def known_edges(self, image: Tensor, mask: Tensor) -> Tensor:
        bottom, right = (seen - own for seen, own in zip(image.shape[-2:], self.edges.shape[-2:], strict=True))
        return F.pad(self.edges, (0, right, 0, bottom), mode="replicate")


def _knowing(network: EdgeLBAM, edges: Tensor) -> EdgeLBAM:
    network = copy(network)  # its layers stay the same ones
    network.canny = _Known(sigma=network.canny.sigma, luma=network.canny.luma, edges=edges)
    return network


def _save_onnx(path: Path, program: ExportedProgram, graph: Graph, facts: Mapping[str, str]) -> Run:
    import onnxruntime  # type: ignore[import-untyped]  # here, as it is of the extra `export`

    try:
        with _quiet(), torch.no_grad():
            translated = torch.onnx.export(
                program, (), input_names=graph.inputs, output_names=graph.outputs, opset_version=OPSET,
                dynamo=True, verbose=False,
            )  # fmt: skip
    except Exception as error:  # of the exporter's many kinds, whose texts fill pages
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise InputError(f"{type(graph.network).__name__} can't be translated to ONNX: {reason}") from error
    assert translated is not None
    translated.model.metadata_props.update(facts)
    path.write_bytes(translated.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        given = {name: t.numpy() for name, t in zip(graph.inputs, inputs, strict=True)}
        return [torch.from_numpy(t) for t in session.run(list(graph.outputs), given)]

    return run


def _save_torch(path: Path, program: ExportedProgram, graph: Graph, facts: Mapping[str, str]) -> Run:
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={FACTS: json.dumps(dict(facts))})
    try:
        with path.open("rb") as written, _quiet():
            module = torch.export.load(written).module()
    except Exception as error:  # of torch.export's many kinds
        raise InputError(f"{type(graph.network).__name__} can't be read again from {FILES[TORCH]}: {error}") from error

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():
            found: tuple[Tensor, ...] = module(*inputs)
        return found

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of their own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


SAVERS: dict[str, Callable[[Path, ExportedProgram, Graph, Mapping[str, str]], Run]] = {
    ONNX: _save_onnx,
    TORCH: _save_torch,
}
"""Each writes a file, reads it back, and returns what runs it."""
