"""Check a dataset, fix its splits and write its manifest: `python -m src.prepare data=places`."""

import signal
import sys

import hydra
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.common.errors import InputError, report_input_errors
from src.common.options import check_options
from src.common.schemas import PrepareOptions
from src.data.files import MAX_LISTED, escape_unprintable
from src.data.manifest import SPLITS
from src.data.preparation import PreparedDataset
from src.data.preparation import prepare as prepare_files


def prepare(cfg: DictConfig) -> PreparedDataset:
    """Read every image of the dataset in a conf/prepare.yaml config and write its manifest.

    Raises:
        InputError: an option is invalid, or `src.data.preparation.prepare` raises it.
    """
    check_options(cfg, PrepareOptions)
    data = instantiate(cfg.data.datamodule)
    return prepare_files(
        data.files,
        data.crops.transforms,
        workers=cfg.workers,
        corrupt=cfg.corrupt,
        moved=cfg.moved,
        verify=cfg.verify,
    )


def corrupt_table(corrupt: pd.DataFrame) -> Table:
    """Return a table of the corrupt images and what is wrong with each."""
    table = Table("image", "split", "problem", title="corrupt images")
    for row in corrupt.itertuples():
        cells = (str(row.path), str(row.split), str(row.corrupt))
        table.add_row(*(Text(escape_unprintable(cell), overflow="fold") for cell in cells))
    return table


def splits_table(images: pd.DataFrame, name: str) -> Table:
    """Return a table with the number, size and format of the images of each split."""
    table = Table("split", "images", "corrupt", "GiB", "shorter side, px", "modes", "formats", title=name)
    for split in SPLITS:
        rows = images[images["split"] == split]
        intact = rows[rows["corrupt"].isna()]
        shorter = intact[["height", "width"]].min(axis=1)
        counts = [intact[column].value_counts().items() for column in ("mode", "format")]
        table.add_row(
            split,
            f"{len(intact):,}",
            f"{len(rows) - len(intact):,}",
            f"{intact['bytes'].sum() / 2**30:.2f}",
            f"{shorter.min():.0f} to {shorter.max():.0f}" if len(intact) else "",
            *(", ".join(f"{value} {count:,}" for value, count in of_column) for of_column in counts),
        )
    return table


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
@report_input_errors
def main(cfg: DictConfig) -> None:
    """Prepare the dataset and print a summary; exit with an error if there are corrupt images, unless corrupt=skip."""
    console = Console()
    try:
        prepared = prepare(cfg)
    except KeyboardInterrupt:
        print("interrupted: no manifest was written", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    images, corrupt = prepared.images, prepared.corrupt
    in_splits = int(images["split"].notna().sum())

    def report(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    if len(corrupt):
        console.print(corrupt_table(corrupt))
    console.print(splits_table(images, cfg.data.name))
    report(f"read {prepared.files_read:,} of {in_splits:,} files in {prepared.seconds:.1f} s")
    if prepared.enlarged:
        report(f"{prepared.enlarged:,} images are smaller than their crop and will be enlarged")
    if duplicates := prepared.duplicates:
        report(f"{len(duplicates):,} images have an identical copy in another split:")
        for one, other in duplicates[:MAX_LISTED]:
            report(f"  {escape_unprintable(one)} and {escape_unprintable(other)}")
    if unused := len(images) - in_splits:
        report(f"{unused:,} images belong to no split")
    if prepared.corrupt_list is not None:
        report(f"corrupt images are listed in {prepared.corrupt_list}")
    if len(corrupt) and cfg.corrupt == "stop":
        raise InputError(
            f"{len(corrupt):,} of {in_splits:,} files of data={cfg.data.name} are corrupt, so no manifest was written: "
            "replace the files listed above, or set corrupt=skip to leave them out of the splits"
        )
    if len(corrupt):
        report(f"{len(corrupt):,} corrupt images were left out of the splits")
    if prepared.origin is None:
        report("no manifest was written, as data.manifest=null")
    else:
        report(f"manifest: {prepared.manifest_path}\nSHA-256: {prepared.origin.sha256}")


if __name__ == "__main__":
    main()
