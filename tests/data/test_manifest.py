import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.common.errors import InputError
from src.data import examination, splits
from src.data.examination import Examination, crop_size, examined
from src.data.files import AUTO, PictureFiles, printable
from src.data.manifest import COLUMNS, FACTS, Manifest, described, relative_names, write_manifest
from src.data.preparation import prepare
from src.data.transforms import random_resized_crop, resize_and_center_crop

TRANSFORMS = {"train": resize_and_center_crop(8, 10), "evaluation": resize_and_center_crop(8, 10)}


def save(path: Path, seed: int = 0, size: tuple[int, int] = (12, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (seed % 256, 90, 30)).save(path)


@pytest.fixture
def root(tmp_path) -> Path:
    for i in range(20):
        save(tmp_path / "root" / f"{i}.png", i)
    return tmp_path / "root"


def files(root: Path, manifest: str | Path | None = AUTO, **arguments) -> PictureFiles:
    return PictureFiles("mine", root, partial(splits.by_shares, **arguments), "pictures", "me", manifest)


def prepared(root: Path, manifest: str | Path | None = AUTO, **options):
    return prepare(files(root, manifest), TRANSFORMS, **options)


def all_of(found: PictureFiles) -> dict[str, list[Path]]:
    return {split: found.of(split) for split in ("train", "validation", "test")}


def test_the_splits_of_a_manifest_stay(root):
    drawn = all_of(files(root))
    assert files(root).manifest_path == root / "mine.manifest.parquet"
    assert "sha256_of_manifest" not in files(root).facts("test")
    made = prepared(root)
    assert all_of(files(root)) == drawn
    save(root / "new.png", 50)
    (root / "3.png").unlink()
    assert all_of(files(root, None)) != drawn  # another draw
    assert all_of(files(root)) == drawn
    assert files(root).facts("test")["sha256_of_manifest"] == made.origin.sha256
    assert len(made.origin.sha256) == 64


def test_the_hash_is_of_contents_and_not_of_places(root, tmp_path):
    first = prepared(root).origin.sha256
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    for path in root.glob("*.png"):
        (copied / path.name).write_bytes(path.read_bytes())
    assert prepared(copied).origin.sha256 == first
    save(copied / "7.png", 200)
    assert prepared(copied).origin.sha256 != first


def test_a_manifest_goes_with_a_copy(root, tmp_path):
    prepared(root)
    moved = root.rename(tmp_path / "moved")
    files(moved).check(["train"], "hash")
    assert all(path.parent == moved for path in files(moved).of("train"))


def test_what_has_changed_is_named_before_training(root):
    prepared(root)
    train = [path.name for path in files(root).of("train")]
    changed, missing, same_size = train[:3]
    files(root).check(["train"])
    save(root / same_size, 99)
    os.truncate(root / changed, 20)
    (root / missing).unlink()
    size = (root / same_size).stat().st_size
    assert size == Manifest.read(root / "mine.manifest.parquet").table["bytes"][0].as_py()
    with pytest.raises(InputError) as error:
        files(root).check(["train"])
    assert f"{missing} is missing" in str(error.value)
    assert f"{changed} has 20 bytes, not {size}" in str(error.value)
    assert same_size not in str(error.value)
    assert "python -m src.prepare data=mine" in str(error.value)
    with pytest.raises(InputError, match=f"{same_size} has another content"):
        files(root).check(["train"], "hash")
    files(root).check(["train"], "none")
    files(root).check(["validation", "test"], "hash")
    with pytest.raises(InputError, match=r"data\.verify must be size, hash or none, got often"):
        files(root).check(["train"], "often")


def test_new_and_damaged_pictures_are_said(root, caplog):
    caplog.set_level("INFO")
    (root / "4.png").write_bytes(b"no picture")
    prepared(root, damaged="skip")
    files(root).check(["train"])
    assert "left out as damaged, says its manifest: 4.png" in caplog.text
    assert "does not know it" not in caplog.text
    for i in range(5):
        save(root / f"new_{i}\n.png", 50)
    files(root).check(["train"])
    assert caplog.text.count(r"does not know it: new_0\n.png, new_1\n.png, new_2\n.png and 2 more; python -m") == 1


def test_a_split_that_was_drawn_otherwise_is_refused(root):
    prepared(root)
    others = {
        r"data\.split\.seed=1 \(it has 0\)": files(root, seed=1),
        r"data\.split\.pictures=\['\*'\] \(it has \['\*\*/\*'\]\)": files(root, pictures=["*"]),
        r"data=yours \(it has mine\)": PictureFiles("yours", root, splits.by_shares, "", "", files(root).manifest_path),
    }
    for key, other in others.items():
        for use in (lambda other=other: other.of("train"), lambda other=other: prepare(other, TRANSFORMS)):
            with pytest.raises(InputError, match=key):
                use()
    ordered = PictureFiles("mine", root, partial(splits.last_files, pictures=["*"], validation=1, test=1), "", "", AUTO)
    with pytest.raises(InputError, match=r"data\.split\._target_=src\.data\.splits\.last_files \(it has"):
        ordered.of("train")
    assert files(root, seed=0).of("train")  # its default


def test_a_manifest_that_is_named_must_be_there(root, tmp_path):
    with pytest.raises(InputError, match=r"nothing\.parquet: there is no such manifest; python -m src\.prepare writes"):
        files(root, tmp_path / "nothing.parquet").of("train")
    prepared(root, tmp_path / "sub" / "mine.parquet")
    assert len(files(root, tmp_path / "sub" / "mine.parquet").of("train")) == 16
    assert not list(root.glob("*.parquet"))
    assert prepared(root, None).origin is None
    assert not list(root.glob("*.parquet"))


def test_what_is_no_manifest_is_refused_by_name(root):
    prepared(root)
    path = root / "mine.manifest.parquet"
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[whole.index(b".png")] ^= 1  # in a page of names, which is no less readable then
    damaged = dict.fromkeys((whole[:-1], bytes(middle)), r"is a damaged manifest .*: delete it")
    foreign = dict.fromkeys(
        (b"", b"a text\n", whole[: len(whole) // 3]), r"is no manifest .*: give data\.manifest=<file>"
    )
    for content, said in (damaged | foreign).items():
        path.write_bytes(content)
        for use in (lambda: files(root).of("train"), lambda: prepared(root)):
            with pytest.raises(InputError, match=rf"{path}: {said}") as refused:
                use()
            assert ("delete" in str(refused.value)) == (content in damaged)
    pq.write_table(pa.table({"path": ["a"]}), path)
    with pytest.raises(InputError, match=r"a Parquet file, but no manifest of python -m src\.prepare: give data\."):
        files(root).of("train")
    table = pq.read_table(path).replace_schema_metadata({b"inpainting_suite.manifest": json.dumps({"name": "mine"})})
    pq.write_table(table, path)
    with pytest.raises(InputError, match="was written by another version of this suite"):
        files(root).of("train")
    path.write_bytes(whole[:-9] + b"\xff" + whole[-8:])  # in the footer, of which Arrow speaks in several lines
    with pytest.raises(InputError, match="is a damaged manifest") as refused:
        files(root).of("train")
    assert "\n" not in str(refused.value)
    table = pq.read_table(pa.BufferReader(whole))
    renamed = table.rename_columns(["other", *table.column_names[1:]]).replace_schema_metadata(table.schema.metadata)
    pq.write_table(renamed, path)
    with pytest.raises(InputError, match=r"was written by another version of this suite \(its columns are others"):
        files(root).of("train")


@settings(deadline=None, max_examples=40)
@given(
    names=st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), unique=True),
    data=st.data(),
)
def test_a_manifest_keeps_names_and_order(tmp_path_factory, names, data):
    of = [data.draw(st.sampled_from(["train", "validation", "test", None])) for _ in names]
    rows = [{"path": name, "split": split} for name, split in zip(names, of, strict=True)]
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    write_manifest(path, pa.Table.from_pylist(rows, COLUMNS), name="any", root=Path("r"), split=splits.by_shares)
    manifest = Manifest.read(path)
    assert manifest.split_of() == dict(zip(names, of, strict=True))
    for split in ("train", "validation", "test"):
        assert manifest.names(split) == [name for name, its in zip(names, of, strict=True) if its == split]
    assert all("\n" not in printable(name) and printable(name).isprintable() for name in names)


def test_pictures_that_would_move_stop_it(root):
    prepared(root)
    before = {split: [path.name for path in of] for split, of in all_of(files(root)).items()}
    save(root / "new.png", 50)
    with pytest.raises(InputError, match=r"pictures that the manifest .* would change their split, .* from \w+ to \w+"):
        prepared(root)
    assert {split: [path.name for path in of] for split, of in all_of(files(root)).items()} == before
    kept = prepared(root, moved="keep")
    assert kept.read == 0
    assert {split: [path.name for path in of] for split, of in all_of(files(root)).items()} == before
    (root / before["train"].pop(0)).unlink()
    prepared(root, moved="keep")
    assert {split: [path.name for path in of] for split, of in all_of(files(root)).items()} == before
    assert prepared(root, moved="redraw").read == 1
    assert all_of(files(root)) == all_of(files(root, None))


def test_pictures_that_would_leave_the_splits_stop_it_too(root):
    draw = partial(splits.draw_from_train, train=["1*"], test=["?.png"], validation_count=2, test_count=3)
    prepare(PictureFiles("mine", root, draw, "", "", AUTO), TRANSFORMS)
    tested = PictureFiles("mine", root, draw, "", "", AUTO).of("test")
    for name in "abcdefgh":
        save(root / f"{name}.png")
    assert not set(tested) <= set(PictureFiles("mine", root, draw, "", "").of("test"))
    with pytest.raises(InputError, match=r"would change their split, .* from test to none"):
        prepare(PictureFiles("mine", root, draw, "", "", AUTO), TRANSFORMS)


def test_pictures_that_move_none_are_taken_in(root):
    ordered = partial(splits.by_patterns, train=["1*"], validation=["2*"], test=["3*"])
    own = PictureFiles("mine", root, ordered, "", "", AUTO)
    prepare(own, TRANSFORMS)
    save(root / "100.png", 100)
    (root / "15.png").unlink()
    assert prepare(own, TRANSFORMS).read == 1
    assert [path.name for path in PictureFiles("mine", root, ordered, "", "", AUTO).of("train")][-2:] == [
        "19.png",
        "100.png",
    ]


def test_only_what_is_new_changed_or_damaged_is_read(root):
    (root / "4.png").write_bytes(b"no picture")
    assert prepared(root, damaged="skip").read == 20
    assert prepared(root, damaged="skip").read == 1
    os.utime(root / "5.png", ns=(0, 10**18))
    save(root / "4.png", 4)
    assert prepared(root).read == 2
    assert prepared(root).read == 0
    assert prepared(root, verify="all").read == 20


def test_damaged_files_are_found_whatever_is_wrong(root):
    whole = (root / "0.png").read_bytes()
    (root / "0.png").write_bytes(b"")
    (root / "1.png").write_bytes(whole[:-30])
    (root / "2.png").write_text("a text")
    (root / "3.png").unlink()
    (root / "3.png").symlink_to("nowhere")
    save(root / "5.png", 5, (1_000_000, 1))
    bad = os.fsdecode(b"\xff.png")
    (root / "6.png").rename(root / bad)
    found = prepared(root, damaged="skip")
    reasons = dict(zip(found.damaged["path"], found.damaged["damaged"], strict=True))
    assert reasons.pop("0.png") == "is empty"
    assert "cut off" in reasons.pop("1.png")
    assert reasons.pop("2.png").startswith("is not a PNG")
    assert reasons.pop("3.png") == "there is no such file, the link leads nowhere"
    assert reasons.pop("5.png") == "is 1000000x1: with a shorter side of 10 px it would have 100000000 pixels"
    assert reasons.pop("\\udcff.png") == "its name is not UTF-8: rename it"
    assert not reasons
    assert found.damaged_list.read_text().splitlines()[0] == "path,split,damaged"
    left = [path.name for of in all_of(files(root)).values() for path in of]
    assert sorted(left) == sorted(f"{i}.png" for i in range(20) if i not in (0, 1, 2, 3, 5, 6))


def test_with_damaged_files_no_manifest_is_written_unless_told(root):
    (root / "0.png").write_bytes(b"")
    found = prepared(root)
    assert found.origin is None
    assert not (root / "mine.manifest.parquet").exists()
    assert found.damaged_list == root / "mine.manifest.parquet.damaged.csv"
    save(root / "0.png", 0)
    assert prepared(root).read == 1  # the others were kept
    assert sorted(path.name for path in root.iterdir() if path.suffix != ".png") == ["mine.manifest.parquet"]


def test_a_picture_must_be_large_enough_for_its_crop():
    assert crop_size(resize_and_center_crop((8, 6), 10), 1, 1) == (8, 6)
    assert crop_size(random_resized_crop(16), 5, 9) == (16, 16)
    with pytest.raises(InputError, match="is 9000x1: with a shorter side of 350 px it would have 1102500000 pixels"):
        crop_size(resize_and_center_crop(256, 350), 1, 9000)
    import albumentations as A

    with pytest.raises(InputError, match="is 9x7, of which the transforms make no crop: "):
        crop_size(A.Compose([A.RandomCrop(8, 8)]), 7, 9)


def test_pictures_in_two_splits_are_told(root):
    train, test = files(root).of("train")[2], files(root).of("test")[0]
    test.write_bytes(train.read_bytes())
    assert prepared(root).repeated == [(train.name, test.name)]


def test_enlarged_pictures_are_counted(root):
    save(root / "3.png", 3, (7, 30))
    assert prepared(root).enlarged == 1


def test_processes_find_the_same(root):
    (root / "4.png").write_bytes(b"no picture")
    alone = prepared(root, None)
    together = prepared(root, None, workers=2)
    assert alone.pictures.equals(together.pictures)


def crash(root: Path, name: str):
    if name == "7.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return examined(root, name)


def test_a_file_that_ends_its_reader_is_damaged(root, monkeypatch):
    monkeypatch.setattr(examination, "examined", crash)
    monkeypatch.setattr(examination, "FILES_A_TASK", 2)
    found = prepared(root, damaged="skip", workers=1)
    assert found.damaged["path"].tolist() == ["7.png"]
    assert found.damaged["damaged"].iloc[0].startswith("ends the process that reads it")
    assert found.read == 20


def test_what_a_stopped_scan_found_is_not_read_again(root, monkeypatch):
    def stopping(root, name):
        if name == "17.png":
            raise KeyboardInterrupt
        return examined(root, name)

    monkeypatch.setattr(examination, "examined", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepared(root)
    monkeypatch.undo()
    kept = list((root / "mine.manifest.parquet.unfinished").iterdir())
    assert len(kept) == 1
    again = prepared(root)
    assert 0 < again.read < 20
    assert not kept[0].parent.exists()
    kept[0].parent.mkdir()
    kept[0].write_bytes(b"torn")  # found anew
    assert prepared(root, verify="all").read == 20


def test_everything_is_read_whatever_a_stopped_scan_of_less_has_found(root, monkeypatch):
    def stop_at_the_tenth(root, name):
        nonlocal count
        count += 1
        if count == 10:
            raise KeyboardInterrupt
        return examined(root, name)

    for verify, read in (("changed", 20), ("all", 11)):
        count = 0
        monkeypatch.setattr(examination, "examined", stop_at_the_tenth)
        with pytest.raises(KeyboardInterrupt):
            prepared(root, verify=verify)
        monkeypatch.undo()
        assert prepared(root, verify="all").read == read


def test_no_split_is_left_without_pictures(root):
    prepared(root)
    before = all_of(files(root))
    for path in before["validation"]:
        path.rename(path.with_suffix(".away"))
    for moved, damaged in (("keep", "stop"), ("keep", "skip")):
        with pytest.raises(InputError, match=r"would have no sound picture for validation: put back .*moved=redraw"):
            prepared(root, moved=moved, damaged=damaged)
    assert all_of(files(root)) == before
    prepared(root, moved="redraw")
    tested = files(root).of("test")
    for path in tested:
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="would have no sound picture for test: replace its damaged ones"):
        prepared(root, damaged="skip")
    assert files(root).of("test") == tested


SLOW = """
import sys, time
from pathlib import Path
from src.data import examination, splits
from src.data.files import AUTO, PictureFiles
from src.data.preparation import prepare
from src.data.transforms import resize_and_center_crop

def slow(root, name, examined=examination.examined):
    time.sleep(0.2)
    return examined(root, name)

examination.examined, examination.FILES_A_TASK, examination.KEPT_AFTER_FILES = slow, 1, 2
files = PictureFiles("mine", Path(sys.argv[1]), splits.by_shares, "", "", AUTO)
prepare(files, dict.fromkeys(("train", "evaluation"), resize_and_center_crop(8, 10)), workers=2)
"""


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_scan_goes_on_and_leaves_no_process(root):
    parts = root / "mine.manifest.parquet.unfinished"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(root)], start_new_session=True)
    try:
        while len(list(parts.glob("*.parquet"))) < 2:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    known = len(Examination(root, parts, 0).known())
    assert 4 <= known < 20
    assert prepared(root).read == 20 - known
    deadline = time.monotonic() + 30
    while alive(process.pid) and time.monotonic() < deadline:  # until its workers have ended, too
        time.sleep(0.02)
    if alive(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("its workers live on")


def test_a_place_that_can_not_be_written_is_named_before_anything_is_read(root, monkeypatch):
    (root / "file").write_text("in the way")
    monkeypatch.setattr(examination, "examined", None)
    with pytest.raises(
        InputError, match=r"data\.manifest=.*/file/m can't be written: Not a directory; give data\.mani"
    ):
        prepared(root, root / "file" / "m")


def test_split_functions_are_described_with_all_their_arguments():
    assert described(partial(splits.last_files, pictures=["*"], validation=1, test=2)) == {
        "_target_": "src.data.splits.last_files",
        **{"pictures": ["*"], "validation": 1, "test": 2},
    }
    assert described(splits.by_shares)["seed"] == 0
    with pytest.raises(InputError, match=r"data\.split: by_patterns got an unexpected keyword argument 'seed'"):
        described(partial(splits.by_patterns, seed=1))


@pytest.mark.parametrize("root", [".", "/", "a", "a/b", "/a"])
def test_relative_names(root):
    names = ["x.jpg", "c/y.jpg"]
    assert relative_names(Path(root), [Path(root) / name for name in names]) == names


def test_of_two_rows_of_a_file_the_later_one_counts(root):
    rows = [examined(root, "3.png"), examined(root, "3.png") | {"bytes": 1}]
    names = pa.array(["3.png", "4.png"])
    for known, current in ((rows, []), (rows[::-1], ["3.png"])):
        found = Examination(root, None, 0).unchanged(names, pa.Table.from_pylist(known, FACTS))
        assert found["path"].to_pylist() == current
