"""Reproduce a table or figure of a paper: train and test its rows, then write our results next to the printed ones."""

from pathlib import Path

from hydra import compose
from omegaconf import DictConfig
from rich.console import Console

from src.common.errors import InputError
from src.common.resolvers import FOLDER
from src.reproduction.execution import run_all
from src.reproduction.papers import PaperFigure, PaperTable, read_paper_file
from src.reproduction.planning import implemented_rows, overridden_keys, plan_runs, select_rows
from src.reproduction.results import write_figure_results, write_study_images, write_table_results
from src.reproduction.runs import Run
from src.reproduction.timing import text_table
from src.reproduction.timing_runs import time_table


def reproduce(cfg: DictConfig) -> dict[Run, str]:
    """Reproduce the table or figure of a composed conf/reproduce.yaml, and write the report.

    Returns:
        The error message of each run that failed; the report contains it, too.
    Raises:
        InputError: the table is unknown, or an option does not fit it.
    """
    path = FOLDER / f"{cfg.table}.yaml"
    if not path.is_file():
        names = sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.glob("*/*.yaml"))
        raise InputError(f"table={cfg.table}: unknown table; available: {', '.join(names)}")
    made = read_paper_file(path)
    if isinstance(made, PaperTable) and made.kind == "benchmark":
        _time(cfg)
        return {}
    if made.data is None and cfg.scale.name == "paper" and not overridden_keys(cfg) & {"data", "data.root"}:
        raise InputError(
            f"table={cfg.table} needs your own images and masks: pass data=folder data.root=<images> mask=folder "
            "mask.root=<masks>"
        )
    if not (rows := implemented_rows(made, cfg.table)):
        raise InputError(f"table={cfg.table}: none of its methods is implemented here, choose another table")
    selected = set(select_rows(cfg, rows))
    runs = plan_runs(cfg, rows)
    errors = run_all(cfg, [run for run in runs if run.row in selected])
    # Rows that finished in an earlier command with the same settings stay in the report.
    reported = [run for run in runs if run.row in selected or (run.records.is_file() and not run.changed_keys)]
    if isinstance(made, PaperFigure):
        write_figure_results(cfg, made, reported, errors)
    elif made.kind == "votes":
        write_study_images(cfg, reported, errors)
    else:
        write_table_results(cfg, made, reported, errors)
    return errors


def _time(cfg: DictConfig) -> None:
    if unknown := overridden_keys(cfg) - {"table", "scale", "study"}:
        raise InputError(
            f"table={cfg.table} is a table of times, to which {', '.join(sorted(unknown))} does not apply: "
            f"remove the override, or run python -m src.benchmark table={cfg.table}, which has more options"
        )
    timing = compose("benchmark", [f"scale={cfg.scale.name}"])
    timing.output_dir = cfg.study
    Console().print(text_table(time_table(cfg.table, timing), reasons=True).to_console())
    print(f"tables: {Path(cfg.study) / cfg.table}")
