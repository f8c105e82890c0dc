"""How a row of a paper's table is tested: on which masks and at which size."""

from collections.abc import Set
from pathlib import Path

from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.common.errors import InputError
from src.common.resolvers import FOLDER, ROOT
from src.evaluation.frozen_test import crop_size, with_test_size
from src.evaluation.scoring import PAPER_SCALE
from src.masks.bank import MaskBank, bins_within
from src.reproduction.papers import PaperTable, read_paper_file

MASKS = ROOT / "conf" / "mask"


def protocol_overrides(cfg: DictConfig, row: str, overridden: Set[str]) -> list[str]:
    """Return the overrides of conf/reproduce.yaml that set the test masks and size of the row's own table.

    Below paper scale, the paper's `test_size` shrinks in proportion to the training crops: 512x680 becomes 128x170 if
    256x256 has become 64x64.

    Args:
        row: name including the table, such as ``mpga_gla/table1/pconv``.
        overridden: keys and groups passed on the command line, which take precedence; `mask=` sets the masks of both
            training and test.
    """
    table = read_paper_file(FOLDER / f"{row.rpartition('/')[0]}.yaml")
    if not isinstance(table, PaperTable):
        return []
    found = []
    if table.test_size is not None and "test_size" not in overridden:
        scale = int(cfg.scale.image_size) / int(OmegaConf.load(PAPER_SCALE).image_size)
        height, width = (round(side * scale) for side in table.test_size)
        found.append(f"test_size=[{height},{width}]")
    if table.test_mask is not None and not {"test_mask", "mask"} & overridden:
        found.append(f"test_mask={table.test_mask}")
    return found


def mask_for_testing(cfg: DictConfig) -> DictConfig:
    """Return the mask config of the test: `test_mask`, or the training masks if it is null.

    Mask files are read from the training masks' directory, as there is no key for another one.

    Raises:
        InputError: conf/mask has no such file, or it needs mask files and no directory is set.
    """
    if cfg.test_mask is None:
        chosen: DictConfig = cfg.mask
        return chosen
    if not (MASKS / f"{cfg.test_mask}.yaml").is_file():
        names = ", ".join(sorted(path.stem for path in MASKS.glob("*.yaml")))
        raise InputError(f"test_mask={cfg.test_mask} is not a file of conf/mask; available: {names}")
    named: DictConfig = compose("evaluate", [f"mask={cfg.test_mask}"]).mask
    if "root" in named:
        named.root = cfg.mask.get("root")
        if named.root is None:
            raise InputError(
                f"test_mask={cfg.test_mask} needs mask files, but mask={cfg.mask.name} has no mask.root: train on mask "
                "files, too (mask= with 'overrides={mask.root:masks/}'), or choose a test_mask= that is generated"
            )
    return named


def data_for_testing(cfg: DictConfig) -> DictConfig:
    """Return a run's data config with crops of the test size."""
    return cfg.data if cfg.test_size is None else with_test_size(cfg.data, crop_size(cfg))


def draw_test_bank(cfg: DictConfig, path: Path) -> None:
    """Draw the mask bank that a table is tested on, unless it exists.

    Raises:
        InputError: `path` holds other masks, and rows have already been tested on them.
    """
    mask = mask_for_testing(cfg)
    bins = bins_within(tuple(mask.hole_ratio))
    # Not cfg.seed: runs with different seeds share one test.
    bank = MaskBank.draw(instantiate(mask.generator), crop_size(cfg), cfg.test_masks_per_bin, 0, bins)
    used = any(path.parent.glob("*/*/records.parquet"))
    if not (path.is_file() and used):
        bank.save(path)
    if MaskBank.load(path).hash != bank.hash:
        raise InputError(
            f"{path} holds masks other than those that mask=, test_mask= and test_size= draw: give "
            "study=<another directory>, or remove it"
        )
