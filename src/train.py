"""Train one model: `python -m src.train model=lbam data=places`."""

import logging
from contextlib import nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

import src.common.resolvers  # rows of the papers' tables as experiments=
import src.common.run_dir  # noqa: F401  # ${run_dir:}
from src.common.command import command
from src.common.schemas import TrainOptions
from src.training.callbacks.health import DivergedError
from src.training.resume.checkpoints import RunFinishedError
from src.training.resume.run_dirs import BEST, mark_failed, read_finished, run_dir_lock
from src.training.run import train

log = logging.getLogger(__name__)


@command("train", TrainOptions)
def main(cfg: DictConfig) -> float | None:
    """Train; return the best validation PSNR, or edge F1 where MECNet is trained alone, for sweepers to maximise."""
    run_dir = Path(str(cfg.output_dir))  # a number names a directory too
    # The further processes of a DDP run execute this too; the first one holds the lock for all.
    is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it
    with run_dir_lock(run_dir) if is_first else nullcontext():
        try:
            train(cfg)
        except RunFinishedError as error:
            log.info("%s", error)
        except DivergedError as error:
            if HydraConfig.get().mode is not RunMode.MULTIRUN:
                raise
            log.error("error: %s", error)  # ends this run; the others of the multirun continue
            if is_first:
                mark_failed(run_dir, str(error))
            return None
    if is_first:
        written = (run_dir / "checkpoints").is_dir()  # not with callbacks=null
        print(f"checkpoints: {run_dir}/checkpoints" if written else f"no checkpoints were written to {run_dir}")
    finished = read_finished(run_dir) or {}
    return next((finished[key] for key in BEST if finished.get(key) is not None), None)


if __name__ == "__main__":
    main()
