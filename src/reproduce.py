"""Train and test the rows of a paper's table, and set ours beside what is printed: `python -m src.reproduce`."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import hydra
import pandas as pd
import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.console import Console
from torch import Tensor

from src.checkpoints.reading import load_checkpoint
from src.common.atomic_files import atomic_write
from src.common.errors import InputError, report_input_errors
from src.common.resolvers import FOLDER
from src.evaluation.records import read_records
from src.evaluation.report import write_report
from src.evaluation.scoring import crop_size
from src.loggers.setup import closing, keep_files, log_frame, make_loggers
from src.masks.bank import MaskBank
from src.networks.interface import InpaintingNetwork, composite
from src.rendering.curves import read_metrics
from src.rendering.grids import comparison_grid, filled_samples, hatch_hole, to_rgb
from src.reproduction.comparison import Reproduction, reproduction
from src.reproduction.figures import draw_figure, write_figure
from src.reproduction.formats import console_table, write_reproduction
from src.reproduction.frame import to_frame
from src.reproduction.html import to_html
from src.reproduction.outcomes import Failure, RowOutcome
from src.reproduction.papers import PaperFigure, PaperTable, read_paper_file
from src.reproduction.row_tests import mask_of_test, tested_data
from src.reproduction.runs import (
    Run,
    asked_for,
    checkpoint_of,
    given_checkpoint,
    group_of,
    rows_of,
    run_all,
    runs_of,
    tables_alone,
    typed_keys,
    typed_overrides,
)
from src.reproduction.timing import text_table
from src.reproduction.timing_runs import time_table
from src.training.resume.identity import IRRELEVANT_OPTIONS

SHOWN_PICTURES = 4

UNSAID = set().union(*IRRELEVANT_OPTIONS.values()) | {
    *("table", "scale", "study", "rows", "seeds", "data", "mask", "root", "pictures", "overrides"),
    *("checkpoints", "test_masks_per_bin", "test_mask", "test_size", "devices", "num_nodes"),
    *("progress", "health", "references", "attention", "report"),  # callbacks
}
"""Last words of keys that a report has no need to repeat: it shows what they chose, or they change nothing."""

WORTH = {
    "small": "Values are not comparable with the printed ones: images and networks are smaller, training is shorter.",
    "mini": "Values are not to be compared with the printed ones; of the rows' differences, signs and order at most.",
    "smoke": "A few steps of a sliver of the network: its numbers mean nothing.",
}
"""What the numbers of a scale below the paper's are worth."""


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
        _time(cfg)
        return {}
    if made.data is None and cfg.scale.name == "paper" and not typed_keys(cfg) & {"data", "data.root"}:
        raise InputError(
            f"table={cfg.table} is of photos and masks of one's own: give data=folder data.root=<photos> mask=folder "
            "mask.root=<masks>"
        )
    if not (rows := rows_of(made, cfg.table)):
        raise InputError(f"table={cfg.table}: none of its rows is built here")
    asked = set(asked_for(cfg, rows))
    runs = runs_of(cfg, rows)
    errors = run_all(cfg, [run for run in runs if run.row in asked])
    shown = [run for run in runs if run.row in asked or (run.records.is_file() and not run.changed)]
    if isinstance(made, PaperFigure):
        _report_figure(cfg, made, shown, errors)
    elif made.kind == "votes":
        _write_study(cfg, shown, errors)
    else:
        _report_table(cfg, made, shown, errors)
    return errors


def _time(cfg: DictConfig) -> None:
    if unknown := typed_keys(cfg) - {"table", "scale", "study"}:
        raise InputError(
            f"table={cfg.table} is of times, which {', '.join(sorted(unknown))} can't change here: "
            f"python -m src.benchmark table={cfg.table} has more keys"
        )
    timing = compose("benchmark", [f"scale={cfg.scale.name}"])
    timing.output_dir = cfg.study
    Console().print(text_table(time_table(cfg.table, timing), reasons=True).to_console())
    print(f"tables: {Path(cfg.study) / cfg.table}")


def _report_table(cfg: DictConfig, table: PaperTable, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    names = dict.fromkeys(run.name for run in runs)
    outcomes = {name: _outcome(cfg, [run for run in runs if run.name == name], errors) for name in names}
    folder, notes = Path(cfg.study) / cfg.table, _departures(cfg, table, runs)
    found = reproduction(table, outcomes, caption=f"{table.title}. {table.paper}, {table.source}", notes=notes)
    write_reproduction(folder, found)
    Console().print(console_table(found).to_console())
    _log_table(cfg, folder, found)
    methods = {row.row: row.method for row in table.rows if row.row}
    finished = {f"{methods[run.name]}, seed {run.seed}": run for run in runs if run not in errors}
    networks = {methods[run.name]: network for run, network in _networks(cfg, runs, errors).items()}
    shown = _shown(runs[0], cfg.pictures or SHOWN_PICTURES) if networks else ()
    write_report(
        folder / "report.html",
        table.title,
        tables=[to_html(replace(found, notes=found.notes[len(notes) :]))],  # the page begins with these notes
        provenance={name: read_records(run.records)[1] for name, run in finished.items()},
        grids=[
            comparison_grid(filled_samples(networks, image, mask), f"{name}, seed {cfg.seed}")
            for name, image, mask in shown
        ],
        runs={name: logged for name, run in finished.items() if (logged := _logged(run)) is not None},
        notes=notes,
    )
    print(f"report: {folder / 'report.html'}")


def _log_table(cfg: DictConfig, folder: Path, found: Reproduction) -> None:
    """Into W&B, where rows are logged there: ours beside the paper's, in a run of the group of the rows' own."""
    command = OmegaConf.create({"logger": tables_alone(cfg)})
    for chosen in command.logger.values():
        chosen.save_dir, chosen.group = str(folder), chosen.group or group_of(cfg)
    loggers = make_loggers(command, "reproduce", (cfg.table, cfg.scale.name))
    with closing(loggers):
        for logger in loggers:
            logger.log_hyperparams({"table": cfg.table, "scale": cfg.scale.name, "seeds": cfg.seeds})
            log_frame(logger, "reproduction", to_frame(found))
        keep_files(loggers, "table", {name: folder / name for name in ("table.md", "table.tex", "table.csv")})


def _logged(run: Run) -> pd.DataFrame | None:
    """What training logged; None of a given checkpoint."""
    path = run.folder / "csv" / "metrics.csv"
    return read_metrics(path) if path.is_file() else None


def _report_figure(cfg: DictConfig, figure: PaperFigure, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    networks = {run.row.partition("/")[2]: network for run, network in _networks(cfg, runs, errors).items()}
    if not networks:
        return
    batches = [(image, mask) for _, image, mask in _shown(runs[0], cfg.pictures or SHOWN_PICTURES)]
    page = write_figure(
        Path(cfg.study) / cfg.table,
        figure,
        draw_figure(figure, networks, batches),
        provenance={f"{run.row}, seed {run.seed}": read_records(run.records)[1] for run in runs if run not in errors},
        notes=_departures(cfg, figure, runs),
    )
    print(f"report: {page}")


def _write_study(cfg: DictConfig, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    """The pictures that a user study shows: a folder of inputs, and one of every row's results."""
    folder = Path(cfg.study) / cfg.table / "pictures"
    networks = {run.name: network for run, network in _networks(cfg, runs, errors).items()}
    for part in ("input", *networks):
        for old in (folder / part).glob("*.png"):  # of a command that asked for more pictures
            old.unlink()
    for number, (_, image, mask) in enumerate(_shown(runs[0], cfg.pictures), start=1):
        _save(hatch_hole(image, mask)[0], folder / "input" / f"{number:04}.png")
        for name, network in networks.items():
            with torch.inference_mode():
                filled = composite(image, mask, network(image, mask))
            _save(filled[0], folder / name / f"{number:04}.png")
    print(f"pictures: {folder}\nask people: python -m src.user_study table={cfg.table} pictures={folder}")


def _save(image: Tensor, path: Path) -> None:
    with atomic_write(path) as temporary:
        Image.fromarray(to_rgb(image)).save(temporary, format="PNG")


def _networks(cfg: DictConfig, runs: Sequence[Run], errors: Mapping[Run, str]) -> dict[Run, InpaintingNetwork]:
    """Of the first seed of every row that has one, and still has its checkpoint."""
    checkpoints = {run: checkpoint_of(run.config, run.folder) for run in runs if run.seed == cfg.seed}
    return {
        run: load_checkpoint(path).network for run, path in checkpoints.items() if run not in errors and path.exists()
    }


def _shown(run: Run, count: int | None) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Test pictures, each as a batch of one with a mask of the next bin."""
    data = instantiate(tested_data(run.config).datamodule).with_masks(test_bank=MaskBank.load(run.bank))
    for number, (name, image, mask) in enumerate(data.test_images(count), start=1):
        chosen = slice(number % len(mask), number % len(mask) + 1)
        yield name, image[chosen], mask[chosen]


def _departures(cfg: DictConfig, made: PaperTable | PaperFigure, runs: Sequence[Run]) -> list[str]:
    """What differs from the paper's experiment, in sentences for the report."""
    of_row = runs[0].config
    notes = []
    if cfg.scale.name in WORTH:
        notes.append(
            f"Scale {cfg.scale.name}, not the paper's experiment: {of_row.scale.image_size} px, "
            f"{of_row.scale.width:g} of the channels, {of_row.trainer.max_steps} generator steps. "
            f"{WORTH[cfg.scale.name]}"
        )
    for what, printed, ours in (("Pictures", made.data, of_row.data.name), ("Masks", made.mask, of_row.mask.name)):
        if printed not in (None, ours):
            notes.append(f"{what}: {ours}, in the place of {printed}.")
    notes += _test_departures(made, of_row)
    features = {str(run.config.loss.features.weights) for run in runs if "features" in run.config.loss}
    if features - {"pretrained"}:
        notes.append(
            "The losses' perceptual and style terms, which compare features of a trained VGG-16, are "
            f"{'off' if features == {'none'} else 'of other weights'} (loss.features.weights={', '.join(features)})."
        )
    keys = {one: one.partition("=")[0].split(".") for one in typed_overrides(cfg)}
    typed = [one for one, key in keys.items() if key[-1] not in UNSAID and key[0] != "logger"]
    if typed:
        notes.append(f"Typed with the command: {' '.join(typed)}.")
    return notes


def _test_departures(made: PaperTable | PaperFigure, of_row: DictConfig) -> list[str]:
    """Test masks and sizes that are not the printed ones, where the run's training does not say so already."""
    notes = []
    masks, printed = mask_of_test(of_row).name, getattr(made, "test_mask", None) or made.mask
    if masks not in (printed, of_row.mask.name):
        notes.append(f"Test masks: {masks}, in the place of {printed}.")
    size, printed_size = crop_size(of_row), getattr(made, "test_size", None)
    if printed_size not in (None, size):
        notes.append(
            f"Test images: {size[0]}x{size[1]} px, in the place of {printed_size[0]}x{printed_size[1]}; training crops "
            f"have {of_row.scale.image_size}x{of_row.scale.image_size}."
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
@report_input_errors
def main(cfg: DictConfig) -> None:
    """Reproduce, print the table, and say where the report is."""
    if errors := reproduce(cfg):
        failed = "".join(f"\n  {run.row}, seed {run.seed}: {error}" for run, error in errors.items())
        sys.exit(f"error: {len(errors)} runs failed; log.txt in a run's folder has the rest{failed}")


if __name__ == "__main__":
    main()
