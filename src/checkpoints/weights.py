"""The option `weights=`: a shipped size of a model, a checkpoint, run or export directory, or a Hub repository."""

import re
from pathlib import Path

from src.checkpoints.reading import SHIPPED, Checkpoint, load_checkpoint
from src.common.errors import InputError
from src.common.resolvers import MODELS


def load_weights(weights: str, model: str | None, **excluded: object) -> Checkpoint:
    """Load a network for `model=<model> weights=<weights>`.

    Args:
        weights: as in `find_weights`.
        model: must be the model of the weights; None accepts any.
        excluded: options that can't be combined with `weights=`, by name; None or empty if they are not set.
    Raises:
        InputError: as in `find_weights` and `load_checkpoint`, or the weights are of another model.
    """
    checkpoint = load_checkpoint(find_weights(weights, model, **excluded))
    if model is not None and checkpoint.model != model:
        raise InputError(
            f"weights={weights} are of model={checkpoint.model}, not of model={model}: set model={checkpoint.model}, "
            f"or pass weights of {model}"
        )
    return checkpoint


def find_weights(weights: str, model: str | None, **excluded: object) -> str:
    """Return what `load_checkpoint` reads for `model=<model> weights=<weights>`, without reading it.

    Args:
        weights: the name of a size that is shipped for the model, such as `small`; otherwise a path or an address, as
            in `load_checkpoint`. A directory of the same name as a size is `./small`.
    Raises:
        InputError: the model has no weights, an option of `excluded` is set, or the name is neither a shipped size nor
            a path.
    """
    for key, value in excluded.items():
        if value:
            raise InputError(f"{key}={value} and weights={weights} both name the weights: pass one of them")
    if model in list_classical_methods():
        raise InputError(f"model={model} is a classical method and has no weights: omit weights={weights}")
    if not re.fullmatch(r"\w+", weights):
        return weights
    shipped = list_shipped()
    if (model, weights) in shipped:
        return str(shipped[model, weights])
    if Path(weights).exists():
        return weights
    every = ", ".join(f"model={name} weights={size}" for name, size in shipped)
    sizes = ", ".join(size for name, size in shipped if name == model)
    if model is None:
        problem = f"weights={weights} needs model=, as in {every}"
    elif sizes:
        problem = f"weights={weights} is neither a shipped size of model={model} ({sizes}) nor a path"
    else:
        problem = f"weights={weights}: no weights of model={model} are shipped, only {every}"
    raise InputError(f"{problem}; or pass a checkpoint's path or hf://user/name")


def list_shipped() -> dict[tuple[str | None, str], Path]:
    """Return the export directories that come with the suite, by model and size."""
    directories = sorted(path.parent for path in SHIPPED.glob("*/config.yaml"))
    return {(model, size): path for path in directories for model, _, size in [path.name.rpartition("-")]}


def list_classical_methods() -> tuple[str, ...]:
    """Return the names of the methods without weights: the files of conf/model that have no training section."""
    # A release's file inherits its paper's training section through its defaults. Parsing all files takes a second.
    trained = re.compile(r"^(training|defaults):", re.MULTILINE)
    return tuple(file.stem for file in sorted(MODELS.glob("*.yaml")) if not trained.search(file.read_text()))
