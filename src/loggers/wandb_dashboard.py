"""A view of a W&B project with panels for everything that the suite's runs log."""

from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from src.common.errors import InputError
from src.loggers.wandb import STEP, error_summary
from src.masks.hole_ratios import BINS, bin_name
from src.metrics.edges import THRESHOLDS, TOLERANCES
from src.metrics.scores import STANDARD, VALIDATION_SCORES
from src.rendering.network_figures import FIGURES

LOSS_CONFIGS = Path(__file__).parents[2] / "conf" / "loss"

VALIDATED = {score.name: score.heading for score in VALIDATION_SCORES} | {
    "psnr_over_biharmonic": "PSNR over biharmonic interpolation (dB) ↑",
    "psnr_over_mean_colour": "PSNR over the mean colour (dB) ↑",
    "coarse_psnr": "Coarse stage: PSNR (dB) ↑",
    "edge_f1": "Predicted edges: F1, 1 px ↑",
    "edge_precision_1px": "Predicted edges: precision, 1 px ↑",
    "edge_recall_1px": "Predicted edges: recall, 1 px ↑",
    "edge_precision": "Predicted edges: precision ↑",
    "edge_recall": "Predicted edges: recall ↑",
}
"""Panel titles by score: of all models, of conf/callbacks' references, of networks with two stages or with edges."""


def loss_terms() -> dict[str, bool]:
    """Return the names of the loss terms in conf/loss, and whether each has a critic."""
    terms: dict[str, bool] = {}
    for path in sorted(LOSS_CONFIGS.glob("*.yaml")):
        for name, term in (yaml.safe_load(path.read_text(encoding="utf-8")).get("terms") or {}).items():
            terms[name] = terms.get(name, False) or "critic" in (term or {})
    return terms


def make_workspace(entity: str, project: str, name: str) -> Any:
    """Return the view, a `wandb_workspaces.workspaces.Workspace` that is not saved yet.

    Raises:
        InputError: wandb-workspaces is not installed.
    """
    try:
        ws, wr = import_module("wandb_workspaces.workspaces"), import_module("wandb_workspaces.reports.v2")
    except ModuleNotFoundError as error:
        raise InputError(f"{error}: run pip install -c constraints.txt -e '.[dashboard]'") from error

    def lines(title: str, *names: str, regex: str | None = None, **more: Any) -> Any:
        return wr.LinePlot(title=title, x=STEP, y=list(names), metric_regex=regex, **more)

    def by_bin(title: str, series: str) -> Any:
        return lines(title, *(f"{series}/{bin_name(bounds)}" for bounds in BINS), legend_position="east")

    def images(key: str) -> Any:
        return wr.MediaBrowser(title=key.removeprefix("maps/").replace("_", " "), media_keys=[key], num_columns=1)

    edges = [lines("Threshold with the best F1", "val/edge_threshold"), by_bin("Base rate", "val/edge_base_rate_1px")]
    for tolerance in TOLERANCES:
        for kind in ("precision", "recall", "f1"):
            names = [f"val/edge_{kind}_{tolerance}_at_{threshold:g}" for threshold in THRESHOLDS]
            base_rate = [f"val/edge_base_rate_{tolerance}"] if kind == "precision" else []
            edges.append(lines(f"{kind}, {tolerance}", *names, *base_rate))
    critics = []
    for term in (term for term, has_critic in loss_terms().items() if has_critic):
        series, others = f"train/{term}", "(critic_(?!won|lost|real|fake).*|gradient_penalty)"
        critics += [
            lines(f"{term}: win and loss rates", f"{series}/critic_won", f"{series}/critic_lost", range_y=(0, 1)),
            lines(f"{term}: gradient relative to the other terms", f"{series}/gradient_ratio", log_y=True),
            lines(f"{term}: critic scores", f"{series}/critic_real", f"{series}/critic_fake"),
            lines(f"{term}: critic losses", regex=f"{series}/{others}"),
        ]
    panels = {
        "Validation": [
            *(lines(title, f"val/{score}") for score, title in VALIDATED.items()),
            lines("Attention: patches attended to per hole cell", regex=r"val/.*/attended_patches"),
        ],
        "Validation by hole ratio": [by_bin(title, f"val/{score}") for score, title in VALIDATED.items()],
        "Predicted edges by threshold": edges,
        "Samples": [images("samples")],
        "Inside the network": [images(f"maps/{figure}") for figure in FIGURES],
        "Losses by term": [
            lines("Weighted sum", "train/loss"),
            *(lines(term, f"train/{term}") for term in loss_terms()),
            lines("Learning rate", "train/learning_rate", log_y=True),
            lines("Stage", "train/stage"),
        ],
        "Critics": critics,
        "Tests": [
            *(wr.BarPlot(title=metric.heading, metrics=[f"test/{metric.name}"]) for metric in STANDARD),
            *(wr.WeavePanelSummaryTable(table_name=table) for table in ("results", "reproduction")),
        ],
    }
    columns = {"Samples": 1, "Inside the network": 2}
    sections = [
        ws.Section(
            name=title, panels=shown, is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=columns.get(title, 3), rows=min(3, -(-len(shown) // 3))),
        )
        for title, shown in panels.items()
    ]  # fmt: skip
    settings = ws.WorkspaceSettings(x_axis=STEP, max_runs=20)
    return ws.Workspace(entity=entity, project=project, name=name, sections=sections, settings=settings)


def save_view(view: Any) -> str:
    """Save a workspace as a new view of its project, and return its URL.

    Raises:
        InputError: W&B is unreachable, the project does not exist, or the user is not logged in.
    """
    import requests
    import wandb

    try:
        view.save()
    except (wandb.Error, requests.RequestException, ValueError, ConnectionError) as error:
        raise InputError(
            f"W&B: {error_summary(error)}: saving a view needs its servers and `wandb login` or WANDB_API_KEY; "
            "or set output=<file>.json to write the view to a file"
        ) from error
    return str(view.url)
