"""Files from anyone: pipes, devices, bombs and deep nesting end in a sentence, at once."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from src.checkpoints.reading import read_checkpoint
from src.common.errors import InputError
from src.common.untrusted_files import MAX_TEXT_BYTES, read_arrays, read_json, read_text, read_yaml
from src.masks.bank import MaskBank


def test_pipes_devices_and_directories_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", tmp_path / "pipe" / "none"):
        for read in (read_text, read_yaml, read_json, read_checkpoint, MaskBank.load):
            with pytest.raises(InputError, match=path.name):
                read(path)
    with pytest.raises(InputError, match="pipe or device"):
        read_text(type(tmp_path)("/dev/zero"))


ALIASES = "a: &a [x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIASES, "alias"),
        ("a: &a [*a]", "alias"),
        ("[" * 20_000 + "]" * 20_000, "nested brackets"),
        ("{" * 20_000, "nested brackets"),
        ("- " * 20_000, "nested too deeply"),
        ("x" * (MAX_TEXT_BYTES + 1), "more than"),
        ("a: [", "is corrupt"),
        ("a: !!python/object/apply:os.system [touch owned]", "is corrupt"),
        ("a: " + "9" * 5000, "is corrupt"),
    ],
)
def test_yaml(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"a\.yaml.*{message}"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 200_000, "nested too deeply"), ("{", "is corrupt"), ("9" * 5000, "is corrupt"), ("\udcff", "not UTF-8")],
)
def test_json(tmp_path, text, message):
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=rf"a\.json.*{message}"):
        read_json(tmp_path / "a.json")


def test_plain_files_are_read(tmp_path):
    content = {"a": [1, 2.5, None, "ä"], "b": {"c": True}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read_json(tmp_path / "a.json") == read_yaml(tmp_path / "a.json") == content


def test_arrays_allocate_what_the_file_holds(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(6).reshape(2, 3), b="text")
    assert read_arrays(path)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(64))
    with pytest.raises(ValueError, match=r"a\.npy states 1000000000000 values and has"):
        read_arrays(path)
    np.savez_compressed(path, a=np.zeros(10_000))
    monkeypatch.setattr("src.common.untrusted_files.MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(ValueError, match="unpacks to more than 10000 bytes"):
        read_arrays(path)
