"""Benchmark networks, training and data loading, or a paper's table of times: `python -m src.benchmark`."""

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console, RenderableType

from src.benchmarking.run import benchmark
from src.benchmarking.tables import benchmark_tables, failures
from src.common.command import command
from src.common.errors import IncompleteError
from src.common.schemas import BenchmarkOptions
from src.reproduction.timing import text_table
from src.reproduction.timing_runs import time_table

FILE_WIDTH = 120
"""Minimum columns of tables that are printed to a file or pipe."""


@command("benchmark", BenchmarkOptions)
def main(cfg: DictConfig) -> None:
    """Run the benchmarks and print their tables; raises IncompleteError if measurements failed."""
    console, directory = Console(), Path(cfg.output_dir, cfg.table or "")
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console.width = max(console.width, FILE_WIDTH)
    if cfg.table is None:
        tables: list[RenderableType] = [table.to_console() for table in benchmark_tables(benchmark(cfg))]
        written = [directory / name for name in ("records.parquet", "table.md")]
    else:
        tables = [text_table(time_table(cfg.table, cfg), reasons=True).to_console()]
        written = sorted(directory.iterdir())
    for table in tables:
        console.print(table)
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)
    records = pd.read_parquet(directory / "records.parquet").to_dict("records")
    if failed := [record for record in records if not pd.isna(record.get("failure"))]:
        raise IncompleteError(f"measured {len(records) - len(failed)} of {len(records)}", failures(failed))


if __name__ == "__main__":
    main()
