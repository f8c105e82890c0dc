"""Parameter names of GMCNN's release by its authors (the PyTorch version)."""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from src.checkpoints.releases.release import Release
from src.networks.discriminators.whole_image import CroppedLocalCritic, GlobalCritic
from src.networks.gmcnn import GMCNN

CONVOLUTIONS = {0: range(12), 1: (*range(12), 13, 14), 2: (*range(12), 13, 14, 16, 17)}
"""Indices of the convolutions of each column; the other modules are upsamplings."""

GMCNN_NETWORK = Release(
    GMCNN,
    {f"columns.{n}.{i}.conv": f"EB{n + 1}.{i}" for n, indices in CONVOLUTIONS.items() for i in indices}
    | {f"decoder.{i}.conv": f"decoding_layers.{i}" for i in range(2)},
)


def _discriminators() -> nn.ModuleDict:
    whole = GlobalCritic(normalise=spectral_norm, activation=nn.ELU)
    local = CroppedLocalCritic(channels=whole.default_channels, normalise=spectral_norm, activation=nn.ELU)
    return nn.ModuleDict({"global": whole, "local": local})


GMCNN_DISCRIMINATORS = Release(
    _discriminators,
    {  # the release's names lack "module.", as `read_weights` removes it
        f"{name}.critic.{ours}": f"{name}_discriminator.layers.{i}"
        for name in ("global", "local")
        for i, ours in enumerate(("features.0", "features.2", "features.4", "features.6", "score"))
    },
    parameters={
        "parametrizations.weight.original": "weight_bar",
        "parametrizations.weight.0._u": "weight_u",
        "parametrizations.weight.0._v": "weight_v",
    },
)
