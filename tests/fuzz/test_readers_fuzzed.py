"""Readers of corrupt files return what is documented or raise `InputError`.

The default tests use few inputs; `make fuzz` runs for minutes and is reproducible by its FUZZ_SEED:

    make fuzz FUZZ_SECONDS=600 FUZZ_SEED=1 FUZZ_FOLDER=fuzz

Findings are kept in FUZZ_FOLDER, each with its file and a description.
"""

import os
import struct
import tempfile
import time
from pathlib import Path

import pytest

from src.common.errors import InputError
from src.image_files.reading import read_image
from tests.fuzz.runs import fuzz
from tests.fuzz.targets import Target, targets

NAMES = (
    *("png", "jpg", "webp", "bmp", "tif"),
    *("tensors", "bank", "records", "manifest", "votes", "checkpoint", "exported"),
    *("optimizer", "run_directory", "run_state"),
)
SEED = int(os.environ.get("FUZZ_SEED", "0"))


@pytest.fixture(scope="session")
def all_targets(tmp_path_factory) -> dict[str, Target]:
    return targets(tmp_path_factory.mktemp("fuzz") / "seeds")


def descriptions(outcome) -> str:
    return "".join(f"\n{finding}: {(finding / 'what.txt').read_text()}" for finding in outcome.findings)


def test_every_target_is_listed(all_targets):
    assert set(NAMES) == set(all_targets)


@pytest.mark.parametrize("name", NAMES)
def test_corrupt_files_cause_no_finding(all_targets, tmp_path, name):
    count = 20 if name == "checkpoint" else 60
    outcome = fuzz(name, all_targets[name], tmp_path, seed=0, count=count)
    assert not outcome.findings, descriptions(outcome)
    assert outcome.inputs == count
    # corrupt marks of a run mean that it is unfinished
    assert outcome.rejected > count / (10 if name == "run_directory" else 4)


@pytest.mark.parametrize("name", NAMES)
def test_valid_files_are_read(all_targets, tmp_path, name):
    given = all_targets[name]
    for seed, data in given.seeds.items():
        if "code" in seed or (name == "tensors" and seed == "pickle") or seed == "aliases":
            continue  # rejected even without a mutation
        unchanged = Target(given.suffix, {seed: data}, lambda unchanged, rng: unchanged, given.read)
        outcome = fuzz(name, unchanged, tmp_path / seed, seed=0, count=3)
        assert not outcome.findings, descriptions(outcome)
        assert outcome.read > 0 or name in ("png", "jpg", "webp", "bmp", "tif")  # an image is not a mask


@pytest.mark.fuzz
@pytest.mark.parametrize("name", NAMES)
def test_corrupt_files_for_minutes(all_targets, name, capsys):
    folder = Path(os.environ.get("FUZZ_FOLDER") or tempfile.mkdtemp(prefix="fuzz_"))
    seconds = float(os.environ.get("FUZZ_SECONDS", "600")) / len(NAMES)
    outcome = fuzz(name, all_targets[name], folder.absolute(), seed=SEED, seconds=seconds)
    with capsys.disabled():
        print(
            f"\n{name}: {outcome.inputs} inputs in {outcome.seconds:.0f} s, {outcome.read} read, {outcome.rejected} "
            f"rejected, {len(outcome.findings)} findings"
        )
    assert not outcome.findings, descriptions(outcome)


# The fuzzer itself


def reading(read) -> Target:
    return Target(".bin", {"seed": b"abcd"}, lambda data, rng: data + rng.randbytes(2), read)


def test_crashes_hangs_and_wrong_exceptions_are_recorded_with_their_inputs(tmp_path, monkeypatch):
    def every_third(path, rng):
        kind = path.read_bytes()[-1] % 4
        if kind == 0:
            os.kill(os.getpid(), 11)
        if kind == 1:
            raise KeyError("not ours")
        if kind == 2:
            raise InputError("this one says no file")
        raise InputError(f"{path}: rejected")

    outcome = fuzz("made up", reading(every_third), tmp_path, seed=1, count=12)
    texts = [(finding / "what.txt").read_text() for finding in outcome.findings]
    assert any("KeyError: 'not ours'" in text for text in texts)
    assert any("status 11" in text or "status 139" in text for text in texts)
    assert any("names no file" in text for text in texts)
    assert outcome.inputs == 12
    assert 0 < outcome.rejected == 12 - len(texts)
    again = fuzz("made up", reading(every_third), tmp_path / "again", seed=1, count=12)
    for one, other in zip(outcome.findings, again.findings, strict=True):
        assert (one / "input.bin").read_bytes() == (other / "input.bin").read_bytes()

    monkeypatch.setattr("tests.fuzz.runs.HANG_S", 0.5)  # only here: starting a process can take as long
    hanging = fuzz("hangs", reading(lambda path, rng: time.sleep(60)), tmp_path, seed=0, count=1)
    assert "no answer in 0.5 s" in descriptions(hanging)


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fuzz.runs.MEMORY_BYTES", 100 << 20)
    outcome = fuzz("grows", reading(lambda path, rng: bytearray(300 << 20)), tmp_path, seed=0, count=1)
    assert "MemoryError" in descriptions(outcome)


def test_too_large_images_are_rejected_before_allocation(tmp_path):
    header = struct.pack("<IIIHHIIIIII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "large.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)
    with pytest.raises(InputError, match=r"large\.bmp: is too large: "):
        read_image(tmp_path / "large.bmp")
