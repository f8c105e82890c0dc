"""Draw a frozen bank of test masks: `python -m src.make_masks mask=strokes per_bin=100 size=256`."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from PIL import Image
from rich.console import Console
from rich.table import Table

from src.common.atomic_files import atomic_write
from src.common.command import command
from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import MakeMasksOptions
from src.evaluation.protocols import Protocol
from src.masks.bank import MaskBank, bins_within, contact_sheet, height_and_width
from src.masks.hole_ratios import bin_name


def make_masks(cfg: DictConfig) -> tuple[MaskBank, Path]:
    """Draw a bank as configured by conf/make_masks.yaml; write it, and a contact sheet of the same name, to a path."""
    check_options(cfg, MakeMasksOptions)
    if (protocol := Protocol.of_config(cfg)) is not None:
        protocol.reject_overrides(("mask", "size", "seed", "bins"))
        path = _bank_path(cfg.output or f"banks/{protocol.name}.npz")
        return _write(protocol.bank(cfg.per_bin), path)
    size = height_and_width("size", cfg.size)
    size_name = f"{size[0]}" if size[0] == size[1] else f"{size[0]}x{size[1]}"
    path = _bank_path(cfg.output or f"banks/{cfg.mask.name}_{size_name}.npz")
    if cfg.bins is None:
        bins = bins_within(tuple(cfg.mask.hole_ratio))
    elif isinstance(cfg.bins, ListConfig) and all(isinstance(b, ListConfig) and len(b) == 2 for b in cfg.bins):
        bins = tuple((low, high) for low, high in cfg.bins)
    else:
        raise InputError(f"bins must be pairs [low, high], as in [[0.0, 0.1], [0.1, 0.2]], got {cfg.bins}")
    return _write(MaskBank.draw(instantiate(cfg.mask.generator), size, cfg.per_bin, cfg.seed, bins), path)


def _bank_path(output: str) -> Path:
    path = Path(output)
    if path.suffix != ".npz":
        raise InputError(f"output={path}: the output of make_masks must be a .npz file")
    return path


def _write(bank: MaskBank, path: Path) -> tuple[MaskBank, Path]:
    bank.save(path)
    with atomic_write(path.with_suffix(".png")) as unfinished:
        Image.fromarray(contact_sheet(bank)).save(unfinished, format="PNG")
    return bank, path


@command("make_masks", MakeMasksOptions)
def main(cfg: DictConfig) -> None:
    """Draw a bank and print the hole ratios in it."""
    bank, path = make_masks(cfg)
    table = Table("bin", "masks", "min", "mean", "max", title="Hole ratios")
    for b, bin_ in enumerate(bank.bins):
        ratios = [1 - bank.mask(b, k).mean() for k in range(bank.per_bin)]
        statistics = (min(ratios), sum(ratios) / len(ratios), max(ratios))
        table.add_row(bin_name(bin_), str(len(ratios)), *(f"{ratio:.3f}" for ratio in statistics))
    Console().print(table)
    print(f"{len(bank)} masks of {bank.size[0]}x{bank.size[1]} px: {path}, {path.with_suffix('.png')}")
    print(f"hash {bank.hash}")


if __name__ == "__main__":
    main()
