"""Serve a web page to paint over parts of images and fill them: `python -m src.app`."""

from omegaconf import DictConfig, ListConfig

from src.checkpoints.reading import SHIPPED
from src.common.command import command
from src.common.devices import select_device
from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import AppOptions
from src.webapp.api import Api
from src.webapp.encoding import Limits
from src.webapp.methods import MethodPool, find_methods

PRESELECTED_NETWORKS = 2
"""Number of the newest networks that are selected initially."""


def serve_app(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C, as a config of conf/app.yaml describes.

    Raises:
        InputError: an option is invalid, a checkpoint does not exist, Gradio is not installed, or the port is in use.
    """
    check_options(cfg, AppOptions)
    _check_sides(cfg)
    try:
        from src.webapp.page import build_page, serve  # Gradio is an optional dependency
    except ModuleNotFoundError as error:
        raise InputError(f"Gradio is not installed ({error}): pip install -c constraints.txt -e '.[app]'") from error
    select_device(cfg.device)  # fail now, not at the first request
    methods = find_methods([*cfg.folders, str(SHIPPED)], list(cfg.ckpt))
    names = [method.name for method in methods]
    if unknown := [name for name in cfg.preselected if name not in names]:
        raise InputError(f"preselected: unknown method {unknown[0]}; choose from {', '.join(names)}")
    networks = [method.name for method in methods if method.has_weights]
    limits = Limits(cfg.max_megabytes, cfg.max_megapixels, cfg.max_hole_megapixels)
    pool = MethodPool(methods, cfg.device, cfg.cached_networks)
    api = Api(pool, limits, tuple(cfg.sides_px), cfg.figure_side_px)
    page = build_page(api, cfg.side_px, {*networks[:PRESELECTED_NETWORKS], *cfg.preselected})
    print(f"{len(networks)} trained network(s), {len(methods) - len(networks)} classical methods")
    serve(api, page, cfg.host, cfg.port, cfg.share)


def _check_sides(cfg: DictConfig) -> None:
    sides = list(cfg.sides_px) if isinstance(cfg.sides_px, ListConfig) else []
    if not sides or not all(side is None or (type(side) is int and side > 0) for side in sides):
        raise InputError(f"sides_px must be a list of integers >= 1, or null for the image's size, got {cfg.sides_px}")
    if cfg.side_px not in sides:
        raise InputError(f"side_px={cfg.side_px} must be one of sides_px={sides}")


@command("app", AppOptions)
def main(cfg: DictConfig) -> None:
    """Serve the page."""
    serve_app(cfg)


if __name__ == "__main__":
    main()
