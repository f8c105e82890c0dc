"""Parameter names of the common PyTorch re-implementation of PConv."""

from src.checkpoints.releases.release import Release
from src.networks.pconv import released_pconv

LEVELS = 7

PCONV = Release(
    released_pconv,
    {f"encoder.{level - 1}.conv.conv": f"enc_{level}.conv.input_conv" for level in range(1, LEVELS + 1)}
    | {f"encoder.{level - 1}.norm": f"enc_{level}.bn" for level in range(2, LEVELS + 1)}
    | {f"decoder.{LEVELS - level}.conv.conv": f"dec_{level}.conv.input_conv" for level in range(1, LEVELS + 1)}
    | {f"decoder.{LEVELS - level}.norm": f"dec_{level}.bn" for level in range(2, LEVELS + 1)}
    | {f"decoder.{LEVELS - 1}.conv": "dec_1.conv.input_conv"},  # the last level's bias
    constant={"mask_conv.weight": 1.0},  # counts known pixels
)
