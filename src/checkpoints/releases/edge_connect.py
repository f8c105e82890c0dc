"""Parameter names of EdgeConnect's release by its authors: two generators, and the discriminator of images."""

from functools import partial

from src.checkpoints.releases.release import SPECTRAL_NORM, Release
from src.networks.discriminators.patches import ImagePatchDiscriminator
from src.networks.edge_connect import EdgeConnectGenerator
from src.networks.edge_lbam import EdgeCompletion
from src.networks.layers.canny import EDGE_CONNECT_CANNY
from src.networks.mecnet import MECNet

ENCODER, DECODER = (1, 4, 7), (0, 3, 7)
BLOCKS = {f"body.{n}.layers.{m}": f"middle.{n}.conv_block.{m}" for n in range(8) for m in (1, 5)}

EDGE_CONNECT = Release(
    EdgeConnectGenerator,
    {f"{part}.{n}": f"{part}.{n}" for part, places in (("encoder", ENCODER), ("decoder", DECODER)) for n in places}
    | BLOCKS,
)


def _edge_generator() -> EdgeCompletion:
    return EdgeCompletion(MECNet(scales=1), EDGE_CONNECT_CANNY)


EDGE_CONNECT_EDGES = Release(
    _edge_generator,
    {f"completion.encoder.{n}": f"encoder.{n}" for n in ENCODER}
    | {f"completion.decoders.0.{n}": f"decoder.{n}" for n in DECODER}
    | {f"completion.{ours}": theirs for ours, theirs in BLOCKS.items()},
    parameters=SPECTRAL_NORM,
)

EDGE_CONNECT_DISCRIMINATOR = Release(
    partial(ImagePatchDiscriminator, edge_channels=0),
    {f"layers.{n}.0": f"conv{n + 1}.0" if n else "features.0" for n in range(5)},
    parameters=SPECTRAL_NORM,
    aliases={"conv1": "features"},  # the release registers its first layer twice, the second name counts
)
