"""Model card of an exported network: description, origin and usage, for readers and for the Hub."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from src.exporting.formats import OPSET, GraphFile
from src.exporting.graph import LARGEST_BATCH, LARGEST_SIDE_PX, Graph, Size
from src.networks.contextual_attention import CoarseToFine
from src.networks.edge_lbam import EdgeCompletion
from src.networks.interface import InpaintingNetwork
from src.networks.layers.canny import HIGH_THRESHOLD, LOW_THRESHOLD
from src.networks.mpga_gla import MPGAGLA

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
_TEMPLATES = Environment(  # Markdown: nothing is escaped
    loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class WeightsOrigin:
    """Origin of a network's weights.

    Attributes:
        config: of the training run.
        code: revision of the suite at export; checkpoints do not hold the revision they were trained with.
        psnr: best validation PSNR of the run in dB; None if unknown.
        scores: Markdown table of an evaluation, or an empty string.
        command: command line of the training run, or an empty string.
    """

    config: Mapping[str, Any]
    step: int
    sha256: str
    code: str
    psnr: float | None = None
    scores: str = ""
    command: str = ""

    @property
    def model(self) -> str:
        """Name of the model in conf/model."""
        return str(self.config["model"].get("name") or "unnamed")

    @property
    def release(self) -> str | None:
        """Name of the imported release; None for weights trained with this suite."""
        return self.config.get("release")

    def part_name(self, part: str) -> str:
        """Return the name of the run's `data` or `mask`."""
        entry = self.config.get(part)
        return str(entry.get("name", "unknown")) if isinstance(entry, Mapping) else "unknown"

    def training(self) -> dict[str, Any]:
        """Return the training facts that the config holds, without paths."""
        config, scale = self.config, self.config.get("scale") or {}
        known: dict[str, Any] = {"generator steps": self.step}
        if self.release is None:
            batch = f"{config['batch_size']} x {config.get('accumulate', 1)}" if "batch_size" in config else "unknown"
            known |= {
                "data": self.part_name("data"),
                "masks": self.part_name("mask"),
                "image size, px": scale.get("image_size", "unknown"),
                "samples per step (batch size x accumulated batches)": batch,
                "seed": config.get("seed", "unknown"),
                "scale": scale.get("name", "unknown"),
            }
        return known | {"checkpoint's SHA-256": f"`{self.sha256}`", "exported by the suite's revision": self.code}


def model_card(
    network: InpaintingNetwork,
    graph: Graph,
    size: Size,
    files: Mapping[str, GraphFile],
    origin: WeightsOrigin,
    license: str,
) -> str:
    """Render the card as Markdown; `size` is the input size of the graphs, `files` are the graphs by format."""
    compared = next(iter(files.values())).sizes if files else ()
    return _TEMPLATES.get_template("model_card.md.jinja").render(
        about=yaml.safe_dump(_front_matter(files, origin, license), sort_keys=False, allow_unicode=True).strip(),
        model=origin.model,
        summary=_summary(network, origin),
        release=origin.release,
        files=files,
        inputs=graph.inputs,
        outputs=graph.outputs,
        completes_edges=graph.completes_edges,
        canny=network.canny,
        low=LOW_THRESHOLD,
        high=HIGH_THRESHOLD,
        opset=OPSET,
        torch=torch.__version__,
        sizes=describe_sizes(size),
        compared=", ".join(" x ".join(str(n) for n in shape) for shape in compared),
        training=origin.training(),
        command=origin.command,
        data=origin.part_name("data"),
        psnr=origin.psnr,
        scores=origin.scores,
        limits=_limits(network, graph, bool(files)),
        citation=read_citation(origin.model),
    )


def describe_sizes(size: Size) -> str:
    """Describe the input sizes of graphs in a sentence."""
    batch = f"The graphs take batches of 1 to {LARGEST_BATCH:,} images"
    if size is None:
        return f"{batch} of any height and width up to {LARGEST_SIDE_PX:,} px."
    return f"{batch} of exactly {size[0]} x {size[1]} px (height x width)."


def read_citation(model: str) -> str | None:
    """Return the BibTeX entry of a model's paper; None for a model of the user's own or without a checkout."""
    name = re.sub(r"(_pt|_plus|_edges|_release|_printed)+$", "", model)
    files = {file.parent.name: file for file in EXPERIMENTS.glob("*/paper.bib")}
    file = files.get("edge_lbam" if name == "mecnet" else name)
    return None if file is None else file.read_text(encoding="utf-8").strip()


def _front_matter(files: Mapping[str, GraphFile], origin: WeightsOrigin, license: str) -> dict[str, Any]:
    about: dict[str, Any] = {
        "license": license,
        **({"license_name": "not-specified"} if license == "other" else {}),  # the Hub requires a name for "other"
        "library_name": "inpainting-suite",
        "pipeline_tag": "image-to-image",
        "tags": ["image-inpainting", origin.model, *("torch.export" if name == "torch" else name for name in files)],
    }
    if origin.psnr is not None:
        data = origin.part_name("data")
        result = {
            "task": {"type": "image-to-image", "name": "Image inpainting"},
            "dataset": {"type": data, "name": f"{data}, validation"},
            "metrics": [{"type": "psnr", "value": round(origin.psnr, 4), "name": "PSNR of the composite, dB"}],
        }
        about["model-index"] = [{"name": origin.model, "results": [result]}]
    return about


def _summary(network: InpaintingNetwork, origin: WeightsOrigin) -> str:
    is_completion = isinstance(network, EdgeCompletion)
    purpose = "Completes the edges of images with holes" if is_completion else "Inpaints irregular holes in images"
    parameters = sum(p.numel() for p in network.parameters())
    summary = (type(network).__doc__ or "").strip().partition("\n")[0]
    source = "a released implementation" if origin.model.endswith("_release") else "the paper"
    note = f" The architecture follows {source}; please cite the paper below." if read_citation(origin.model) else ""
    return f"{purpose}. `{type(network).__name__}`: {summary} {parameters / 1e6:.2f} million parameters.{note}"


def _limits(network: InpaintingNetwork, graph: Graph, has_graphs: bool) -> list[str]:
    stride = network.stride
    limits = [f"Images are padded internally to multiples of {stride} px by repeating the last row and column."]
    if not has_graphs:
        return limits
    cell = 4 if isinstance(network, MPGAGLA) else 8 if isinstance(network, CoarseToFine) else None
    if cell is not None:  # eager mode computes the scores in parts
        mib = {side: 4 * (side // cell) ** 4 / 2**20 for side in (256, 512)}
        limits.append(
            "The graphs hold the full matrix of attention scores, several tensors at a time of "
            f"{mib[256]:,.0f} MiB each for an image of 256 x 256 px and {mib[512]:,.0f} MiB at 512 x 512 px."
        )
    if graph.completes_edges:
        limits.append(
            f"If a side is not a multiple of {stride} px, the suite detects edges in the padded image, but the graphs' "
            "input holds the edges of the image itself: results may differ near the right and bottom border."
        )
    return limits
