"""Measure mask generators and networks on this machine, or what a paper timed: `python -m src.benchmark`."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import hydra
import numpy as np
import pandas as pd
import torch
from hydra.errors import MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from src.data.masks import MaskGenerator, RandomShapes
from src.devices import chosen_device
from src.errors import InputError, reports_input_errors
from src.experiments import FOLDER
from src.networks.interface import InpaintingNetwork
from src.reporting.files import written_whole
from src.reporting.papers import Metric, PaperTable, read_paper_file
from src.reporting.provenance import code_revision, device_name, package_versions
from src.reporting.timing import TimingTable, timing_table, to_console, write_timing

CPU = torch.device("cpu")

Record = dict[str, Any]
"""One measurement, a row of the Parquet file. Every record has what, name, side_px, batch_size, device and a timing."""


def timing(run: Callable[[], object], device: torch.device, *, min_runs: int, min_seconds: float) -> Record:
    """Time `run`, after one run that is not counted: it fills caches and chooses algorithms.

    Returns:
        The number of runs, and the median and quartiles of their seconds.
    """

    def wait() -> None:
        if device.type == "cuda":  # it works on after a call has returned
            torch.cuda.synchronize(device)

    seconds: list[float] = []
    run()
    while len(seconds) < min_runs or sum(seconds) < min_seconds:
        wait()
        start = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - start)
    lower, median, upper = (float(s) for s in np.percentile(seconds, [25, 50, 75]))
    return {"runs": len(seconds), "lower_quartile_s": lower, "median_s": median, "upper_quartile_s": upper}


def measure_masks(generator: MaskGenerator, hole_share: tuple[float, float], side_px: int, cfg: DictConfig) -> Record:
    """Masks a second, on one thread, hole shares anywhere in the range.

    A run draws `masks_per_run`: single ones differ too much for their median to tell how many come in a second.
    """
    rng, count = np.random.default_rng(0), cfg.masks_per_run

    def draw() -> None:
        for _ in range(count):
            generator((side_px, side_px), rng, hole_share)

    with threads(1):
        timed = timing(draw, CPU, min_runs=cfg.min_runs, min_seconds=cfg.min_seconds)
        return {
            "what": "masks",
            "side_px": side_px,
            "batch_size": count,
            "device": device_name(CPU),
            **timed,
            "per_second": count / timed["median_s"],
        }


def measure_forward(
    network: InpaintingNetwork, side_px: int, batch_size: int, device: torch.device, cfg: DictConfig
) -> Record:
    """Size, work and latency of a network in evaluation mode and float32, on noise with irregular holes of 30%.

    FLOPs are of one image and count a multiplication and an addition as two. They are those of convolutions and matrix
    products, which is nearly all; None where there are none.
    """
    network = network.eval().to(device)
    image = torch.rand(batch_size, 3, side_px, side_px, device=device)
    masks = [RandomShapes()((side_px, side_px), np.random.default_rng(k), (0.29, 0.31)) for k in range(batch_size)]
    mask = torch.from_numpy(np.stack(masks))[:, None].to(device).float()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image, mask)
    with torch.inference_mode(), threads(cfg.threads or torch.get_num_threads()):
        timed = timing(lambda: network(image, mask), device, min_runs=cfg.min_runs, min_seconds=cfg.min_seconds)
        return {
            "what": "forward",
            "side_px": side_px,
            "batch_size": batch_size,
            "device": device_name(device),
            "parameters": sum(p.numel() for p in network.parameters()),
            "flops": counter.get_total_flops() // batch_size or None,
            **timed,
            "per_second": batch_size / timed["median_s"],
        }


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let PyTorch and OpenCV use so many CPU threads."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(number)
    cv2.setNumThreads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def benchmark(cfg: DictConfig) -> pd.DataFrame:
    """Measure masks and models as conf/benchmark.yaml composes; write records.parquet into `output_dir`.

    Returns:
        The records: those of each kind lack the other's columns.
    Raises:
        InputError: there is no GPU, no such configuration, or a generator can't make its masks.
    """
    device = chosen_device(cfg.device)
    records: list[Record] = []
    for name in _listed(cfg.masks):
        mask = _chosen("mask", name, cfg)
        for side_px in _listed(cfg.mask_sizes):
            record = measure_masks(instantiate(mask.generator), tuple(mask.hole_share), side_px, cfg)
            records.append({"name": name, **record})
    for name in _listed(cfg.models):
        torch.manual_seed(0)
        network = instantiate(_chosen("model", name, cfg).network)
        for side_px in _listed(cfg.sizes or cfg.scale.image_size):
            for batch_size in _listed(cfg.batch_sizes):
                records.append({"name": name, **measure_forward(network, side_px, batch_size, device, cfg)})
    if not records:
        raise InputError("nothing to measure: masks= and models= are both empty")
    return _written(records, Path(cfg.output_dir), cfg)


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
    sizes = _listed(cfg.sizes or (table.side_px if cfg.scale.name == "paper" else cfg.scale.image_size))
    if len(sizes) > 1 or _listed(cfg.batch_sizes) != [1]:
        raise InputError(
            "table= is of one picture at a time, all of one size: leave batch_sizes= out, and give one of sizes="
        )
    devices, absent = _devices_of(table.metrics, cfg.device)
    records: list[Record] = []
    measured: dict[tuple[str, str], Record] = {}
    for row in track([row.row for row in table.rows if row.row is not None], description="measuring"):
        composed = hydra.compose("train", overrides=[f"experiments={name}/{row}"])
        composed.scale = cfg.scale
        torch.manual_seed(0)
        network = instantiate(composed.model.network)
        by_device = {
            device: measure_forward(network, sizes[0], 1, device, cfg) for device in dict.fromkeys(devices.values())
        }
        measured |= {(metric, row): by_device[device] for metric, device in devices.items()}
        records += [{"name": f"{name}/{row}", **record} for record in by_device.values()]
    made = timing_table(table, measured, absent, _how(table.side_px, sizes[0], cfg))
    _written(records, Path(cfg.output_dir) / name, cfg)
    write_timing(Path(cfg.output_dir) / name, made)
    return made


def _devices_of(metrics: Sequence[Metric], wanted: str) -> tuple[dict[str, torch.device], dict[str, str]]:
    """The device on which each metric of ours is measured, or the reason why it is not."""
    chosen = chosen_device(wanted)
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
                devices[metric.name] = chosen_device(str(metric.device))
            except InputError as error:
                absent[metric.name] = str(error)
    return devices, absent


def _how(printed_px: int, side_px: int, cfg: DictConfig) -> list[str]:
    """How a table's rows were measured, and what makes them another thing than the printed ones."""
    how = [
        f"Ours: scale={cfg.scale.name}, initial weights, {side_px}x{side_px} px, one picture at a time, "
        "irregular holes of 30%, float32, the forward pass alone. "
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
    with written_whole(folder / "records.parquet") as path:
        frame.to_parquet(path, index=False)
    return frame


def _listed(value: Any) -> list[Any]:
    """`models=lbam` is `models=[lbam]`."""
    return list(value) if isinstance(value, ListConfig) else [value]


def _chosen(group: str, name: str, cfg: DictConfig) -> DictConfig:
    """The node of a configuration group's choice, at the scale of `cfg`."""
    try:
        composed = hydra.compose("benchmark", overrides=[f"+{group}={name}"])
    except MissingConfigException as error:
        raise InputError(f"{group}s={name}: {error}") from error
    composed.scale = cfg.scale
    node: DictConfig = composed[group]
    return node


def _tables(frame: pd.DataFrame) -> Iterator[Table]:
    """What was measured, for the terminal; a table for each kind and device."""
    headings = {"masks": "masks a second", "forward": "networks"}
    for (what, device), records in frame.groupby(["what", "device"], sort=False):
        table = Table(title=f"{headings[str(what)]}, {device}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("", overflow="fold")  # where the line is short, names give way, not numbers
        sizes = ["M params", "GFLOP"] if what == "forward" else []
        for heading in (*sizes, "px", "batch", "ms", "quartiles", "per s"):
            table.add_column(heading, justify="right", no_wrap=True)
        for record in records.to_dict("records"):
            row = [record["name"]]
            if what == "forward":
                row.append(f"{record['parameters'] / 1e6:.2f}")
                row.append("" if pd.isna(record["flops"]) else f"{record['flops'] / 1e9:,.2f}")
            lower, median, upper = (1e3 * record[f"{q}_s"] for q in ("lower_quartile", "median", "upper_quartile"))
            row += [
                str(record["side_px"]),
                str(record["batch_size"]),
                f"{median:.4g}",
                f"{lower:.4g}-{upper:.4g}",
            ]
            table.add_row(*row, f"{record['per_second']:,.{0 if record['per_second'] >= 100 else 2}f}")
        yield table


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Measure, and print tables."""
    console, folder = Console(), Path(cfg.output_dir)
    if cfg.table is None:
        tables, written = list(_tables(benchmark(cfg))), [folder / "records.parquet"]
    else:
        tables = [to_console(timed_table(cfg.table, cfg))]
        written = sorted((folder / cfg.table).iterdir())
    for table in tables:
        console.print(table)
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)


if __name__ == "__main__":
    main()
