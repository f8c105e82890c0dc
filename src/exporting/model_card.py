"""A model card: what an exported network is, where it comes from and how it is used, for people and the Hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from src.exporting.citations import citation
from src.exporting.formats import OPSET, Written
from src.exporting.graph import LARGEST_BATCH, LARGEST_SIDE_PX, Graph, Size
from src.networks.contextual_attention import CoarseToFine
from src.networks.edge_lbam import EdgeCompletion
from src.networks.interface import InpaintingNetwork
from src.networks.mpga_gla import MPGAGLA
from src.networks.ops.canny import HIGH_THRESHOLD, LOW_THRESHOLD

_TEMPLATES = Environment(  # Markdown: nothing is escaped
    loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class Origin:
    """Where a network's weights come from.

    Attributes:
        config: of its run.
        step: generator steps taken.
        sha256: of the checkpoint.
        code: revision of the suite that exports it; runs do not keep theirs.
        psnr: best validation PSNR of its run, dB; None where it is not known.
        scores: a table of an evaluation, in Markdown, or nothing.
    """

    config: Mapping[str, Any]
    step: int
    sha256: str
    code: str
    psnr: float | None = None
    scores: str = ""

    @property
    def model(self) -> str:
        """The model's name, as conf/model has it."""
        return str(self.config["model"].get("name") or "unnamed")

    @property
    def release(self) -> str | None:
        """The release that `src.import_checkpoint` read; None of what was trained here."""
        return self.config.get("release")

    def named(self, part: str) -> str:
        """The name of the run's data or masks."""
        entry = self.config.get(part)
        return str(entry.get("name", "unknown")) if isinstance(entry, Mapping) else "unknown"

    def training(self) -> dict[str, Any]:
        """How it was trained, as far as the configuration says; no paths."""
        config, scale = self.config, self.config.get("scale") or {}
        known: dict[str, Any] = {"generator steps": self.step}
        if self.release is None:
            batch = f"{config['batch_size']} x {config.get('accumulate', 1)}" if "batch_size" in config else "unknown"
            known |= {
                "data": self.named("data"),
                "masks": self.named("mask"),
                "image size, px": scale.get("image_size", "unknown"),
                "samples a step (batch x batches)": batch,
                "seed": config.get("seed", "unknown"),
                "scale": scale.get("name", "unknown"),
            }
        return known | {"checkpoint's SHA-256": f"`{self.sha256}`", "exported by the suite's revision": self.code}


def model_card(
    network: InpaintingNetwork, graph: Graph, size: Size, files: Mapping[str, Written], origin: Origin, license: str
) -> str:
    """Write the card.

    Args:
        size: that the graphs were made for.
        files: graphs beside the weights, by format.
        license: an identifier of the Hub, such as mit.
    """
    compared = next(iter(files.values())).sizes if files else ()
    return _TEMPLATES.get_template("model_card.md.jinja").render(
        about=yaml.safe_dump(_front_matter(files, origin, license), sort_keys=False, allow_unicode=True).strip(),
        model=origin.model,
        what=_what(network, origin),
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
        sizes=sizes_taken(size),
        compared=", ".join(" x ".join(str(n) for n in shape) for shape in compared),
        training=origin.training(),
        data=origin.named("data"),
        psnr=origin.psnr,
        scores=origin.scores,
        limits=_limits(network, graph, bool(files)),
        citation=citation(origin.model),
    )


def sizes_taken(size: Size) -> str:
    """Which sizes graphs take, in a sentence."""
    batch = f"They take batches of 1 to {LARGEST_BATCH:,} pictures"
    if size is None:
        return f"{batch} of any height and width up to {LARGEST_SIDE_PX:,} px."
    return f"{batch} of {size[0]} x {size[1]} px (height x width), and no others."


def _front_matter(files: Mapping[str, Written], origin: Origin, license: str) -> dict[str, Any]:
    about: dict[str, Any] = {
        "license": license,
        "library_name": "inpainting-suite",
        "pipeline_tag": "image-to-image",
        "tags": ["image-inpainting", origin.model, *("torch.export" if name == "torch" else name for name in files)],
    }
    if origin.psnr is not None:
        data = origin.named("data")
        result = {
            "task": {"type": "image-to-image", "name": "Image inpainting"},
            "dataset": {"type": data, "name": f"{data}, validation"},
            "metrics": [{"type": "psnr", "value": round(origin.psnr, 4), "name": "PSNR of the composite, dB"}],
        }
        about["model-index"] = [{"name": origin.model, "results": [result]}]
    return about


def _what(network: InpaintingNetwork, origin: Origin) -> str:
    purpose = "Completes the edges of a picture with holes" if isinstance(network, EdgeCompletion) else (
        "Fills irregular holes in pictures"
    )  # fmt: skip
    parameters = sum(p.numel() for p in network.parameters())
    summary = (type(network).__doc__ or "").strip().partition("\n")[0]
    kind = "a release's computation" if origin.model.endswith("_release") else "the paper's description"
    by = f" By {kind}; cite the paper below." if citation(origin.model) else ""
    return f"{purpose}. `{type(network).__name__}`: {summary} {parameters / 1e6:.2f} million parameters.{by}"


def _limits(network: InpaintingNetwork, graph: Graph, has_graphs: bool) -> list[str]:
    stride = network.stride
    limits = [f"Pictures are padded to multiples of {stride} px inside, by repeating the last row and column."]
    if not has_graphs:
        return limits
    cell = 4 if isinstance(network, MPGAGLA) else 8 if isinstance(network, CoarseToFine) else None
    if cell is not None:  # in eager mode these are made in parts
        mib = {side: 4 * (side // cell) ** 4 / 2**20 for side in (256, 512)}
        limits.append(
            "The graphs hold the attention's scores whole, several tensors at a time of "
            f"{mib[256]:,.0f} MiB each for a picture of 256 x 256 px and {mib[512]:,.0f} MiB at 512 x 512."
        )
    if graph.completes_edges:
        limits.append(
            f"Where a side is no multiple of {stride}, the suite looks for edges in the padded picture, and the graphs "
            "are given those of the picture itself: results may differ near the right and the bottom border."
        )
    return limits
