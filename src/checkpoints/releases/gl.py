"""Parameter names of GL's PyTorch port, and the mean pixel value that it stores in a separate file."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from src.checkpoints.releases.release import Release
from src.common.errors import InputError
from src.networks.discriminators.whole_image import ContextDiscriminator
from src.networks.gl import released_gl

CONVOLUTIONS = [
    *(f"layers.{n}" for n in range(6)),
    *(f"layers.6.{n}" for n in range(4)),
    *(f"layers.{n}" for n in range(7, 13)),
]
DECONVOLUTIONS = (13, 15)

GL_COMPLETION = Release(
    released_gl,
    {f"{ours}.0": f"{'de' if n in DECONVOLUTIONS else ''}conv{n}" for n, ours in enumerate(CONVOLUTIONS, start=1)}
    | {f"{ours}.2": f"bn{n}" for n, ours in enumerate(CONVOLUTIONS, start=1)}
    | {"layers.13": "conv17"},
)


def _discriminator(size: int, window: int, layers: tuple[int, int]) -> Release:
    branches = (("whole", "model_gd", layers[0]), ("local", "model_ld", layers[1]))
    return Release(
        partial(ContextDiscriminator, size, window, layers=layers, normalised_last=True, activation=nn.Sigmoid),
        {"score.0": "linear1"}
        | {f"{ours}.{3 * n}": f"{theirs}.conv{n + 1}" for ours, theirs, count in branches for n in range(count)}
        | {f"{ours}.{3 * n + 2}": f"{theirs}.bn{n + 1}" for ours, theirs, count in branches for n in range(count)}
        | {f"{ours}.{3 * count + 1}": f"{theirs}.linear{count + 1}" for ours, theirs, count in branches},
    )


GL_DISCRIMINATOR = _discriminator(160, 96, (5, 5))
"""The port's `arc` celeba, of the published weights."""

GL_DISCRIMINATOR_PLACES2 = _discriminator(256, 128, (6, 5))
"""The port's `arc` places2, the paper's discriminator."""


def read_mean_pixel(source: Sequence[float] | str | Path) -> tuple[float, ...]:
    """Return the mean pixel value, red, green and blue in [0, 1], as such or from the entry `mpv` of a JSON file.

    Raises:
        InputError: the file is missing or has no such entry, or the value is not three numbers in [0, 1].
    """
    found: Any = source
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["mpv"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"mean_pixel={path} is not a JSON file with an entry mpv, such as GL's config.json: "
                f"{type(error).__name__}: {error}"
            ) from None
    try:
        values = tuple(float(value) for value in found)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(0 <= value <= 1 for value in values):
        raise InputError(f"mean_pixel must be three numbers in [0, 1], red, green and blue, got {str(found)[:80]}")
    return values
