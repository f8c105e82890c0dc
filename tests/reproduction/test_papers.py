"""Files of the papers' tables and figures: strict reading, and errors that name the file and the key."""

import pytest
import yaml

from src.common.errors import InputError
from src.reproduction.papers import PaperFigure, PaperTable, read_paper_file

TABLE = {
    "title": "t",
    "paper": "p",
    "source": "Table 2",
    "kind": "training",
    "data": None,
    "mask": "strokes",
    "protocol": {"resolution": "256x256"},
    "choices": [{"open": "o", "choice": "c", "reason": "r"}],
    "bins": ["all"],
    "metrics": [{"name": "PSNR", "direction": "higher", "ours": "psnr"}],
    "rows": [
        {"method": "full", "row": "full", "reference": True, "values": {"PSNR": {"all": 28.5}}},
        {
            "method": "GL",
            "row": None,
            "why": "not implemented here",
            "values": {"PSNR": {"all": None}},
            "unprinted": "-",
        },
    ],
}
TIMING = TABLE | {
    "kind": "benchmark",
    "side_px": 512,
    "protocol": {"hardware": "one Titan XP"},
    "metrics": [{"name": "PSNR", "direction": "lower", "ours": "ms", "device": "cpu"}],
}
FIGURE = {
    **{key: TABLE[key] for key in ("title", "paper", "source", "data", "mask")},
    "kind": "figure",
    "shows": "edges",
    "rows": [{"method": "full", "row": "table2/full"}],
}


def read(tmp_path, content):
    path = tmp_path / "table2.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_paper_file(path)


def test_tables_and_figures_are_read_completely(tmp_path):
    table, figure = read(tmp_path, TABLE), read(tmp_path, FIGURE)
    assert isinstance(table, PaperTable)
    assert (table.bins, table.rows[0].values["PSNR"]["all"], table.rows[1].row) == (("all",), 28.5, None)
    assert (table.metrics[0].ours, table.choices[0].reason) == ("psnr", "r")
    timing = read(tmp_path, TIMING)
    assert (table.side_px, timing.side_px, timing.metrics[0].device) == (None, 512, "cpu")
    tested = read(tmp_path, TABLE | {"test_size": [512, 680], "test_mask": "centre"})
    assert (tested.test_size, tested.test_mask) == ((512, 680), "centre")
    assert (table.test_size, table.test_mask) == (None, None)
    second = {"name": "SSIM", "direction": "higher", "ours": "ssim", "printed": False}
    assert [m.printed for m in read(tmp_path, TABLE | {"metrics": [*TABLE["metrics"], second]}).metrics] == [
        True,
        False,
    ]
    assert isinstance(figure, PaperFigure)
    assert figure.rows[0].row == "table2/full"


def changed(part, table=TABLE, **keys):
    """Return the table with other keys in the first of its metrics or rows."""
    return table | {part: [table[part][0] | keys, *table[part][1:]]}


WRONG = {
    "PaperTable: keys must be among .*got": {key: value for key, value in TABLE.items() if key != "bins"},
    "PaperMetric: keys must be among .*'colour'": changed("metrics", colour="red"),
    "kind must be one of training": TABLE | {"kind": "trained"},
    "direction must be one of higher, lower": changed("metrics", direction="up"),
    "ours must be null if and only if": changed("metrics", ours=None),
    "row must be null if and only if": changed("rows", why="no reason needed"),
    "null values without a reason: give it in unprinted": changed("rows", values={"PSNR": {"all": None}}),
    r"full has values of \['SSIM'\]": changed("rows", values={"SSIM": {"all": 0.9}}),
    "full, PSNR: bins must be among": changed("rows", values={"PSNR": {"(0.1,0.2]": 28.5}}),
    "more than one row has reference: true": TABLE | {"rows": [TABLE["rows"][0], TABLE["rows"][0]]},
    "side_px must be pixels in a benchmark.*got None": TIMING | {"side_px": None},
    "side_px must be pixels in a benchmark.*got '512'": TIMING | {"side_px": "512"},
    "absent in other tables, got 512": TABLE | {"side_px": 512},
    r"test_size must be \[height, width\] in pixels, got \(512,\)": TABLE | {"test_size": [512]},
    r"test_size must be \[height, width\] in pixels, got 512": TABLE | {"test_size": 512},
    "a benchmark has no test": TIMING | {"test_mask": "centre"},
    r"full has values of \['PSNR'\], expected those of the metrics \[\]": changed("metrics", printed=False),
    "add protocol.hardware, ": TIMING | {"protocol": {}},
    "PSNR: ours must be one of ms, parameters_m in a benchmark.*got 'psnr'": changed(
        "metrics", TIMING, ours="psnr", device=None
    ),
    "an image score in other tables, got 'ms'": changed("metrics", ours="ms"),
    "device must be one of cuda, cpu": changed("metrics", TIMING, device="gpu"),
    "PSNR: a metric with a device must have ours: ms": changed("metrics", TIMING, ours="parameters_m"),
    "two rows have the same method": FIGURE | {"rows": [FIGURE["rows"][0], FIGURE["rows"][0] | {"row": "table2/b"}]},
    "or the same config": FIGURE | {"rows": [FIGURE["rows"][0], FIGURE["rows"][0] | {"method": "b"}]},
    "shows must be one of comparison": FIGURE | {"shows": "everything"},
    "must contain a mapping": ["a list"],
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_name_the_file_and_what_is_wrong(tmp_path, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, WRONG[message])
    assert str(caught.value).startswith(str(tmp_path / "table2.yaml"))


def test_missing_and_broken_files_raise_an_error(tmp_path):
    with pytest.raises(InputError, match=f"no table or figure at {tmp_path / 'none.yaml'}"):
        read_paper_file(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("rows: [", encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.yaml: "):
        read_paper_file(tmp_path / "broken.yaml")
