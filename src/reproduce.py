"""Train and test the rows of a paper's table, and set ours beside what is printed: `python -m src.reproduce`."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import hydra
import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from torch import Tensor

from src.benchmark import timed_table
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
from src.reporting.reproduction_formats import to_console, write_reproduction
from src.reporting.timing import to_console as timing_to_console
from src.runs import Run, checkpoint_of, given_checkpoint, rows_of, run_all, runs_of

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
    if isinstance(made, PaperTable) and made.kind == "benchmark":
        timing = compose("benchmark", [f"scale={cfg.scale.name}"])
        timing.output_dir = cfg.study
        Console().print(timing_to_console(timed_table(cfg.table, timing)))
        print(f"tables: {Path(cfg.study) / cfg.table}")
        return {}
    typed = {override.partition("=")[0].partition(".")[0] for override in HydraConfig.get().overrides.task}
    if made.data is None and cfg.scale.name == "paper" and "data" not in typed:
        raise InputError(
            f"table={cfg.table} is of photos and masks of one's own: give data=folder data.root=<photos> mask=folder "
            "mask.root=<masks>"
        )
    runs = runs_of(cfg, rows_of(made, cfg.table, cfg.rows))
    if not runs:
        raise InputError(f"table={cfg.table}: none of its rows is built here")
    errors = run_all(cfg, runs)
    if isinstance(made, PaperFigure):
        _report_figure(cfg, made, runs, errors)
    elif made.kind == "votes":
        _write_study(cfg, runs, errors)
    else:
        _report_table(cfg, made, runs, errors)
    return errors


def _report_table(cfg: DictConfig, table: PaperTable, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    outcomes = {
        row: _outcome(cfg, [run for run in runs if run.row == row], errors)
        for row in dict.fromkeys(run.row for run in runs)
    }
    outcomes = {row.rpartition("/")[2]: outcome for row, outcome in outcomes.items()}
    folder, notes = Path(cfg.study) / cfg.table, _departures(table, runs)
    found = reproduction(table, outcomes, caption=f"{table.title}. {table.paper}, {table.source}", notes=notes)
    write_reproduction(folder, found)
    methods = {f"{table_row.row}": table_row.method for table_row in table.rows if table_row.row}
    networks = {methods[row.rpartition("/")[2]]: network for row, network in _networks(cfg, runs, errors).items()}
    finished = {f"{methods[run.name]}, seed {run.seed}": run for run in runs if run not in errors}
    write_report(
        folder / "report.html",
        table.title,
        tables=[replace(found, notes=found.notes[len(notes) :])],  # the page begins with them
        provenance={name: read_records(run.records)[1] for name, run in finished.items()},
        grids=[
            comparison_grid(filled_samples(networks, image, mask), f"{name}, seed {cfg.seed}")
            for name, image, mask in _shown(runs[0], cfg.pictures or SHOWN_PICTURES)
        ]
        if networks
        else [],
        runs={
            name: read_metrics(run.folder / "csv" / "metrics.csv")
            for name, run in finished.items()
            if (run.folder / "csv" / "metrics.csv").is_file()
        },
        notes=notes,
    )
    Console().print(to_console(found))
    print(f"report: {folder / 'report.html'}")


def _report_figure(cfg: DictConfig, figure: PaperFigure, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    paper = cfg.table.partition("/")[0]
    networks = {row.removeprefix(f"{paper}/"): network for row, network in _networks(cfg, runs, errors).items()}
    if not networks:
        return
    batches = [(image, mask) for _, image, mask in _shown(runs[0], cfg.pictures or SHOWN_PICTURES)]
    finished = {f"{run.row}, seed {run.seed}": read_records(run.records)[1] for run in runs if run not in errors}
    page = write_figure(
        Path(cfg.study) / cfg.table,
        figure,
        draw_figure(figure, networks, batches),
        provenance=finished,
        notes=_departures(figure, runs),
    )
    print(f"report: {page}")


def _write_study(cfg: DictConfig, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    """The pictures that a user study shows: a folder of inputs, and one of every row's results."""
    folder = Path(cfg.study) / cfg.table / "pictures"
    networks = _networks(cfg, runs, errors)
    for part in ("input", *(row.rpartition("/")[2] for row in networks)):
        for old in (folder / part).glob("*.png"):  # of a command that asked for more pictures
            old.unlink()
    for number, (_, image, mask) in enumerate(_shown(runs[0], cfg.pictures), start=1):
        _save(hatch_hole(image, mask)[0], folder / "input" / f"{number:04}.png")
        for row, network in networks.items():
            with torch.inference_mode():
                filled = composite(image, mask, network(image, mask))
            _save(filled[0], folder / row.rpartition("/")[2] / f"{number:04}.png")
    print(f"pictures: {folder}\nask people: python -m src.user_study table={cfg.table} pictures={folder}")


def _save(image: Tensor, path: Path) -> None:
    with written_whole(path) as temporary:
        Image.fromarray(to_rgb(image)).save(temporary, format="PNG")


def _networks(cfg: DictConfig, runs: Sequence[Run], errors: Mapping[Run, str]) -> dict[str, InpaintingNetwork]:
    """Of the first seed of every row that has one."""
    return {
        run.row: load_checkpoint(checkpoint_of(run.config, run.folder)).network
        for run in runs
        if run.seed == cfg.seed and run not in errors
    }


def _shown(run: Run, count: int | None) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Test pictures, each as a batch of one with a mask of the next bin."""
    data = instantiate(run.config.data, _partial_=True)(test_bank=MaskBank.load(run.bank))
    for number, (name, image, mask) in enumerate(data.test_pictures(count), start=1):
        chosen = slice(number % len(mask), number % len(mask) + 1)
        yield name, image[chosen], mask[chosen]


def _departures(made: PaperTable | PaperFigure, runs: Sequence[Run]) -> list[str]:
    """What differs from the paper's experiment, in sentences for the report."""
    cfg = runs[0].config
    notes = []
    if cfg.scale.name != "paper":
        length = (
            f"{cfg.trainer.max_steps} generator steps"
            if cfg.trainer.max_steps > 0
            else f"{cfg.trainer.max_epochs} epochs"
        )
        notes.append(
            f"A study at {cfg.scale.name} scale, not the paper's experiment: {cfg.scale.image_size} px, "
            f"{cfg.scale.width:g} of the channels, {length} of {cfg.batch_size} pictures. Its values are not to be "
            "compared with the printed ones, the rows' differences and order are."
        )
    for what, printed, ours in (("Pictures", made.data, cfg.data.name), ("Masks", made.mask, cfg.mask.name)):
        if printed not in (None, ours):
            notes.append(f"{what}: {ours}, in the place of {printed}.")
    if any("features" in run.config.loss and run.config.loss.features.weights == "none" for run in runs):
        notes.append(
            "The losses' perceptual and style terms, which compare features of a trained VGG-16, are off "
            "(loss.features.weights=none)."
        )
    return notes


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
        failed = "".join(f"\n  {run.row}, seed {run.seed}: {error}" for run, error in errors.items())
        sys.exit(f"error: {len(errors)} runs failed; their folders have a log.txt each{failed}")


if __name__ == "__main__":
    main()
