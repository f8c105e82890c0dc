"""An experiment suite for image inpainting with irregular holes: five papers' models behind one interface."""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

if sys.argv[0] == "-m" and find_spec("hydra") is None:  # python -m src.train outside the environment
    sys.exit(f"error: {sys.executable} lacks the packages: run `source .venv/bin/activate` (after `make demo`) first")


def _define_torchvision_operators() -> None:
    """Define two operators that a CUDA build of torchvision requires on import, if torch is a CPU build.

    PyPI's torchvision is built for CUDA. With a CPU build of torch its compiled operators do not load, and importing
    it (or lightning or torchmetrics) fails with "operator torchvision::nms does not exist". The models and weights that
    are used here need none of these operators.
    """
    try:
        builds = version("torch"), version("torchvision")
    except PackageNotFoundError:
        return
    if builds[0].endswith("+cpu") and not builds[1].endswith("+cpu"):
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        globals()["_torchvision_operators"] = library  # a Library removes its definitions when it is garbage-collected


_define_torchvision_operators()
