"""The report of a comparison: one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import yaml
from markupsafe import Markup

from src.common.atomic_files import atomic_write
from src.common.provenance import Provenance
from src.evaluation.same_test import find_differences
from src.rendering.curves import DARK, LIGHT, POINTS_PER_CURVE, svg_curves
from src.rendering.grids import Grid
from src.rendering.html import ENVIRONMENT, data_url, png_url


def write_report(
    path: Path,
    title: str,
    *,
    tables: Sequence[Markup],
    more_tables: Sequence[Markup] = (),
    glance: Grid | None = None,
    sentences: Mapping[str, str] | None = None,
    provenance: Mapping[str, Provenance],
    grids: Sequence[Grid] = (),
    figures: Sequence[Grid] = (),
    runs: Mapping[str, pd.DataFrame] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report; empty sections are left out.

    Args:
        tables, more_tables: rendered, as `TextTable.to_html` returns them; the latter are folded.
        glance: one row of images above everything else.
        sentences: what each method is, by method.
        provenance: by method.
        grids, figures: as `comparison_grid` and `draw_internals` return them.
        runs: logged metrics by run, as `read_metrics` returns them.
        notes: paragraphs above the tables.
    """
    facts = {method: _facts(made) for method, made in provenance.items()}
    configs = {method: made.config for method, made in provenance.items()}
    shared = dict(set.intersection(*(set(found.items()) for found in facts.values()))) if len(facts) > 1 else {}
    text = ENVIRONMENT.get_template("report.html.jinja").render(
        title=title,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        notes=notes,
        tables=tables,
        more_tables=more_tables,
        glance=glance,
        sentences=sentences or {},
        grids=grids,
        figures=figures,
        png_url=png_url,
        curves=[data_url("image/svg+xml", svg_curves(runs, theme)) for theme in (LIGHT, DARK)] if runs else [],
        points_per_curve=POINTS_PER_CURVE,
        warnings=protocol_differences(provenance),
        shared={name: shared[name] for name in next(iter(facts.values()), {}) if name in shared},
        own={method: {name: found[name] for name in found if name not in shared} for method, found in facts.items()},
        configs={name: yaml.safe_dump(c, sort_keys=False, allow_unicode=True) for name, c in configs.items()},
    )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def protocol_differences(provenance: Mapping[str, Provenance]) -> list[str]:
    """Return the reasons why these numbers should not be compared or cannot be traced, one sentence each."""
    reasons, all_made = [], list(provenance.values())
    if differences := dict.fromkeys(found for other in all_made[1:] for found in find_differences(all_made[0], other)):
        reasons.append(
            f"The methods were tested on different images or masks, so their numbers are not comparable: "
            f"{'; '.join(differences)}."
        )
    if len({made.revision for made in provenance.values()}) > 1:
        reasons.append("The methods were scored by different revisions of the code.")
    if any(made.revision.dirty for made in provenance.values()):
        reasons.append("The code had uncommitted changes: its revision does not identify it.")
    return reasons


def _facts(made: Provenance) -> dict[str, str]:
    weights = made.checkpoint
    return {
        "Code": str(made.revision),
        "Mask bank": made.mask_bank_hash,
        **{f"Data: {name}": str(value) for name, value in made.data.items()},
        "Seed": str(made.seed),
        "Device": made.device,
        "Versions": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "Weights": "none" if weights is None else f"{weights.path} (SHA-256 {weights.sha256})",
        "Scoring started": made.started,
        "Scoring took": f"{made.duration_s:.1f} s",
    }
