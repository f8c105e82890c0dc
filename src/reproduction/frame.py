"""A reproduction as a data frame, for CSV files and W&B."""

from typing import Any

import pandas as pd

from src.evaluation.bootstrap import Estimate
from src.evaluation.significance import Agreement
from src.reproduction.comparison import ComparedCell, Reproduction


def to_csv(reproduction: Reproduction) -> str:
    """Write `to_frame` with 10 digits; missing values are empty."""
    return to_frame(reproduction).to_csv(index=False, float_format="%.10g", lineterminator="\n")


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
    low, high = (None, None) if found is None or found.interval is None else found.interval
    by_seed = {} if found is None else found.by_seed
    return {
        name: None if found is None else found.mean,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_by_seed": " ".join(f"{seed}:{mean:.10g}" for seed, mean in by_seed.items()) or None,
    }


def _difference_entries(cell: ComparedCell) -> dict[str, Any]:
    found = cell.difference
    ours = None if found is None else found.ours
    return {
        "paper_difference": None if found is None else found.printed,
        **_estimate_entries("difference", ours),
        "p": None if found is None else found.p,
        "p_holm": None if found is None else found.p_holm,
        "seeds": None if ours is None else len(ours.by_seed),
        "seeds_with_mean_sign": None if found is None or ours is None else found.seeds_with_mean_sign,
    }


def _order_entries(found: Agreement | None) -> dict[str, Any]:
    spearman, kendall = (None, None) if found is None else (found.spearman, found.kendall)
    return {
        "spearman": None if spearman is None else spearman.value,
        "spearman_p": None if spearman is None else spearman.p,
        "kendall": None if kendall is None else kendall.value,
        "kendall_p": None if kendall is None else kendall.p,
        "pairs": None if found is None else found.pairs,
        "pairs_alike": None if found is None else found.pairs_alike,
        "same_best": None if found is None else found.same_best,
    }
