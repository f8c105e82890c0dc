"""Measure networks, training, data and masks on this machine, or what a paper timed: `python -m src.benchmark`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import hydra
import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console, RenderableType
from rich.progress import track

from src.benchmarking.clock import Pace, Record
from src.benchmarking.forward import measure_forward
from src.benchmarking.jobs import Jobs, listed
from src.benchmarking.memory import at_most
from src.benchmarking.report import write_speed
from src.benchmarking.setting import setting_of
from src.benchmarking.tables import speed_tables
from src.benchmarking.tables import to_console as speed_to_console
from src.benchmarking.threads import threads
from src.common.atomic_files import atomic_write
from src.common.devices import select_device
from src.common.errors import InputError, report_input_errors
from src.common.options import check_options
from src.common.provenance import code_revision, device_name, package_versions
from src.common.resolvers import FOLDER
from src.common.schemas import BenchmarkOptions
from src.reproduction.papers import Metric, PaperTable, read_paper_file
from src.reproduction.timing import TimingTable, timing_table, to_console, write_timing

FILE_WIDTH = 120
"""Columns of what is printed where no terminal is, at least."""


def benchmark(cfg: DictConfig) -> pd.DataFrame:
    """Measure what conf/benchmark.yaml composes; write records.parquet, table.md and report.html into `output_dir`.

    Returns:
        The records: those of each kind lack the others' columns; `failure` says why a row has no numbers.
    Raises:
        InputError: there is no GPU, no such configuration, or a generator can't make its masks.
    """
    check_options(cfg, BenchmarkOptions)
    device = select_device(cfg.device)
    with (
        threads(cfg.threads or torch.get_num_threads()),
        at_most(cfg.max_memory_gib),
        tempfile.TemporaryDirectory() as temporary,
    ):
        jobs = Jobs(cfg, device, Path(temporary) / "photos").all()
        if not jobs:
            raise InputError("nothing to measure: what=, or masks=, models= and the like, are all empty")
        records: list[Record] = []
        for job in track(jobs, description="measuring"):
            records.append(job.record())
            frame = _written(records, Path(cfg.output_dir), cfg)  # now, as a later one may end the run
    write_speed(Path(cfg.output_dir), frame)
    return frame


def timed_table(name: str, cfg: DictConfig) -> TimingTable:
    """Measure the rows of a paper's table, one picture at a time; write records and table into `output_dir`/`name`.

    A column of another device than the chosen one stays empty, as nothing else may stand in for it.

    Args:
        name: e.g. ``mpga_gla/table4``.
        cfg: conf/benchmark.yaml.
    Raises:
        InputError: there is no GPU, no such table, its rows are not timed, or several sizes are asked for.
    """
    table = read_paper_file(FOLDER / f"{name}.yaml")
    if not isinstance(table, PaperTable) or table.side_px is None:
        raise InputError(f"table={name}: no table whose rows are timed; src.reproduce makes the others")
    sizes = listed(cfg.sizes or (table.side_px if cfg.scale.name == "paper" else cfg.scale.image_size))
    if len(sizes) > 1 or listed(cfg.batch_sizes) != [1]:
        raise InputError(
            "table= is of one picture at a time, all of one size: leave batch_sizes= out, and give one of sizes="
        )
    if cfg.baseline is not None:
        raise InputError("table= is beside what is printed: leave baseline= out")
    devices, absent = _devices_of(table.metrics, cfg.device)
    for device in devices.values():
        setting = setting_of(cfg, device)
    records: list[Record] = []
    measured: dict[tuple[str, str], Record] = {}
    for row in track([row.row for row in table.rows if row.row is not None], description="measuring"):
        composed = hydra.compose("train", overrides=[f"experiments={name}/{row}"])
        composed.scale = cfg.scale
        torch.manual_seed(0)
        network = instantiate(composed.model.network)
        by_device: dict[torch.device, Record] = {}
        for device in dict.fromkeys(devices.values()):
            with threads(cfg.threads or torch.get_num_threads()), at_most(cfg.max_memory_gib):
                known = {"name": f"{name}/{row}", "what": "forward", "side_px": sizes[0], "batch_size": 1}
                by_device[device] = {
                    **known,
                    "device": device_name(device),
                    **setting.columns(),
                    **measure_forward(network, sizes[0], 1, device, Pace(cfg.min_runs, cfg.min_seconds), setting),
                }
        measured |= {(metric, row): by_device[device] for metric, device in devices.items()}
        records += by_device.values()
        _written(records, Path(cfg.output_dir) / name, cfg)  # now, as a later one may end the run
    made = timing_table(table, measured, absent, _how(table.side_px, sizes[0], cfg))
    write_timing(Path(cfg.output_dir) / name, made)
    return made


def _devices_of(metrics: Sequence[Metric], wanted: str) -> tuple[dict[str, torch.device], dict[str, str]]:
    """The device on which each metric of ours is measured, or the reason why it is not."""
    chosen = select_device(wanted)
    devices, absent = {}, {}
    for metric in metrics:
        if metric.ours is None:
            continue
        if metric.device in (None, chosen.type):
            devices[metric.name] = chosen
        elif wanted != "auto":
            absent[metric.name] = f"device={wanted} was asked for, and this is a time of {metric.device}"
        else:
            try:
                devices[metric.name] = select_device(str(metric.device))
            except InputError as error:
                absent[metric.name] = str(error)
    return devices, absent


def _how(printed_px: int, side_px: int, cfg: DictConfig) -> list[str]:
    """How a table's rows were measured, and what makes them another thing than the printed ones."""
    precision = "float32" if cfg.precision == "32-true" else cfg.precision
    chosen = [f"{key}={str(cfg[key]).lower()}" for key in ("compile", "channels_last")]
    how = [
        f"Ours: scale={cfg.scale.name}, initial weights, {side_px}x{side_px} px, one picture at a time, "
        f"irregular holes of 30%, {', '.join([precision, *chosen])}, the forward pass alone. "
        f"Times are medians, in brackets quartiles, of {cfg.min_runs} runs or more."
    ]
    if side_px != printed_px:
        how.append(f"Printed times are of {printed_px}x{printed_px} px: ours are not to be compared with them.")
    if cfg.scale.name != "paper":
        how.append(
            "Networks below paper scale are others than the printed ones: a look at the command, not at the paper."
        )
    return how


def _written(records: list[Record], folder: Path, cfg: DictConfig) -> pd.DataFrame:
    """The records with what made them, written into records.parquet."""
    frame = pd.DataFrame(records).assign(scale=cfg.scale.name, revision=str(code_revision()), **package_versions())
    with atomic_write(folder / "records.parquet") as path:
        frame.to_parquet(path, index=False)
    return frame


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
@report_input_errors
def main(cfg: DictConfig) -> None:
    """Measure, and print tables."""
    console, folder = Console(), Path(cfg.output_dir)
    if not console.is_terminal:  # a file or a pipe, which has no width that could be too small
        console.width = max(console.width, FILE_WIDTH)
    if cfg.table is None:
        tables: list[RenderableType] = [speed_to_console(table) for table in speed_tables(benchmark(cfg))]
        written = [folder / name for name in ("records.parquet", "table.md", "report.html")]
    else:
        tables = [to_console(timed_table(cfg.table, cfg))]
        written = sorted((folder / cfg.table).iterdir())
    for table in tables:
        console.print(table)
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)


if __name__ == "__main__":
    main()
