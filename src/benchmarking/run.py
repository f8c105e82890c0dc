"""Run the benchmarks of conf/benchmark.yaml, and write their records, tables and report."""

import tempfile
from pathlib import Path

import pandas as pd
import torch
from omegaconf import DictConfig
from rich.progress import track

from src.benchmarking.clock import Record
from src.benchmarking.jobs import Jobs
from src.benchmarking.memory import memory_limit
from src.benchmarking.report import write_report
from src.benchmarking.threads import threads
from src.common.atomic_files import atomic_write
from src.common.devices import select_device
from src.common.errors import InputError
from src.common.options import check_options
from src.common.provenance import code_revision, package_versions
from src.common.schemas import BenchmarkOptions


def benchmark(cfg: DictConfig) -> pd.DataFrame:
    """Run all benchmarks of a config; write records.parquet, table.md and report.html into `output_dir`.

    Returns:
        The records. A column that applies to other kinds of benchmark is empty; `failure` is the reason of an empty
        measurement.
    Raises:
        InputError: there is no GPU, an option is invalid, or a mask generator can't be built.
    """
    check_options(cfg, BenchmarkOptions)
    device = select_device(cfg.device)
    directory = Path(cfg.output_dir)
    with (
        threads(cfg.threads or torch.get_num_threads()),
        memory_limit(cfg.max_memory_gib),
        tempfile.TemporaryDirectory() as temporary,
    ):
        jobs = Jobs(cfg, device, Path(temporary) / "photos").all()
        if not jobs:
            raise InputError("nothing to measure: what= or the lists it refers to (models=, masks=, ...) are empty")
        records: list[Record] = []
        for job in track(jobs, description="measuring"):
            records.append(job.record())
            frame = write_records(records, directory, cfg)  # after each job, as a later one may fail
    write_report(directory, frame)
    return frame


def write_records(records: list[Record], directory: Path, cfg: DictConfig) -> pd.DataFrame:
    """Write records.parquet, with scale, code revision and package versions in each row."""
    frame = pd.DataFrame(records).assign(scale=cfg.scale.name, revision=str(code_revision()), **package_versions())
    with atomic_write(directory / "records.parquet") as path:
        frame.to_parquet(path, index=False)
    return frame
