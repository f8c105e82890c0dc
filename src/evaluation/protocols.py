"""Named protocols: how images become crops, which masks they get, and which variants of scores are compared."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import ProtocolOptions
from src.masks.bank import MaskBank, height_and_width
from src.masks.folder import MaskFolder
from src.masks.hole_ratios import Bin

PINNED_MASKS = 8
"""Size, per bin, of the bank whose hash a protocol states."""

FIXED = ("mask", "bank", "bank_masks_per_bin", "test_size", "data.transforms", "data.masks_per_bin")
"""Options of `python -m src.evaluate` that a protocol sets."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Protocol:
    """A protocol of conf/protocol.

    Args:
        ssim, lpips: names of the scores that its authors report as SSIM and LPIPS.
        masks: the node with `bins`, `per_image`, `count`, and either `generator`, `seed` and `first_hash`, or `root`
            and `hole`.
    """

    name: str
    size: tuple[int, int]
    ssim: str
    lpips: str
    masks: DictConfig

    @classmethod
    def of_config(cls, cfg: DictConfig) -> "Protocol | None":
        """Return the protocol that a config chooses, None without one; raises InputError if it is invalid."""
        if "protocol" not in cfg:
            return None
        check_options(cfg.protocol, ProtocolOptions, "protocol.")
        chosen = cfg.protocol
        size = height_and_width("protocol.size", chosen.size)
        return cls(chosen.name, size, chosen.ssim, chosen.lpips, chosen.masks)

    def apply(self, cfg: DictConfig) -> None:
        """Set the options of a config that the protocol fixes.

        Raises:
            InputError: one of them was passed on the command line.
        """
        self.reject_overrides(FIXED)
        with open_dict(cfg):
            cfg.test_size = list(self.size)
            cfg.data.transforms.evaluation = OmegaConf.to_container(cfg.protocol.transform, resolve=True)
            cfg.data.masks_per_bin = self.masks.per_image
            cfg.data.samples_per_image.test = 1
            cfg.mask = {"name": self.name}

    def reject_overrides(self, fixed: Sequence[str]) -> None:
        """Raise InputError if the command line sets one of the options, or a part of it."""
        typed = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
        keys = {one: f"{one.lstrip('+~').partition('=')[0]}." for one in typed}
        if rejected := [one for one, key in keys.items() if any(key.startswith(f"{name}.") for name in fixed)]:
            raise InputError(
                f"protocol={self.name} fixes {', '.join(fixed)}, but got {' '.join(rejected)}: leave one of them out"
            )

    def bank(self, images: int) -> MaskBank:
        """Return the masks of a number of test images.

        The masks of more images begin with those of fewer, so image k of a test has the same mask whatever the number
        of images.

        Raises:
            InputError: files of masks are missing.
        """
        masks = self.masks
        bins: tuple[Bin, ...] = tuple((float(low), float(high)) for low, high in masks.bins)
        if "generator" not in masks:
            folder = MaskFolder(masks.root, masks.hole, flips=False) if masks.root else None
            if folder is None:
                raise InputError(
                    f"protocol={self.name} needs files of masks: set protocol.masks.root to their directory"
                )
            return folder.bank(self.size, masks.count, bins)
        generator = instantiate(masks.generator, _convert_="all")
        if MaskBank.draw(generator, self.size, PINNED_MASKS, masks.seed, bins).hash != masks.first_hash:
            log.warning(
                "the masks differ from those of protocol=%s, because protocol.size or protocol.masks was changed, or "
                "because of another version of OpenCV, Pillow or NumPy: with the same options, results are comparable "
                "on average, but not mask by mask",
                self.name,
            )
        needed = images * masks.per_image
        count = needed if masks.count is None else min(needed, masks.count)
        return MaskBank.draw(generator, self.size, count, masks.seed, bins)


def protocol_note(config: Mapping[str, Any], images: int) -> str:
    """Return what a table says about the protocol in the config of records of a number of images; "" without one."""
    chosen = config.get("protocol")
    if chosen is None:
        return ""
    expected = "" if chosen["images"] in (None, images) else f" of the {chosen['images']} of the protocol"
    return (
        f"Protocol {chosen['name']}: {images} images{expected}; its authors' SSIM is {chosen['ssim']}, their LPIPS "
        f"{chosen['lpips']}, and their FID has the features {chosen['features']}."
    )
