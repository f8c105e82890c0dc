"""A reproduction as a data frame, for CSV files and W&B."""

from typing import Any

import pandas as pd

from src.evaluation.bootstrap import Estimate
from src.evaluation.significance import Agreement
from src.reproduction.comparison import ComparedCell, Difference, Reproduction


def to_frame(reproduction: Reproduction) -> pd.DataFrame:
    """Return one row per row, metric and column; agreements repeat in every row of their metric and column."""
    columns = [column.label for column in reproduction.columns]
    return pd.DataFrame(
        [
            {
                "row": row.row,
                "method": row.method,
                "status": row.status,
                "reference": row.reference,
                "metric": compared.metric.label,
                "unit": compared.metric.unit,
                "better": "higher" if compared.metric.higher_is_better else "lower",
                "column": column,
                "paper": cell.printed,
                **_estimate_entries("ours", cell.ours),
                "ours_less_paper": cell.gap,
                **_difference_entries(cell),
                **_order_entries(agreement),
            }
            for compared in reproduction.metrics
            for row in compared.rows
            for column, cell, agreement in zip(columns, row.cells, compared.agreements, strict=True)
        ]
    )


def _estimate_entries(name: str, found: Estimate | None) -> dict[str, Any]:
    low, high = (found and found.interval) or (None, None)
    by_seed = {} if found is None else found.by_seed
    return {
        name: None if found is None else found.mean,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_by_seed": " ".join(f"{seed}:{mean:.10g}" for seed, mean in by_seed.items()) or None,
    }


def _difference_entries(cell: ComparedCell) -> dict[str, Any]:
    found = cell.difference or Difference(None)
    return {
        "paper_difference": found.printed,
        **_estimate_entries("difference", found.ours),
        "p": found.p,
        "p_holm": found.p_holm,
        "seeds": None if found.ours is None else len(found.ours.by_seed),
        "seeds_with_mean_sign": None if found.ours is None else found.seeds_with_mean_sign,
    }


def _order_entries(found: Agreement | None) -> dict[str, Any]:
    entries: dict[str, Any] = dict.fromkeys(
        ("spearman", "spearman_p", "kendall", "kendall_p", "pairs", "pairs_alike", "same_best")
    )
    if found is None:
        return entries
    for name, correlation in (("spearman", found.spearman), ("kendall", found.kendall)):
        if correlation is not None:
            entries |= {name: correlation.value, f"{name}_p": correlation.p}
    return entries | {"pairs": found.pairs, "pairs_alike": found.pairs_alike, "same_best": found.same_best}
