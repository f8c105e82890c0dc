"""Train and test the rows of a paper's table: `python -m src.reproduce table=lbam/table2 scale=mini`."""

import sys

from omegaconf import DictConfig

from src.common.command import command
from src.common.schemas import ReproduceOptions, TrainOptions
from src.reproduction.run import reproduce


@command("reproduce", TrainOptions, ReproduceOptions)
def main(cfg: DictConfig) -> None:
    """Reproduce a table or figure, and exit with an error if a run failed."""
    if errors := reproduce(cfg):
        failed = "".join(f"\n  {run.row}, seed {run.seed}: {error}" for run, error in errors.items())
        sys.exit(f"error: {len(errors)} runs failed; see log.txt in their run directories{failed}")


if __name__ == "__main__":
    main()
