"""The table of a multirun: the overrides and the best validation score of each run."""

import math
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.common.atomic_files import atomic_write
from src.common.untrusted_files import read_yaml
from src.rendering.spreadsheet import to_csv
from src.training.resume.run_dirs import BEST, read_failure, read_finished

TABLE = "sweep.csv"  # in the directory of a finished multirun
_OVERRIDES = Path(".hydra", "overrides.yaml")  # saved by Hydra in the directory of a run
_ENDED = "ended"


class SweepTable(Callback):
    """Write and print `TABLE` when a multirun ends; exit with an error if a run failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the results from the runs' directories, whichever launcher ran them."""
        sweep_dir = Path(config.hydra.sweep.dir)
        table = read_sweep(sweep_dir)
        if table.empty:
            return
        with atomic_write(sweep_dir / TABLE) as temporary:
            temporary.write_text(to_csv(table, float_format=None), encoding="utf-8")
        shown = table[["run", *swept_keys(table), *(key for key in BEST if key in table), _ENDED]]
        print(f"{shown.to_string(index=False, na_rep='', max_colwidth=60)}\n\n{sweep_dir / TABLE}")
        failed = [str(run) for run in table["run"] if read_failure(sweep_dir / str(run)) is not None]
        if failed:  # sys.exit, as Hydra turns an exception into a warning
            sys.exit(f"error: {len(failed)} of {len(table)} runs failed: {', '.join(failed)}")


def read_sweep(sweep_dir: Path) -> pd.DataFrame:
    """Return one row per run of a multirun, the best first.

    Returns:
        Columns: `run`, its directory; its overrides, one column per key; `best_val_psnr` in dB, of the composite, and
        `best_val_edge_f1` if a run trained MECNet alone; and `ended`: finished, unfinished, or the error message.
    """
    rows: list[dict[str, Any]] = []
    keys: dict[str, None] = {}  # ordered, unlike a set
    for file in sweep_dir.glob(f"**/{_OVERRIDES}"):
        run = file.parents[1]
        saved = read_yaml(file)
        overrides = dict(str(one).partition("=")[::2] for one in (saved if isinstance(saved, list) else []))
        keys.update(dict.fromkeys(overrides))
        result = read_finished(run)
        ended = read_failure(run) or ("unfinished" if result is None else "finished")
        best = {key: math.nan if (value := (result or {}).get(key)) is None else float(value) for key in BEST}
        rows.append({"run": run.relative_to(sweep_dir).as_posix(), **overrides, **best, _ENDED: ended})
    rows.sort(key=lambda row: _numeric_order(row["run"]))
    scores = [key for key in BEST if key == BEST[0] or any(not math.isnan(row[key]) for row in rows)]
    table = pd.DataFrame(rows, columns=["run", *keys, *scores, _ENDED])
    return table.sort_values(scores, ascending=False, kind="stable", na_position="last")


def swept_keys(table: pd.DataFrame) -> list[str]:
    """Return the overridden keys in which the runs of `read_sweep` differ."""
    keys = [str(key) for key in table if key not in ("run", *BEST, _ENDED)]
    return [key for key in keys if table[key].nunique(dropna=False) > 1]


def _numeric_order(name: str) -> list[str | int]:
    """Return a sort key by which 10_lbam follows 9_lbam."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
