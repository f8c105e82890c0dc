"""Tensor files: both formats are read, code in them is not run, and errors name the file."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from src.common.errors import InputError
from src.common.tensor_files import read_tensor_file, state_dict_mismatch


def test_both_formats_are_read(tmp_path):
    state = {"w": torch.rand(2, 3)}
    torch.save({"state": state, "step": 3}, tmp_path / "a.pth")
    torch.save({"state": state}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "a.safetensors")
    save_file(state, tmp_path / "b.pth")  # the suffix does not decide the format
    read, old = (read_tensor_file(tmp_path / name, "checkpoint") for name in ("a.pth", "old.bin"))
    assert read["step"] == 3
    others = (read_tensor_file(tmp_path / name, "checkpoint") for name in ("a.safetensors", "b.pth"))
    for given in (read["state"], old["state"], *others):
        assert torch.equal(given["w"], state["w"])


class Code:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("code.pth", pickle.dumps(Code()), "contains more than tensors and plain values, or is not a checkpoint"),
        ("text.pth", b"<!DOCTYPE html>", "is not a checkpoint: .*, as it begins with b'<!DOCTYP"),
        ("empty.pth", b"", "is not a checkpoint: .*, as it is empty"),
        ("short.safetensors", b"\x00" * 8 + b"{}", "is corrupt or not a checkpoint"),
        ("zip.pth", b"PK\x03\x04" + b"\x00" * 200, "is corrupt or not a checkpoint"),
    ],
)
def test_other_files_are_rejected_by_name(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as rejected:
        read_tensor_file(tmp_path / name, "checkpoint")
    assert str(tmp_path / name) in str(rejected.value)
    assert "\n" not in str(rejected.value)
    assert not (tmp_path / "owned").exists()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=f"^no checkpoint at {tmp_path / 'gone.pth'}$"):
        read_tensor_file(tmp_path / "gone.pth", "checkpoint")


def test_state_dict_mismatch_lists_the_first_names_of_each_kind():
    expected = {name: torch.zeros(2) for name in "abcdefg"}
    assert state_dict_mismatch(expected, expected) == ""
    assert state_dict_mismatch(expected, {"a": torch.zeros(3), "b": torch.zeros(2), "z": torch.zeros(1)}) == (
        "5 missing (c, d, e and 2 more); 1 unexpected (z); 1 with another shape (a is (3,), expected (2,))"
    )
