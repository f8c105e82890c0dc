"""Lay the panels of a W&B project out: `python -m src.dashboard entity=me project=inpainting-suite`."""

import json
from pathlib import Path

import hydra
from omegaconf import DictConfig

from src.common.atomic_files import atomic_write
from src.common.errors import InputError, report_input_errors
from src.common.options import check_options
from src.common.schemas import DashboardOptions
from src.loggers.wandb_dashboard import save, workspace


def dashboard(cfg: DictConfig) -> str:
    """Make the view as conf/dashboard.yaml says.

    Returns:
        Where it is: an address, or the file.
    Raises:
        InputError: there is no entity, W&B can't be used, or the file can't be written.
    """
    check_options(cfg, DashboardOptions)
    if cfg.entity is None:
        raise InputError("give entity=<the user or team that the W&B project belongs to>")
    view = workspace(cfg.entity, cfg.project, cfg.name)
    if cfg.output is None:
        return save(view)
    output = Path(cfg.output).expanduser()
    with atomic_write(output) as temporary:
        temporary.write_text(json.dumps(view._spec["spec"], indent=1), encoding="utf-8")  # as W&B is sent it
    return str(output)


@hydra.main(version_base="1.3", config_path="../conf", config_name="dashboard")
@report_input_errors
def main(cfg: DictConfig) -> None:
    """Make it, and say where it is."""
    print(f"view: {dashboard(cfg)}")


if __name__ == "__main__":
    main()
