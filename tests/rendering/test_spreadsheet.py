"""CSV files for spreadsheets: no cell is a formula, no name controls a terminal, and values stay."""

import io

import pandas as pd

from src.rendering.spreadsheet import to_csv


def test_texts_that_look_like_formulas_are_quoted_and_control_characters_escaped():
    names = ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\tx", "\rx", "a\x1b[31m", "a\nb", "ä b"]
    names += ["-1.5e3", "+2%"]  # numbers
    frame = pd.DataFrame({"name": names, "=value": range(len(names))})
    read = pd.read_csv(io.StringIO(to_csv(frame)), dtype={"name": str})
    assert list(read) == ["name", "'=value"]
    assert read["name"].tolist() == [
        "'=1+1", "'+cmd|' /C calc'!A0", "'-x", "'@SUM(A1)", "'\\tx", "'\\rx", "a\\x1b[31m", "a\\nb", "ä b",
        "-1.5e3", "+2%",
    ]  # fmt: skip


def test_numbers_keep_ten_digits_and_missing_values_are_empty():
    frame = pd.DataFrame({"a": [-1 / 3, None], "b": [None, "x"], "c": [True, False]})
    assert to_csv(frame) == "a,b,c\n-0.3333333333,,True\n,x,False\n"
