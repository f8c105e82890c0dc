"""Write graphs as ONNX and torch.export files, and verify that each file computes what the network computes."""

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
from src.exporting.graph import Graph, Size, make_example, record
from src.networks.interface import InpaintingNetwork, composite
from src.networks.layers.canny import Canny
from src.networks.layers.edge_completion import EdgeGuidedNetwork

ONNX, TORCH = "onnx", "torch"
FILES = {ONNX: "model.onnx", TORCH: "model.pt2"}
NEEDS = {ONNX: ("onnx", "onnxruntime", "onnxscript"), TORCH: ()}
"""Packages besides torch that a format needs; the extra `export` installs them."""

METADATA = "about.json"  # inside a .pt2 file; ONNX has metadata of its own

OPSET = 18
"""ONNX operator set: the one torch's exporter writes, supported by onnxruntime >= 1.14."""

TOLERANCE = 1e-3
"""Largest accepted difference between file and network, whose sums differ in order: a quarter of an 8-bit step."""

INSTALL = "pip install -c constraints.txt -e '.[export]'"

RunGraph = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Runs a graph's file on its inputs."""


@dataclass(frozen=True)
class GraphFile:
    """A verified graph file, with its largest absolute difference from the network at inputs of the compared sizes."""

    name: str
    difference: float
    sizes: tuple[tuple[int, int, int], ...]


def require_formats(formats: Sequence[str]) -> None:
    """Raise InputError if a format is unknown or lacks a package."""
    for name in formats:
        if name not in FILES:
            raise InputError(f"formats={name}: unknown format; choose from safetensors, {', '.join(FILES)}")
        if missing := [package for package in NEEDS[name] if find_spec(package) is None]:
            raise InputError(f"formats={name} needs the packages {', '.join(missing)}: {INSTALL}")


@contextmanager
def write_graphs(
    directory: Path,
    formats: Sequence[str],
    network: InpaintingNetwork,
    graph: Graph,
    size: Size,
    metadata: Mapping[str, str],
) -> Iterator[dict[str, GraphFile]]:
    """Write the graph in each format, run each file, and compare its outputs with the network's.

    The files appear in the directory, and files of other formats are deleted, when the block ends without an error.

    Raises:
        InputError: the network can't be recorded or translated, or a file differs from it.
    """
    with ExitStack() as stack:
        files = {}
        programs = [record(graph, size)] * len(formats) if formats else []
        for name, program in zip(formats, programs, strict=True):
            temporary = stack.enter_context(atomic_write(directory / FILES[name]))
            run = SAVERS[name](temporary, program, graph, metadata)
            sizes = verification_sizes(graph.network.stride, size)
            difference = 0.0
            for shape in sizes:
                try:
                    inputs = make_example(graph, *shape)
                    difference = max(difference, largest_difference(network, graph, run, inputs))
                except Exception as error:  # a guard of torch.export, or any exception of onnxruntime
                    at, reason = " x ".join(map(str, shape)), str(error).strip().partition("\n")[0]
                    raise InputError(f"{FILES[name]} failed at {at} and was discarded: {reason}") from error
            if not difference <= TOLERANCE:
                raise InputError(
                    f"{FILES[name]} differs from the network by {difference:.2g}, more than {TOLERANCE:g}, and was "
                    f"discarded: remove {name} from formats="
                )
            files[name] = GraphFile(FILES[name], difference, sizes)
        yield files
    for name in FILES.keys() - files.keys():  # files of an earlier export
        (directory / FILES[name]).unlink(missing_ok=True)


def verification_sizes(stride: int, size: Size) -> tuple[tuple[int, int, int], ...]:
    """Return (batch, height, width) to compare a file at: none that it was recorded at, some below a large stride."""
    if size is not None:
        return (1, *size), (3, *size)
    side = max(stride, 32)
    return (1, side + 5, 2 * side), (2, 2 * side - 3, side + 1), (1, side // 2 + 1, side - 1)


def largest_difference(network: InpaintingNetwork, graph: Graph, run: RunGraph, inputs: tuple[Tensor, ...]) -> float:
    """Return the largest difference between a file's and the network's outputs; infinite for NaN or other shapes."""
    expected, found = reference_outputs(network, graph, *inputs), run(inputs)
    if [t.shape for t in expected] != [t.shape for t in found]:
        return float("inf")
    worst = max(float((e - f).abs().max()) for e, f in zip(expected, found, strict=True))
    return worst if worst == worst else float("inf")


@torch.no_grad()
def reference_outputs(
    network: InpaintingNetwork, graph: Graph, image: Tensor, mask: Tensor, edges: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return what the network itself computes from a graph's inputs, in the order of the graph's outputs."""
    if edges is not None and isinstance(network, EdgeGuidedNetwork) and graph.completes_edges:
        network = copy(network)  # shallow: both share their layers
        network.canny = _FixedEdges(sigma=network.canny.sigma, luma=network.canny.luma, edges=edges)
        edges = None
    output = network(image, mask, edges)
    tensors = {"prediction": output.prediction, "edges_completed": output.edges}
    tensors["composite"] = composite(image, mask, output)
    return tuple(tensors[name] for name in graph.outputs)


@dataclass(frozen=True, kw_only=True)
class _FixedEdges(Canny):
    """Edges detected elsewhere, in place of Canny."""

    edges: Tensor

    def known_edges(self, image: Tensor, mask: Tensor) -> Tensor:
        bottom, right = (padded - own for padded, own in zip(image.shape[-2:], self.edges.shape[-2:], strict=True))
        return F.pad(self.edges, (0, right, 0, bottom), mode="replicate")


def _save_onnx(path: Path, program: ExportedProgram, graph: Graph, metadata: Mapping[str, str]) -> RunGraph:
    import onnxruntime  # type: ignore[import-untyped]  # here, as it needs the extra `export`

    try:
        with _silence_exporters(), torch.no_grad():
            translated = torch.onnx.export(
                program, (), input_names=graph.inputs, output_names=graph.outputs, opset_version=OPSET,
                dynamo=True, verbose=False,
            )  # fmt: skip
    except Exception as error:  # the exporter raises many types, with messages of several pages
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise InputError(f"{type(graph.network).__name__} can't be translated to ONNX: {reason}") from error
    assert translated is not None
    translated.model.metadata_props.update(metadata)
    path.write_bytes(translated.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        arrays = {name: t.numpy() for name, t in zip(graph.inputs, inputs, strict=True)}
        return [torch.from_numpy(t) for t in session.run(list(graph.outputs), arrays)]

    return run


def _save_torch(path: Path, program: ExportedProgram, graph: Graph, metadata: Mapping[str, str]) -> RunGraph:
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={METADATA: json.dumps(dict(metadata))})
    try:
        with path.open("rb") as saved, _silence_exporters():
            module = torch.export.load(saved).module()
    except Exception as error:  # torch.export raises many types
        raise InputError(f"{type(graph.network).__name__} can't be loaded from {FILES[TORCH]}: {error}") from error

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = module(*inputs)
        return outputs

    return run


@contextmanager
def _silence_exporters() -> Iterator[None]:
    """Suppress the exporters' warnings and logs about their own internals."""
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


SAVERS: dict[str, Callable[[Path, ExportedProgram, Graph, Mapping[str, str]], RunGraph]] = {
    ONNX: _save_onnx,
    TORCH: _save_torch,
}
"""Each writes a file, reads it back, and returns a function that runs it."""
