"""Draw a frozen bank of test masks: `python -m src.make_masks mask=strokes per_bin=100 size=256`."""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from PIL import Image
from rich.console import Console
from rich.table import Table

from src.common.atomic_files import atomic_write
from src.common.errors import InputError, reports_input_errors
from src.masks.bank import MaskBank, bins_within, contact_sheet, height_and_width
from src.masks.hole_ratios import bin_name


def make_masks(cfg: DictConfig) -> tuple[MaskBank, Path]:
    """Draw as conf/make_masks.yaml composes; write the bank, and a picture of it beside it.

    Returns:
        The bank and its path.
    Raises:
        InputError: a key is out of its range, the generator has no mask for a bin, or the place can't be written to.
    """
    size = height_and_width("size", cfg.size)
    square_or_not = f"{size[0]}" if size[0] == size[1] else f"{size[0]}x{size[1]}"
    path = Path(cfg.output or f"banks/{cfg.mask.name}_{square_or_not}.npz")
    if path.suffix != ".npz":
        raise InputError(f"output={path}: a mask bank is a .npz file")
    if cfg.bins is None:
        bins = bins_within(tuple(cfg.mask.hole_ratio))
    elif isinstance(cfg.bins, ListConfig) and all(isinstance(b, ListConfig) and len(b) == 2 for b in cfg.bins):
        bins = tuple((low, high) for low, high in cfg.bins)
    else:
        raise InputError(f"bins must be pairs [low, high], as in [[0.0, 0.1], [0.1, 0.2]], got {cfg.bins}")
    bank = MaskBank.draw(instantiate(cfg.mask.generator), size, cfg.per_bin, cfg.seed, bins)
    bank.save(path)
    with atomic_write(path.with_suffix(".png")) as unfinished:
        Image.fromarray(contact_sheet(bank)).save(unfinished, format="PNG")
    return bank, path


@hydra.main(version_base="1.3", config_path="../conf", config_name="make_masks")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Draw, and say what is in the bank."""
    bank, path = make_masks(cfg)
    table = Table("bin", "masks", "least hole", "mean hole", "most hole", title="hole ratios")
    for b, bin_ in enumerate(bank.bins):
        shares = [1 - bank.mask(b, k).mean() for k in range(bank.per_bin)]
        table.add_row(
            bin_name(bin_),
            str(len(shares)),
            *(f"{s:.3f}" for s in (min(shares), sum(shares) / len(shares), max(shares))),
        )
    console = Console()
    console.print(table)
    pictured = path.with_suffix(".png")
    console.print(f"{len(bank)} masks of {bank.size[0]} x {bank.size[1]} px: {path}, {pictured}", soft_wrap=True)
    console.print(f"hash {bank.hash}", soft_wrap=True)


if __name__ == "__main__":
    main()
