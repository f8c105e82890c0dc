"""Write benchmark results as table.md and as report.html, a self-contained page."""

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

from src.benchmarking.tables import benchmark_tables, to_markdown
from src.common.provenance import PACKAGES
from src.rendering.html import ENVIRONMENT
from src.rendering.text_table import write_texts


def write_report(directory: Path, frame: pd.DataFrame) -> None:
    """Write table.md and report.html for the records of one run."""
    tables, facts = benchmark_tables(frame), _facts(frame)
    made_by = ". ".join(f"{name}: {value}" for name, value in facts.items())
    page = ENVIRONMENT.get_template("benchmark.html.jinja").render(
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        tables=[table.to_html() for table in tables],
        facts=facts,
    )
    write_texts(directory, {"table.md": to_markdown(tables, [f"{made_by}."]), "report.html": page})


def _facts(frame: pd.DataFrame) -> Mapping[str, str]:
    """Return the machine, scale, package versions and code revision of a run."""
    first = frame.iloc[0]
    versions = [f"{name} {first[name]}" for name in ("python", *PACKAGES)]
    return {
        "Machine": "; ".join(dict.fromkeys(frame["device"])),
        "Scale": str(first["scale"]),
        "Versions": ", ".join(versions),
        "Code": str(first["revision"]),
    }
