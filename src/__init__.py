"""An experiment suite for filling irregular holes in images: five papers' models behind one interface."""

from importlib.metadata import PackageNotFoundError, version


def _let_torchvision_import_beside_a_cpu_torch() -> None:
    """Declare the two operators that a CUDA build of torchvision looks up on import.

    PyPI's torchvision is built for CUDA. Beside a CPU build of torch its compiled operators do not load, and its import
    ends in "operator torchvision::nms does not exist", which takes lightning and torchmetrics down with it. Its models
    and weights, all that is used here, need none of these operators.
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
        globals()["_torchvision_operators"] = library  # a Library takes its definitions along when it is collected


_let_torchvision_import_beside_a_cpu_torch()
