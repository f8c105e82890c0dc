"""Check a dataset, fix its splits and write its manifest: `python -m src.prepare data=places`."""

import signal
import sys

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text

from src.common.command import command
from src.common.errors import InputError
from src.common.options import check_options
from src.common.schemas import PrepareOptions
from src.data.files import MAX_LISTED, escape_unprintable
from src.data.preparation import PreparedDataset
from src.data.preparation import prepare as prepare_files
from src.data.summary import corrupt_table, splits_table


def prepare(cfg: DictConfig) -> PreparedDataset:
    """Read every image of the dataset in a conf/prepare.yaml config and write its manifest."""
    check_options(cfg, PrepareOptions)
    data = instantiate(cfg.data.datamodule)
    options = {key: cfg[key] for key in ("workers", "corrupt", "moved", "verify")}
    return prepare_files(data.files, data.crops.transforms, **options)


@command("prepare", PrepareOptions)
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
