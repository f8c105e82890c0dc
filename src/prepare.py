"""Check a data set, settle its splits and write its manifest: `python -m src.prepare data=places`."""

import signal
import sys

import hydra
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.common.errors import InputError, reports_input_errors
from src.data.files import SHOWN, printable
from src.data.manifest import SPLITS
from src.data.preparation import Prepared
from src.data.preparation import prepare as prepare_files

CHOICES = {"damaged": ("stop", "skip"), "moved": ("stop", "keep", "redraw"), "verify": ("changed", "all")}
KINDS = ("mode", "format")


def prepare(cfg: DictConfig) -> Prepared:
    """Read every picture as conf/prepare.yaml composes, and write the manifest.

    Raises:
        InputError: a key is out of its range, or as `src.data.preparation.prepare` says.
    """
    for key, choices in CHOICES.items():
        if cfg[key] not in choices:
            raise InputError(f"{key} must be {' or '.join(choices)}, got {cfg[key]}")
    if not isinstance(cfg.workers, int) or cfg.workers < 0:
        raise InputError(f"workers must be a number of processes, or 0, got {cfg.workers}")
    data = instantiate(cfg.data)
    return prepare_files(data.files, data.transforms, workers=cfg.workers, **{key: cfg[key] for key in CHOICES})


def damaged_table(damaged: pd.DataFrame) -> Table:
    """The damaged pictures and what is wrong with each."""
    table = Table("picture", "split", "what is wrong", title="damaged")
    for row in damaged.itertuples():
        table.add_row(*(Text(printable(str(text)), overflow="fold") for text in (row.path, row.split, row.damaged)))
    return table


def splits_table(pictures: pd.DataFrame, name: str) -> Table:
    """What the splits hold."""
    table = Table("split", "pictures", "damaged", "GiB", "shorter side, px", "modes", "formats", title=name)
    for split in SPLITS:
        rows = pictures[pictures["split"] == split]
        sound = rows[rows["damaged"].isna()]
        shorter = sound[["height", "width"]].min(axis=1)
        table.add_row(
            split,
            f"{len(sound):,}",
            f"{len(rows) - len(sound):,}",
            f"{sound['bytes'].sum() / 2**30:.2f}",
            f"{shorter.min():.0f} to {shorter.max():.0f}" if len(sound) else "",
            *(", ".join(f"{name} {count:,}" for name, count in sound[kind].value_counts().items()) for kind in KINDS),
        )
    return table


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Prepare, and say what there is; damaged pictures end it with an error unless they are to be left out."""
    console = Console()
    try:
        prepared = prepare(cfg)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    pictures, damaged = prepared.pictures, prepared.damaged
    taken = int(pictures["split"].notna().sum())

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    if len(damaged):
        console.print(damaged_table(damaged))
    console.print(splits_table(pictures, cfg.data.name))
    say(f"{prepared.read:,} of {taken:,} files were read, in {prepared.seconds:.1f} s")
    if prepared.enlarged:
        say(f"{prepared.enlarged:,} are smaller than the crop that is made of them, and are enlarged")
    if repeated := prepared.repeated:
        say(f"{len(repeated):,} are in two splits, the same byte for byte:")
        for one, other in repeated[:SHOWN]:
            say(f"  {printable(one)} and {printable(other)}")
    if others := len(pictures) - taken:
        say(f"{others:,} pictures in the folder belong to no split")
    if prepared.damaged_list is not None:
        say(f"damaged: {prepared.damaged_list}")
    if len(damaged) and cfg.damaged == "stop":
        raise InputError(
            f"{len(damaged):,} of {taken:,} files of data={cfg.data.name} are damaged, as listed, and no manifest was "
            "written: replace them, or give damaged=skip to leave them out of the splits"
        )
    if len(damaged):
        say(f"{len(damaged):,} damaged files are left out of the splits")
    if prepared.origin is None:
        say("data.manifest=null: no manifest was written")
    else:
        say(f"manifest: {prepared.path}\nhash {prepared.origin.sha256}")


if __name__ == "__main__":
    main()
