"""A web page to paint over parts of photos and fill them: `python -m src.app`."""

import hydra
from omegaconf import DictConfig, OmegaConf

from src.errors import InputError, reports_input_errors

NETWORKS_TICKED = 2


def app(cfg: DictConfig) -> None:
    """Serve until Ctrl-C, as conf/app.yaml composes.

    Raises:
        InputError: a key is unfit, a checkpoint is not there, Gradio is missing, or the address is taken.
    """
    for key in ("port", "keep"):
        if type(cfg[key]) is not int or cfg[key] < 1:
            raise InputError(f"{key} must be a whole number of at least 1, got {cfg[key]}")
    for key in ("max_megabytes", "max_megapixels"):
        if not isinstance(cfg[key], int | float) or isinstance(cfg[key], bool) or cfg[key] <= 0:
            raise InputError(f"{key} must be a number above 0, got {cfg[key]}")
    if type(cfg.share) is not bool:
        raise InputError(f"share must be true or false, got {cfg.share}")
    ckpt, folders, sides = (OmegaConf.to_object(cfg[key]) for key in ("ckpt", "folders", "sides_px"))
    for key, texts in (("ckpt", ckpt), ("folders", folders)):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{key} must be a list of paths, as in {key}=[outputs/], got {texts}")
    if not isinstance(sides, list) or not sides or not all(s is None or (type(s) is int and s > 0) for s in sides):
        raise InputError(f"sides_px must be a list of pixels, null for a photo's own size, got {sides}")
    try:
        from src.webapp.page import app_page, serve  # Gradio is an extra
    except ModuleNotFoundError as error:
        raise InputError(f"the page needs Gradio ({error}): pip install -c constraints.txt -e '.[app]'") from error
    from src.webapp.answers import Answers
    from src.webapp.methods import Methods, methods_found
    from src.webapp.pictures import Limits

    found = methods_found(folders, ckpt)
    networks = [method.name for method in found if method.has_weights]
    limits = Limits(cfg.max_megabytes, cfg.max_megapixels)
    answers = Answers(Methods(found, cfg.device, cfg.keep), limits, tuple(sides), cfg.inside_px)
    page = app_page(answers, cfg.side_px, {*networks[:NETWORKS_TICKED], *cfg.ticked})
    print(f"{len(networks)} trained networks found, and {len(found) - len(networks)} methods without weights")
    serve(page, cfg.host, cfg.port, cfg.share, limits.request_bytes)


@hydra.main(version_base="1.3", config_path="../conf", config_name="app")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Serve the page."""
    app(cfg)


if __name__ == "__main__":
    main()
