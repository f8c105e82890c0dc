"""Run the benchmarks of conf/benchmark.yaml, and write their records and tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pandas as pd
import torch
from omegaconf import DictConfig
from rich.progress import track

from src.benchmarking.clock import Record
from src.benchmarking.jobs import make_jobs
from src.benchmarking.tables import benchmark_tables, to_markdown
from src.common.atomic_files import atomic_write
from src.common.devices import select_device
from src.common.errors import InputError
from src.common.options import check_options
from src.common.provenance import code_revision, package_versions
from src.common.schemas import BenchmarkOptions
from src.rendering.text_table import write_texts


def benchmark(cfg: DictConfig) -> pd.DataFrame:
    """Run all benchmarks of a config; write records.parquet and table.md into `output_dir`.

    Returns:
        The records. A column that applies to other kinds of benchmark is empty; `failure` is the reason of an empty
        measurement.
    Raises:
        InputError: there is no GPU, or an option is invalid.
    """
    check_options(cfg, BenchmarkOptions)
    device, directory = select_device(cfg.device), Path(cfg.output_dir)
    with set_threads(cfg.threads):
        jobs = make_jobs(cfg, device)
        if not jobs:
            raise InputError("nothing to measure: what= or the lists it refers to (models=, workers=, ...) are empty")
        records: list[Record] = []
        for job in track(jobs, description="measuring"):
            records.append(job.record())
            frame = write_records(records, directory, cfg)  # after each job, as a later one may fail
    write_texts(directory, {"table.md": to_markdown(benchmark_tables(frame), frame)})
    return frame


def write_records(records: list[Record], directory: Path, cfg: DictConfig) -> pd.DataFrame:
    """Write records.parquet, with scale, code revision and package versions in each row."""
    frame = pd.DataFrame(records).assign(scale=cfg.scale.name, revision=str(code_revision()), **package_versions())
    with atomic_write(directory / "records.parquet") as path:
        frame.to_parquet(path, index=False)
    return frame


@contextmanager
def set_threads(number: int | None) -> Iterator[None]:
    """Let PyTorch and OpenCV use `number` CPU threads in the block; None for PyTorch's default."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    number = number or before[0]
    torch.set_num_threads(number)
    cv2.setNumThreads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
