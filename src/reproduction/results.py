"""What a reproduction writes when its runs are finished: a table's report, a figure, or the images of a user study."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.console import Console
from torch import Tensor

from src.checkpoints.reading import load_checkpoint
from src.common.atomic_files import atomic_write
from src.evaluation.records import read_records
from src.evaluation.report import write_report
from src.loggers.setup import closing, log_artifact, log_frame, make_loggers
from src.masks.bank import MaskBank
from src.networks.interface import InpaintingNetwork, composite
from src.rendering.curves import read_metrics
from src.rendering.grids import comparison_grid, fill_samples, hatch_hole, to_rgb
from src.reproduction.comparison import Reproduction, compare_with_paper
from src.reproduction.departures import describe_departures
from src.reproduction.figures import draw_figure, write_figure
from src.reproduction.formats import console_table, write_reproduction
from src.reproduction.frame import to_frame
from src.reproduction.html import to_html
from src.reproduction.outcomes import Failure, RowOutcome
from src.reproduction.papers import PaperFigure, PaperTable
from src.reproduction.planning import table_loggers, wandb_group
from src.reproduction.row_tests import data_for_testing
from src.reproduction.runs import Run, given_checkpoint, tested_checkpoint

DEFAULT_IMAGES = 4
"""Number of test images in a report or figure."""


def write_table_results(cfg: DictConfig, table: PaperTable, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    """Write and print a table with our numbers, log it to W&B, and write the HTML report."""
    directory, notes = Path(cfg.study) / cfg.table, describe_departures(cfg, table, runs)
    names = dict.fromkeys(run.name for run in runs)
    outcomes = {name: _outcome(cfg, [run for run in runs if run.name == name], errors) for name in names}
    caption = f"{table.title}. {table.paper}, {table.source}"
    found = compare_with_paper(table, outcomes, caption=caption, notes=notes)
    write_reproduction(directory, found)
    Console().print(console_table(found).to_console())
    _log_table(cfg, directory, found)
    methods = {row.row: row.method for row in table.rows if row.row}
    finished = {f"{methods[run.name]}, seed {run.seed}": run for run in runs if run not in errors}
    networks = {methods[run.name]: network for run, network in _load_networks(cfg, runs, errors).items()}
    batches = _test_batches(runs[0], cfg.images or DEFAULT_IMAGES) if networks else ()
    write_report(
        directory / "report.html",
        table.title,
        tables=[to_html(replace(found, notes=found.notes[len(notes) :]))],  # the page shows these notes at its top
        provenance={name: read_records(run.records)[1] for name, run in finished.items()},
        grids=[
            comparison_grid(fill_samples(networks, image, mask), f"{name}, seed {cfg.seed}")
            for name, image, mask, _ in batches
        ],
        runs={  # none was trained for a given checkpoint
            name: read_metrics(path)
            for name, run in finished.items()
            if (path := run.directory / "csv" / "metrics.csv").is_file()
        },
        notes=notes,
    )
    print(f"report: {directory / 'report.html'}")


def write_figure_results(cfg: DictConfig, figure: PaperFigure, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    """Draw a figure with our networks; without any network nothing is written."""
    networks = {run.row.partition("/")[2]: network for run, network in _load_networks(cfg, runs, errors).items()}
    if not networks:
        return
    batches = [(image, mask) for _, image, mask, _ in _test_batches(runs[0], cfg.images or DEFAULT_IMAGES)]
    page = write_figure(
        Path(cfg.study) / cfg.table,
        figure,
        draw_figure(figure, networks, batches),
        provenance={f"{run.row}, seed {run.seed}": read_records(run.records)[1] for run in runs if run not in errors},
        notes=describe_departures(cfg, figure, runs),
    )
    print(f"report: {page}")


def write_study_images(cfg: DictConfig, runs: Sequence[Run], errors: Mapping[Run, str]) -> None:
    """Write the images of a user study: a directory of inputs, and one directory of results for each row.

    The names of images end with the index of their sample in the records, by which scores are compared with votes.
    """
    directory = Path(cfg.study) / cfg.table / "images"
    networks = {run.name: network for run, network in _load_networks(cfg, runs, errors).items()}
    for part in ("input", *networks):
        for old in (directory / part).glob("*.png"):  # of an earlier command with more images
            old.unlink()
    for file, image, mask, index in _test_batches(runs[0], cfg.images):
        name_in_study = f"{Path(file).stem}_{index}.png"
        _save(hatch_hole(image, mask)[0], directory / "input" / name_in_study)
        for name, network in networks.items():
            with torch.inference_mode():
                filled = composite(image, mask, network(image, mask))
            _save(filled[0], directory / name / name_in_study)
    print(f"images: {directory}\nask people: python -m src.user_study table={cfg.table} images={directory}")


def _outcome(cfg: DictConfig, runs: Sequence[Run], errors: Mapping[Run, str]) -> RowOutcome:
    given = given_checkpoint(cfg, runs[0].row)
    return RowOutcome(
        records={run.seed: run.records for run in runs if run not in errors},
        failures={run.seed: Failure(errors[run], run.directory / "log.txt") for run in runs if run in errors},
        given=None if given is None else Path(given),
    )


def _log_table(cfg: DictConfig, directory: Path, found: Reproduction) -> None:
    """Log the table to W&B, in a run of the rows' group."""
    command = OmegaConf.create({"logger": table_loggers(cfg)})
    for logger_cfg in command.logger.values():
        logger_cfg.save_dir, logger_cfg.group = str(directory), logger_cfg.group or wandb_group(cfg)
    loggers = make_loggers(command, "reproduce", (cfg.table, cfg.scale.name))
    with closing(loggers):
        for logger in loggers:
            logger.log_hyperparams({"table": cfg.table, "scale": cfg.scale.name, "seeds": cfg.seeds})
            log_frame(logger, "reproduction", to_frame(found))
        log_artifact(loggers, "table", {name: directory / name for name in ("table.md", "table.tex", "table.csv")})


def _load_networks(cfg: DictConfig, runs: Sequence[Run], errors: Mapping[Run, str]) -> dict[Run, InpaintingNetwork]:
    """Load the first seed's network of each row whose checkpoint exists, or that has no weights."""
    networks: dict[Run, InpaintingNetwork] = {}
    for run in (run for run in runs if run.seed == cfg.seed and run not in errors):
        checkpoint = tested_checkpoint(run.config, run.directory)
        if checkpoint is None:
            networks[run] = instantiate(run.config.model.network)
        elif checkpoint.exists():
            networks[run] = load_checkpoint(checkpoint).network
    return networks


def _test_batches(run: Run, count: int | None) -> Iterator[tuple[str, Tensor, Tensor, int]]:
    """Yield name, image, mask and index of test samples, one at a time; the masks take turns over the bins."""
    data = instantiate(data_for_testing(run.config).datamodule).with_masks(test_bank=MaskBank.load(run.bank))
    for number, (name, image, mask, indices) in enumerate(data.images("test", count), start=1):
        bin_ = number % len(mask)
        yield name, image[bin_ : bin_ + 1], mask[bin_ : bin_ + 1], indices[bin_]


def _save(image: Tensor, path: Path) -> None:
    with atomic_write(path) as temporary:
        Image.fromarray(to_rgb(image)).save(temporary, format="PNG")
