"""Data frames as CSV files that spreadsheets open without evaluating a cell."""

import re
from typing import Any

import pandas as pd

from src.common.errors import printable

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?", re.IGNORECASE)


def to_csv(frame: pd.DataFrame, float_format: str | None = "%.10g") -> str:
    """Return a data frame as CSV without its index; missing values are empty, and `float_format=None` keeps all digits.

    Texts that a spreadsheet would take for a formula get a leading apostrophe, as file and method names can come from
    anyone; control characters, which a terminal would obey, are escaped.
    Source: OWASP, CSV Injection.
    """
    safe = frame.rename(columns=_neutralise)
    for column in safe.select_dtypes(exclude=["number", "bool"]):
        safe[column] = safe[column].map(_neutralise)
    return safe.to_csv(index=False, float_format=float_format, lineterminator="\n")


def _neutralise(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        cell = f"'{cell}"
    return printable(cell).replace("\n", "\\n")
