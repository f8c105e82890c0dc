"""Train and test the rows of a paper's table, and set ours beside what is printed: `python -m src.reproduce`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from torch import Tensor

from src.data.mask_bank import MaskBank
from src.errors import InputError, reports_input_errors
from src.experiments import FOLDER
from src.modules.checkpoint import load_checkpoint
from src.networks.interface import InpaintingNetwork, composite
from src.reporting.curves import read_metrics
from src.reporting.files import written_whole
from src.reporting.outcomes import Failure, RowOutcome
from src.reporting.paper_figures import draw_figure, write_figure
from src.reporting.papers import PaperFigure, PaperTable, read_paper_file
from src.reporting.pictures import comparison_grid, filled_samples, hatch_hole, to_rgb
from src.reporting.records import read_records
from src.reporting.report import write_report
from src.reporting.reproduction import reproduction
from src.runs import Run, checkpoint_of, composed, given_checkpoint, rows_of, run_all, runs_of

SHOWN_PICTURES = 4


def reproduce(cfg: DictConfig) -> dict[Run, str]:
    """Reproduce the table or figure as conf/reproduce.yaml composes, and write the report.

    Returns:
        What went wrong, by run; the report says it, too.
    Raises:
        InputError: there is no such table, or a key of the command does not fit it.
    """
    path = FOLDER / f"{cfg.table}.yaml"
    if not path.is_file():
        names = sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.glob("*/*.yaml"))
        raise InputError(f"table={cfg.table}: there is none of that name; choose of {', '.join(names)}")
    made = read_paper_file(path)
    runs = runs_of(cfg, rows_of(made, cfg.table, cfg.rows))
    errors = run_all(cfg, runs)
    if isinstance(made, PaperFigure):
        _report_figure(cfg, made, runs, errors)
    elif made.kind == "votes":
        _write_study(cfg, runs, errors)
    else:
        _report_table(cfg, made, runs, errors)
    return errors


def _report_table(cfg: DictConfig, table: PaperTable, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    outcomes = {row: _outcome(cfg, [run for run in runs if run.row == row], errors) for row in {run.row for run in runs}}
    folder = Path(cfg.study) / cfg.table
    print(outcomes, folder)


def _outcome(cfg: DictConfig, runs: Sequence[Run], errors: Mapping[Run, str]) -> RowOutcome:
    given = given_checkpoint(cfg, runs[0].row)
    return RowOutcome(
        records={run.seed: run.records for run in runs if run not in errors},
        failures={run.seed: Failure(errors[run], run.folder / "log.txt") for run in runs if run in errors},
        given=None if given is None else Path(given),
    )


@hydra.main(version_base="1.3", config_path="../conf", config_name="reproduce")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Reproduce, print the table, and say where the report is."""
    if errors := reproduce(cfg):
        sys.exit(f"error: {len(errors)} runs failed: {'; '.join(f'{run.row}: {run.folder / "log.txt"}' for run in errors)}")


if __name__ == "__main__":
    main()
