"""Serve a web page to paint over parts of images and fill them: `python -m src.app`."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig, open_dict

from src.checkpoints.export_directory import WEIGHTS
from src.checkpoints.weights import list_shipped, load_weights
from src.common.command import command
from src.common.devices import select_device
from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import AppOptions
from src.webapp.api import AUTO, Api
from src.webapp.descriptions import describe, preselect
from src.webapp.encoding import Limits
from src.webapp.methods import MethodPool, find_methods


def serve_app(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C, as a config of conf/app.yaml describes.

    Raises:
        InputError: an option is invalid, a checkpoint does not exist, Gradio is not installed, or the port is in use.
    """
    with open_dict(cfg):  # of the model, only its name matters: the weights' config defines the network
        model = None if (chosen := cfg.pop("model", None)) is None else chosen.name
    check_options(cfg, AppOptions)
    _check_sides(cfg)
    if model is not None and cfg.weights is None:
        raise InputError(f"model={model} needs weights=<shipped size or path>; classical methods are offered anyway")
    try:
        from src.webapp.page import build_page, serve  # Gradio is an optional dependency
    except ModuleNotFoundError as error:
        raise InputError(f"Gradio is not installed ({error}): pip install -c constraints.txt -e '.[app]'") from error
    select_device(cfg.device)  # fail now, not at the first request
    shipped, explicit = list(list_shipped().values()), list(cfg.ckpt)
    if cfg.weights is not None:
        path = load_weights(cfg.weights, model, ckpt=explicit).path
        explicit = [str(path.parent if path.name == WEIGHTS else path)]
    methods = find_methods(list(cfg.folders), explicit, shipped)
    names = [method.name for method in methods]
    if unknown := [name for name in cfg.preselected if name not in names]:
        raise InputError(f"preselected: unknown method {unknown[0]}; choose from {', '.join(names)}")
    described = {method.name: describe(method.source) for method in methods if isinstance(method.source, Path)}
    selected = {*preselect(described, len({*explicit, *map(str, shipped)})), *cfg.preselected}
    limits = Limits(cfg.max_megabytes, cfg.max_megapixels, cfg.max_hole_megapixels)
    pool = MethodPool(methods, cfg.device, cfg.cached_networks)
    api = Api(pool, limits, tuple(cfg.sides_px), cfg.figure_side_px)
    details = {name: "can't be read" if facts is None else str(facts) for name, facts in described.items()}
    page = build_page(api, cfg.side_px, selected, details)
    print(f"{len(described)} trained network(s), {len(methods) - len(described)} classical methods")
    serve(api, page, cfg.host, cfg.port, cfg.share)


def _check_sides(cfg: DictConfig) -> None:
    sides = list(cfg.sides_px) if isinstance(cfg.sides_px, ListConfig) else []
    if not sides or not all(side in (None, AUTO) or (type(side) is int and side > 0) for side in sides):
        raise InputError(
            f"sides_px must be a list of integers >= 1, {AUTO} for windows around the holes, or null for the image's "
            f"size, got {cfg.sides_px}"
        )
    if cfg.side_px not in sides:
        raise InputError(f"side_px={cfg.side_px} must be one of sides_px={sides}")


@command("app", AppOptions)
def main(cfg: DictConfig) -> None:
    """Serve the page."""
    serve_app(cfg)


if __name__ == "__main__":
    main()
