"""Console tables that summarise a prepared dataset."""

import pandas as pd
from rich.table import Table
from rich.text import Text

from src.data.files import escape_unprintable
from src.data.manifest import SPLITS


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
