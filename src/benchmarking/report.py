"""Writing what `src.benchmark` measured: table.md for a README, and report.html, a page that needs no network."""

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

from src.benchmarking.tables import speed_tables, to_markdown
from src.common.provenance import PACKAGES
from src.rendering.html import ENVIRONMENT
from src.rendering.text_table import write_texts


def write_speed(folder: Path, frame: pd.DataFrame) -> None:
    """table.md and report.html of the records of one run."""
    tables, facts = speed_tables(frame), _facts(frame)
    made_by = ". ".join(f"{name}: {value}" for name, value in facts.items())
    page = ENVIRONMENT.get_template("benchmark.html.jinja").render(
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        tables=[table.to_html() for table in tables],
        facts=facts,
    )
    write_texts(folder, {"table.md": to_markdown(tables, [f"{made_by}."]), "report.html": page})


def _facts(frame: pd.DataFrame) -> Mapping[str, str]:
    """What made the numbers, which is the same for all of them."""
    first = frame.iloc[0]
    versions = [f"{name} {first[name]}" for name in ("python", *PACKAGES)]
    return {
        "Machine": "; ".join(dict.fromkeys(frame["device"])),
        "Scale": str(first["scale"]),
        "Versions": ", ".join(versions),
        "Code": str(first["revision"]),
    }
