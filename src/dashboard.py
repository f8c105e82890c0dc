"""Create a view of a W&B project: `python -m src.dashboard entity=me project=inpainting-suite`."""

import json
from pathlib import Path

from omegaconf import DictConfig

from src.common.atomic_files import atomic_write
from src.common.command import command
from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import DashboardOptions
from src.loggers.wandb_dashboard import make_workspace, save_view


def dashboard(cfg: DictConfig) -> str:
    """Create the view that a config of conf/dashboard.yaml describes, and return its URL or file.

    Raises:
        InputError: there is no entity, W&B is unavailable, or the file cannot be written.
    """
    check_options(cfg, DashboardOptions)
    if cfg.entity is None:
        raise InputError("set entity=<the user or team that owns the W&B project>")
    view = make_workspace(cfg.entity, cfg.project, cfg.name)
    if cfg.output is None:
        return save_view(view)
    output = Path(cfg.output).expanduser()
    with atomic_write(output) as temporary:
        temporary.write_text(json.dumps(view._spec["spec"], indent=1), encoding="utf-8")  # the JSON that is sent to W&B
    return str(output)


@command("dashboard", DashboardOptions)
def main(cfg: DictConfig) -> None:
    """Create the view and print its URL or file."""
    print(f"view: {dashboard(cfg)}")


if __name__ == "__main__":
    main()
