"""A web page to paint over parts of photos and fill them: `python -m src.app`."""

import hydra
from omegaconf import DictConfig, ListConfig

from src.common.devices import select_device
from src.common.errors import InputError, report_input_errors
from src.common.options import check_options
from src.common.schemas import AppOptions
from src.webapp.answers import Answers
from src.webapp.methods import Methods, methods_found
from src.webapp.pictures import Limits

NETWORKS_TICKED = 2
"""So many of the newest networks are ticked at first."""


def app(cfg: DictConfig) -> None:
    """Serve until Ctrl-C, as conf/app.yaml composes.

    Raises:
        InputError: a key is unfit, a checkpoint is not there, Gradio is missing, or the address is taken.
    """
    check_options(cfg, AppOptions)
    _check_sides(cfg)
    try:
        from src.webapp.page import app_page, serve  # Gradio is an extra
    except ModuleNotFoundError as error:
        raise InputError(f"the page needs Gradio ({error}): pip install -c constraints.txt -e '.[app]'") from error
    select_device(cfg.device)  # what is wrong with it is said now
    found = methods_found(list(cfg.folders), list(cfg.ckpt))
    names = [method.name for method in found]
    if unknown := [name for name in cfg.ticked if name not in names]:
        raise InputError(f"ticked={unknown[0]}: there is no such method here, but {', '.join(names)}")
    networks = [method.name for method in found if method.has_weights]
    limits = Limits(cfg.max_megabytes, cfg.max_megapixels, cfg.max_hole_megapixels)
    answers = Answers(Methods(found, cfg.device, cfg.keep), limits, tuple(cfg.sides_px), cfg.inside_px)
    page = app_page(answers, cfg.side_px, {*networks[:NETWORKS_TICKED], *cfg.ticked})
    print(f"{len(networks)} trained networks found, and {len(found) - len(networks)} methods without weights")
    serve(page, cfg.host, cfg.port, cfg.share, limits.request_bytes)


def _check_sides(cfg: DictConfig) -> None:
    sides = list(cfg.sides_px) if isinstance(cfg.sides_px, ListConfig) else []
    if not sides or not all(side is None or (type(side) is int and side > 0) for side in sides):
        raise InputError(f"sides_px must be a list of pixels, null for a photo's own size, got {cfg.sides_px}")
    if cfg.side_px not in sides:
        raise InputError(f"side_px={cfg.side_px}: choose one of sides_px={sides}")


@hydra.main(version_base="1.3", config_path="../conf", config_name="app")
@report_input_errors
def main(cfg: DictConfig) -> None:
    """Serve the page."""
    app(cfg)


if __name__ == "__main__":
    main()
