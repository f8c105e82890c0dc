"""How to cite the papers behind the models: the BibTeX entries in experiments/<paper>/paper.bib."""

from pathlib import Path

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PAPERS = {
    "lbam": "lbam",
    "edge_lbam": "edge_lbam",
    "mecnet": "edge_lbam",
    "pconv": "pconv",
    "contextual_attention": "contextual_attention",
    "mpga_gla": "mpga_gla",
}
"""Directory of each model's paper; `<model>_release` and `<model>_printed` have the same paper."""


def read_citation(model: str) -> str | None:
    """Return the BibTeX entry of a model's paper; None for a model of the user's own or without a checkout."""
    paper = PAPERS.get(model.removesuffix("_release").removesuffix("_printed"))
    file = EXPERIMENTS / f"{paper}" / "paper.bib"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None
