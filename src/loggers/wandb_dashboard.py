"""A view of a W&B project with panels for everything that the suite's runs log."""

from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from src.common.errors import InputError
from src.loggers.wandb import STEP, error_summary
from src.masks.hole_ratios import BINS, bin_name
from src.metrics.edges import THRESHOLDS, TOLERANCES
from src.metrics.scores import METRICS, VALIDATION_SCORES
from src.rendering.network_figures import FIGURES

LOSS_CONFIGS = Path(__file__).parents[2] / "conf" / "loss"

EDGE_SCORES = {
    "edge_f1": "Predicted edges: F1, 1 px ↑",
    "edge_precision_1px": "Predicted edges: precision, 1 px ↑",
    "edge_recall_1px": "Predicted edges: recall, 1 px ↑",
    "edge_precision": "Predicted edges: precision ↑",
    "edge_recall": "Predicted edges: recall ↑",
}
"""Panel titles by score, for models that complete edges."""

REFERENCE_SCORES = {
    "psnr_over_biharmonic": "PSNR over biharmonic interpolation (dB) ↑",
    "psnr_over_mean_colour": "PSNR over the mean colour (dB) ↑",
    "coarse_psnr": "Coarse stage: PSNR (dB) ↑",
}
"""Panel titles by score, for the references in conf/callbacks/default.yaml and networks with two stages."""

SYSTEM_METRICS = {
    "GPU utilisation (%)": r"system/gpu\.\d+\.gpu",
    "GPU memory in use (%)": r"system/gpu\.\d+\.memoryAllocated",
    "CPU utilisation (%)": r"system/cpu",
    "Process memory (MB)": r"system/proc\.memory\.rssMB",
    "Network received (bytes)": r"system/network\.recv",
    "Disk usage (%)": r"system/disk\..*\.usagePercent",
}
"""Regular expressions of W&B's system metrics, by panel title."""


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

    def section(name: str, panels: list[Any], columns: int = 3, *, is_open: bool = True) -> Any:
        rows = min(3, -(-len(panels) // columns))
        layout = ws.SectionLayoutSettings(columns=columns, rows=rows)
        return ws.Section(name=name, panels=panels, is_open=is_open, layout_settings=layout)

    terms = loss_terms()
    validated = {score.name: score.heading for score in VALIDATION_SCORES} | REFERENCE_SCORES | EDGE_SCORES
    sections = [
        section(
            "Validation",
            [
                *(lines(title, f"val/{name}") for name, title in validated.items()),
                lines("Attention: patches attended to per hole cell", regex=r"val/.*/attended_patches"),
            ],
        ),
        section(
            "Validation by hole ratio",
            [
                lines(title, *(f"val/{name}/{bin_name(bounds)}" for bounds in BINS), legend_position="east")
                for name, title in validated.items()
            ],
        ),
        section(
            "Predicted edges by threshold",
            [
                *(
                    lines(
                        f"{kind}, {tolerance}",
                        *(f"val/edge_{kind}_{tolerance}_at_{threshold:g}" for threshold in THRESHOLDS),
                        *([f"val/edge_base_rate_{tolerance}"] if kind == "precision" else []),
                    )
                    for tolerance in TOLERANCES
                    for kind in ("precision", "recall", "f1")
                ),
                lines("Threshold with the best F1", "val/edge_threshold"),
                lines("Base rate, 1 px", *(f"val/edge_base_rate_1px/{bin_name(bounds)}" for bounds in BINS)),
            ],
        ),
        section("Samples", [wr.MediaBrowser(title="samples", media_keys=["samples"], num_columns=1)], columns=1),
        section(
            "Inside the network",
            [
                wr.MediaBrowser(title=name.replace("_", " "), media_keys=[f"maps/{name}"], num_columns=1)
                for name in FIGURES
            ],
            columns=2,
        ),
        section(
            "Losses by term",
            [
                lines("Weighted sum", "train/loss"),
                *(lines(term, f"train/{term}") for term in terms),
                lines("Learning rate", "train/learning_rate", log_y=True),
                lines("Stage", "train/stage"),
            ],
        ),
        section(
            "Critics",
            [
                panel
                for term, has_critic in terms.items()
                if has_critic
                for panel in (
                    lines(
                        f"{term}: win and loss rates of its critic",
                        *(f"train/{term}/critic_won", f"train/{term}/critic_lost"),
                        range_y=(0, 1),
                    ),
                    lines(f"{term}: gradient relative to the other terms", f"train/{term}/gradient_ratio", log_y=True),
                    lines(f"{term}: critic scores", f"train/{term}/critic_real", f"train/{term}/critic_fake"),
                    lines(
                        f"{term}: critic losses",
                        regex=rf"train/{term}/(critic_(?!won|lost|real|fake).*|gradient_penalty)",
                    ),
                )
            ],
        ),
        section(
            "Tests",
            [
                *(
                    wr.BarPlot(title=metric.heading, metrics=[f"test/{name}"], max_bars_to_show=20)
                    for name, metric in METRICS.items()
                ),
                wr.WeavePanelSummaryTable(table_name="results"),
                wr.WeavePanelSummaryTable(table_name="reproduction"),
            ],
        ),
        section("System", [lines(title, regex=regex) for title, regex in SYSTEM_METRICS.items()], is_open=False),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=20),
    )


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
