"""Benchmark attention layers on features of the size that an image has in their network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.benchmarking.clock import MinDuration, Record, Run
from src.benchmarking.failures import NotMeasuredError, attempt
from src.benchmarking.forward import make_inputs
from src.benchmarking.measurement import measure_run
from src.benchmarking.setting import Setting
from src.common.errors import InputError
from src.networks.layers.coarse_to_fine import scaled
from src.networks.layers.contextual_attention import ContextualAttention, FeatureAttention
from src.networks.layers.global_attention import GlobalAttention, MaskedAttention
from src.networks.layers.global_local_attention import GlobalLocalAttention

CELL = 4  # image pixels per feature along each side, in both networks
CHANNELS = 128

LAYERS: dict[str, Callable[[int], FeatureAttention | MaskedAttention]] = {
    "contextual_attention": ContextualAttention,
    "global_attention": GlobalAttention,
    "global_local_attention": GlobalLocalAttention,
}
"""Layers by name; each is built from the number of channels."""


def make_layer(name: str, width: float) -> FeatureAttention | MaskedAttention:
    """Build a layer with `width` times the channels of its paper.

    Raises:
        InputError: the name is unknown.
    """
    if name not in LAYERS:
        raise InputError(f"layers={name}: unknown layer; choose from {', '.join(LAYERS)}")
    return LAYERS[name](scaled(CHANNELS, width))


def measure_layer(
    layer: FeatureAttention | MaskedAttention,
    width: float,
    side_px: int,
    batch_size: int,
    device: torch.device,
    min_duration: MinDuration,
    setting: Setting,
    literal: Callable[[nn.Module], nn.Module] | None = None,
) -> Record:
    """Measure latency and peak memory of a layer's forward pass on the features of an image with a hole of 30%.

    Only the precision of `setting` applies, as the other options prepare a whole network. `literal` builds the
    layer's literal form, the baseline.
    """

    def measure() -> Record:
        layer.eval().to(device)
        _, mask = make_inputs(batch_size, side_px, device)
        side = side_px // CELL
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(batch_size, scaled(CHANNELS, width), side, side, generator=generator).to(device)
        record: Record = {}
        theirs = None
        if literal is not None:
            try:
                theirs = _run(literal(layer), layer, features, mask, setting)
            except NotMeasuredError as error:
                record["baseline_failure"] = str(error)
        with torch.inference_mode():
            record |= measure_run(_run(layer, layer, features, mask, setting), theirs, device, min_duration)
        return record | {"per_second": batch_size / record["median_s"]}

    return attempt(measure)


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
