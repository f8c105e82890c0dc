"""Parameter names of DFNet's release by its authors."""

from src.checkpoints.releases.release import Release
from src.networks.dfnet import DFNet

LEVELS, FUSED_LEVELS = 8, 6

DFNET = Release(
    DFNet,
    {f"encoder.{n}.1": f"en_{n}.encode.0.conv.1" for n in range(LEVELS)}
    | {f"encoder.{n}.2": f"en_{n}.encode.1" for n in range(1, LEVELS)}
    | {f"decoder.{n}.0": f"de_{n}.decode.0.conv" for n in range(LEVELS)}
    | {f"decoder.{n}.1": f"de_{n}.decode.1" for n in range(LEVELS)}
    | {f"fusion.{n}.to_image.0": f"fuse_{n}.map2img.0.conv" for n in range(FUSED_LEVELS)}
    | {
        f"fusion.{n}.alpha.{part}": f"fuse_{n}.blend.blend.{part}{'' if part in (1, 4) else '.conv'}"
        for n in range(FUSED_LEVELS)
        for part in (0, 1, 3, 4, 6)
    },
)
