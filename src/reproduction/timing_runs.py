"""Measure the rows of a paper's table of times on this machine."""

from dataclasses import asdict
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import track

from src.benchmarking.clock import MinDuration, Record
from src.benchmarking.forward import measure_forward
from src.benchmarking.jobs import as_list
from src.benchmarking.run import set_threads, write_records
from src.benchmarking.setting import make_setting
from src.common.devices import select_device
from src.common.errors import InputError
from src.common.options import check_options
from src.common.provenance import device_name
from src.common.resolvers import FOLDER
from src.common.schemas import BenchmarkOptions
from src.reproduction.papers import PaperTable, read_paper_file
from src.reproduction.timing import TimingTable, timing_table, write_timing


def time_table(name: str, cfg: DictConfig) -> TimingTable:
    """Measure the rows of a paper's table, one image at a time; write records and table into `output_dir`/`name`.

    A printed column of another device than the chosen one stays empty.

    Args:
        name: e.g. ``mpga_gla/table4``.
        cfg: conf/benchmark.yaml.
    Raises:
        InputError: there is no GPU or no such table, its rows are not timed, or the config asks for several sizes.
    """
    check_options(cfg, BenchmarkOptions)
    table = read_paper_file(FOLDER / f"{name}.yaml")
    if not isinstance(table, PaperTable) or table.side_px is None:
        raise InputError(f"table={name}: not a table of times; reproduce other tables with src.reproduce")
    sizes = as_list(cfg.sizes or (table.side_px if cfg.scale.name == "paper" else cfg.scale.image_size))
    if len(sizes) > 1 or as_list(cfg.batch_sizes) != [1]:
        raise InputError("table= measures one image at a time at one size: remove batch_sizes=, pass a single sizes=")
    (side_px,) = sizes
    devices, absent = _choose_devices(table, cfg.device)
    directory = Path(cfg.output_dir) / name
    records: list[Record] = []
    measured: dict[tuple[str, str], Record] = {}
    for row in track([row.row for row in table.rows if row.row is not None], description="measuring"):
        by_device = {
            device: _time_row(f"{name}/{row}", side_px, device, cfg) for device in dict.fromkeys(devices.values())
        }
        measured |= {(metric, row): by_device[device] for metric, device in devices.items()}
        records += by_device.values()
        write_records(records, directory, cfg)  # after each row, as a later one may fail
    timed = timing_table(table, measured, absent, _describe(table, side_px, cfg))
    write_timing(directory, timed)
    return timed


def _time_row(name: str, side_px: int, device: torch.device, cfg: DictConfig) -> Record:
    composed = hydra.compose("train", overrides=[f"experiments={name}"])
    composed.scale = cfg.scale
    torch.manual_seed(0)
    network, setting = instantiate(composed.model.network), make_setting(cfg, device)
    with set_threads(cfg.threads):
        measurement = measure_forward(network, side_px, 1, device, MinDuration(cfg.min_runs, cfg.min_seconds), setting)
    known = {"name": name, "what": "forward", "side_px": side_px, "batch_size": 1, "device": device_name(device)}
    return {**known, **asdict(setting), **measurement}


def _choose_devices(table: PaperTable, wanted: str) -> tuple[dict[str, torch.device], dict[str, str]]:
    """Return the device for each metric that we measure, and the reasons why other metrics are not measured."""
    chosen = select_device(wanted)
    devices, absent = {}, {}
    for metric in table.metrics:
        if metric.ours is None:
            continue
        if metric.device in (None, chosen.type):
            devices[metric.name] = chosen
        elif wanted != "auto":
            absent[metric.name] = f"device={wanted}, but the printed times are of {metric.device}"
        else:
            try:
                devices[metric.name] = select_device(str(metric.device))
            except InputError as error:
                absent[metric.name] = str(error)
    return devices, absent


def _describe(table: PaperTable, side_px: int, cfg: DictConfig) -> list[str]:
    """Describe how the rows were measured, and why they can't be compared with the printed ones, if so."""
    precision = "float32" if cfg.precision == "32-true" else cfg.precision
    notes = [
        f"Ours: scale={cfg.scale.name}, initial weights, {side_px}x{side_px} px, one image at a time, irregular holes "
        f"of 30%, {precision}, compile={str(cfg.compile).lower()}, literal={str(cfg.literal).lower()}, forward pass "
        f"only. Times are medians, with quartiles in brackets, of at least {cfg.min_runs} runs."
    ]
    if side_px != table.side_px:
        notes.append(f"Printed times are for {table.side_px}x{table.side_px} px: do not compare ours with them.")
    if cfg.scale.name != "paper":
        notes.append("Networks below paper scale are smaller than the printed ones: their times can't be compared.")
    return notes
