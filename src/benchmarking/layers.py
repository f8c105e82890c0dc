"""Attention layers alone, on features as large as a picture's in their network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.benchmarking.clock import Pace, Record, Run
from src.benchmarking.compared import measure_run
from src.benchmarking.failures import NotMeasuredError, attempt
from src.benchmarking.forward import pictures
from src.benchmarking.setting import Setting, lies_channels_last
from src.common.errors import InputError
from src.networks.layers.coarse_to_fine import scaled
from src.networks.layers.contextual_attention import ContextualAttention, FeatureAttention
from src.networks.layers.global_attention import GlobalAttention, MaskedAttention
from src.networks.layers.global_local_attention import GlobalLocalAttention

CELL = 4  # pixels on a side of a feature, in both networks
CHANNELS = 128

LAYERS: dict[str, Callable[[int], FeatureAttention | MaskedAttention]] = {
    "contextual_attention": ContextualAttention,
    "global_attention": GlobalAttention,
    "global_local_attention": GlobalLocalAttention,
}
"""By name: given the features' channels, makes the layer."""


def make_layer(name: str, width: float) -> FeatureAttention | MaskedAttention:
    """A layer for so many times its paper's channels.

    Raises:
        InputError: there is no such layer.
    """
    if name not in LAYERS:
        raise InputError(f"layers must be of {', '.join(LAYERS)}, got {name}")
    return LAYERS[name](scaled(CHANNELS, width))


def measure_layer(
    layer: FeatureAttention | MaskedAttention,
    width: float,
    side_px: int,
    batch_size: int,
    device: torch.device,
    pace: Pace,
    setting: Setting,
    literal: Callable[[nn.Module], nn.Module] | None = None,
) -> Record:
    """Latency and peak memory of a layer, forward, at the features of a picture of `side_px` with a hole of 30%.

    Of the setting, precision alone counts: it is a network that is prepared. A baseline is the literal form.
    """
    return attempt(lambda: _measure(layer, width, side_px, batch_size, device, pace, setting, literal))


def _measure(
    layer: FeatureAttention | MaskedAttention,
    width: float,
    side_px: int,
    batch_size: int,
    device: torch.device,
    pace: Pace,
    setting: Setting,
    literal: Callable[[nn.Module], nn.Module] | None,
) -> Record:
    layer = layer.eval().to(device)
    _, mask = pictures(batch_size, side_px, device)
    side = side_px // CELL
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch_size, scaled(CHANNELS, width), side, side, generator=generator).to(device)
    record: Record = {"channels_last": lies_channels_last(layer)}
    theirs = None
    if literal is not None:
        try:
            theirs = _run(literal(layer), layer, features, mask, setting)
        except NotMeasuredError as error:
            record["baseline_failure"] = str(error)
    with torch.inference_mode():
        record |= measure_run(_run(layer, layer, features, mask, setting), theirs, device, pace)
    return record | {"per_second": batch_size / record["median_s"]}


def _run(
    called: nn.Module, like: FeatureAttention | MaskedAttention, features: Tensor, mask: Tensor, setting: Setting
) -> Run:
    inputs = (features, mask)
    if isinstance(like, FeatureAttention):
        inputs = (features, features, like.known_cells(mask, CELL))  # type: ignore[assignment]

    def run() -> None:
        with setting.autocast(features.device):
            called(*inputs)

    return run
