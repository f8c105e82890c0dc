"""What came of a multirun: one table of what was typed for each of its runs, and of its best validation PSNR."""

import math
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.common.atomic_files import atomic_write
from src.training.resume.run_dirs import BEST, read_failure, read_finished

TABLE = "sweep.csv"
"""In the folder of a multirun that came to its end."""

_OVERRIDES = Path(".hydra", "overrides.yaml")  # what Hydra notes of a run, in its folder
_ENDED = "ended"


class SweepTable(Callback):
    """Write `TABLE` when a multirun ends, print it, and say by the exit code whether a run failed.

    conf/hydra/callbacks/resume.yaml names it.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read what the runs left in their folders, by whatever launcher they ran."""
        folder = Path(config.hydra.sweep.dir)
        table = read_sweep(folder)
        if table.empty:
            return
        with atomic_write(folder / TABLE) as temporary:
            table.to_csv(temporary, index=False)
        shown = table[["run", *swept_keys(table), *(key for key in BEST if key in table), _ENDED]]
        print(f"{shown.to_string(index=False, na_rep='', max_colwidth=60)}\n\n{folder / TABLE}")
        failed = [str(run) for run in table["run"] if read_failure(folder / str(run)) is not None]
        if failed:  # not an exception, of which Hydra would make a warning
            sys.exit(f"error: {len(failed)} of {len(table)} runs failed: {', '.join(failed)}")


def read_sweep(folder: Path) -> pd.DataFrame:
    """The runs in a multirun's folder, the best first.

    Returns:
        One row per run: `run`, its folder; its overrides, one column per key; `best_val_psnr` in dB, of the composite,
        and `best_val_edge_f1` if a run that trained MECNet alone is among them; and how it `ended`: finished,
        unfinished, or the sentence with which it failed.
    """
    rows: list[dict[str, Any]] = []
    keys: dict[str, None] = {}  # in their order, as a set has none
    for noted in folder.glob(f"**/{_OVERRIDES}"):
        run = noted.parents[1]
        typed = dict(str(override).partition("=")[::2] for override in yaml.safe_load(noted.read_text("utf-8")) or [])
        keys.update(dict.fromkeys(typed))
        result = read_finished(run)
        ended = read_failure(run) or ("unfinished" if result is None else "finished")
        best = {key: math.nan if (value := (result or {}).get(key)) is None else float(value) for key in BEST}
        rows.append({"run": run.relative_to(folder).as_posix(), **typed, **best, _ENDED: ended})
    rows.sort(key=lambda row: _by_number(row["run"]))
    scores = [key for key in BEST if key == BEST[0] or any(not math.isnan(row[key]) for row in rows)]
    table = pd.DataFrame(rows, columns=["run", *keys, *scores, _ENDED])
    return table.sort_values(scores, ascending=False, kind="stable", na_position="last")


def swept_keys(table: pd.DataFrame) -> list[str]:
    """The keys in which the runs of `read_sweep` differ."""
    keys = [str(key) for key in table if key not in ("run", *BEST, _ENDED)]
    return [key for key in keys if table[key].nunique(dropna=False) > 1]


def _by_number(name: str) -> list[str | int]:
    """So that 10_lbam follows 9_lbam."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
