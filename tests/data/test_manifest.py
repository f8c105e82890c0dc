import json
import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.common.errors import InputError
from src.data import scan, splits
from src.data.files import AUTO, DatasetFiles, escape_unprintable
from src.data.manifest import COLUMNS, Manifest, describe_split, relative_names, write_manifest
from src.data.preparation import prepare
from src.data.scan import scan_file
from src.data.transforms import (
    MAX_RESIZED_PX,
    crop_size,
    random_resized_crop,
    resize_and_center_crop,
    resize_shorter_side,
)

TRANSFORMS = {"train": resize_and_center_crop(8, 10), "evaluation": resize_and_center_crop(8, 10)}


def save(path: Path, seed: int = 0, size: tuple[int, int] = (12, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (seed % 256, 90, 30)).save(path)


@pytest.fixture
def root(tmp_path) -> Path:
    for i in range(20):
        save(tmp_path / "root" / f"{i}.png", i)
    return tmp_path / "root"


def files(root: Path, manifest: str | Path | None = AUTO, verification="size", **arguments) -> DatasetFiles:
    draw = partial(splits.by_shares, **arguments)
    return DatasetFiles("mine", root, draw, "images", "me", manifest, verification)


def prepared(root: Path, manifest: str | Path | None = AUTO, **options):
    return prepare(files(root, manifest), TRANSFORMS, **options)


def all_of(found: DatasetFiles) -> dict[str, list[Path]]:
    return {split: found.paths(split) for split in ("train", "validation", "test")}


def test_manifest_fixes_the_splits(root):
    drawn = all_of(files(root))
    assert files(root).manifest_path == root / "mine.manifest.parquet"
    assert "sha256_of_manifest" not in files(root).provenance("test")
    made = prepared(root)
    assert all_of(files(root)) == drawn
    save(root / "new.png", 50)
    (root / "3.png").unlink()
    assert all_of(files(root, None)) != drawn  # drawn from the current files
    assert all_of(files(root)) == drawn
    assert files(root).provenance("test")["sha256_of_manifest"] == made.origin.sha256
    assert len(made.origin.sha256) == 64


def test_hash_depends_on_contents_and_not_on_directories(root, tmp_path):
    first = prepared(root).origin.sha256
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    for path in root.glob("*.png"):
        (copied / path.name).write_bytes(path.read_bytes())
    assert prepared(copied).origin.sha256 == first
    save(copied / "7.png", 200)
    assert prepared(copied).origin.sha256 != first


def test_manifest_is_valid_in_a_moved_directory(root, tmp_path):
    prepared(root)
    moved = root.rename(tmp_path / "moved")
    files(moved, verification="hash").verify(["train"])
    assert all(path.parent == moved for path in files(moved).paths("train"))


def test_changed_files_are_named(root):
    prepared(root)
    train = [path.name for path in files(root).paths("train")]
    changed, missing, same_size = train[:3]
    files(root).verify(["train"])
    save(root / same_size, 99)
    os.truncate(root / changed, 20)
    (root / missing).unlink()
    size = (root / same_size).stat().st_size
    assert size == Manifest.read(root / "mine.manifest.parquet").table["bytes"][0].as_py()
    with pytest.raises(InputError) as error:
        files(root).verify(["train"])
    assert f"{missing} is missing" in str(error.value)
    assert f"{changed} has 20 bytes, not {size}" in str(error.value)
    assert same_size not in str(error.value)
    assert "python -m src.prepare data=mine" in str(error.value)
    with pytest.raises(InputError, match=f"{same_size} has other content"):
        files(root, verification="hash").verify(["train"])
    files(root, verification="none").verify(["train"])
    files(root, verification="hash").verify(["validation", "test"])
    with pytest.raises(InputError, match=r"data\.verify must be size, hash or none, got often"):
        files(root, verification="often")


def test_new_and_corrupt_images_are_logged(root, caplog):
    caplog.set_level("INFO")
    (root / "4.png").write_bytes(b"no image")
    prepared(root, corrupt="skip")
    files(root).verify(["train"])
    assert "skipping files that the manifest lists as corrupt: 4.png" in caplog.text
    assert "does not list" not in caplog.text
    for i in range(5):
        save(root / f"new_{i}\n.png", 50)
    files(root).verify(["train"])
    assert caplog.text.count(r"does not list: new_0\n.png, new_1\n.png, new_2\n.png and 2 more; run python -m") == 1


def test_rejects_a_manifest_of_other_splits(root):
    prepared(root)
    others = {
        r"data\.split\.seed=1 instead of 0": files(root, seed=1),
        r"data\.split\.pictures=\['\*'\] instead of \['\*\*/\*'\]": files(root, pictures=["*"]),
        r"data=yours instead of mine": DatasetFiles("yours", root, splits.by_shares, "", "", files(root).manifest_path),
    }
    for key, other in others.items():
        for use in (lambda other=other: other.paths("train"), lambda other=other: prepare(other, TRANSFORMS)):
            with pytest.raises(InputError, match=key):
                use()
    ordered = DatasetFiles("mine", root, partial(splits.last_files, pictures=["*"], validation=1, test=1), "", "", AUTO)
    with pytest.raises(InputError, match=r"data\.split\._target_=src\.data\.splits\.last_files instead of"):
        ordered.paths("train")
    assert files(root, seed=0).paths("train")  # its default


def test_explicit_manifest_must_exist(root, tmp_path):
    with pytest.raises(InputError, match=r"nothing\.parquet does not exist: write it with python -m src\.prepare"):
        files(root, tmp_path / "nothing.parquet").paths("train")
    prepared(root, tmp_path / "sub" / "mine.parquet")
    assert len(files(root, tmp_path / "sub" / "mine.parquet").paths("train")) == 16
    assert not list(root.glob("*.parquet"))
    assert prepared(root, None).origin is None
    assert not list(root.glob("*.parquet"))


def test_rejects_files_that_are_not_manifests(root):
    prepared(root)
    path = root / "mine.manifest.parquet"
    intact = path.read_bytes()
    table = pq.read_table(path)
    renamed = table.rename_columns(["other", *table.column_names[1:]]).replace_schema_metadata(table.schema.metadata)
    older = table.replace_schema_metadata({b"inpainting_suite.manifest": json.dumps({"name": "mine"})})
    flipped = bytearray(intact)
    flipped[intact.index(b".png")] ^= 1  # in a page of names, which stays readable
    footer = intact[:-9] + b"\xff" + intact[-8:]  # Arrow's message about the footer has several lines
    invalid = [b"", b"a text\n", intact[:-1], intact[: len(intact) // 3], bytes(flipped), footer]
    for written in (pa.table({"path": ["a"]}), older, renamed):
        pq.write_table(written, path)
        invalid.append(path.read_bytes())
    for content in invalid:
        path.write_bytes(content)
        for use in (lambda: files(root).paths("train"), lambda: prepared(root)):
            with pytest.raises(InputError, match=rf"{path} is corrupt, not a manifest, or of another version") as error:
                use()
            assert "\n" not in str(error.value)
            assert "set data.manifest=<a manifest>, or, if it is one, delete it and run" in str(error.value)


@settings(deadline=None, max_examples=15)
@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1).filter(lambda name: name != ".."),
        unique=True,
    ),
    data=st.data(),
)
def test_manifest_keeps_names_and_order(tmp_path_factory, names, data):
    drawn = [data.draw(st.sampled_from(["train", "validation", "test", None])) for _ in names]
    rows = [{"path": name, "split": split} for name, split in zip(names, drawn, strict=True)]
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    write_manifest(path, pa.Table.from_pylist(rows, COLUMNS), name="any", root=Path("r"), split=splits.by_shares)
    manifest = Manifest.read(path)
    assert manifest.split_of() == dict(zip(names, drawn, strict=True))
    for split in ("train", "validation", "test"):
        assert manifest.names(split) == [
            name for name, its_split in zip(names, drawn, strict=True) if its_split == split
        ]
    assert all("\n" not in escape_unprintable(name) and escape_unprintable(name).isprintable() for name in names)


def test_images_that_would_change_their_split_are_an_error(root):
    prepared(root)
    before = {split: [path.name for path in paths] for split, paths in all_of(files(root)).items()}
    save(root / "new.png", 50)
    with pytest.raises(InputError, match=r"images of the manifest .* would change their split, .* from \w+ to \w+"):
        prepared(root)
    assert {split: [path.name for path in paths] for split, paths in all_of(files(root)).items()} == before
    kept = prepared(root, moved="keep")
    assert kept.files_read == 0
    assert {split: [path.name for path in paths] for split, paths in all_of(files(root)).items()} == before
    (root / before["train"].pop(0)).unlink()
    prepared(root, moved="keep")
    assert {split: [path.name for path in paths] for split, paths in all_of(files(root)).items()} == before
    assert prepared(root, moved="redraw").files_read == 1
    assert all_of(files(root)) == all_of(files(root, None))


def test_images_that_would_leave_their_split_are_an_error(root):
    draw = partial(splits.draw_from_train, train=["1*"], test=["?.png"], validation_count=2, test_count=3)
    prepare(DatasetFiles("mine", root, draw, "", "", AUTO), TRANSFORMS)
    tested = DatasetFiles("mine", root, draw, "", "", AUTO).paths("test")
    for name in "abcdefgh":
        save(root / f"{name}.png")
    assert not set(tested) <= set(DatasetFiles("mine", root, draw, "", "").paths("test"))
    with pytest.raises(InputError, match=r"would change their split, .* from test to none"):
        prepare(DatasetFiles("mine", root, draw, "", "", AUTO), TRANSFORMS)


def test_new_images_that_move_no_others_are_added(root):
    ordered = partial(splits.by_patterns, train=["1*"], validation=["2*"], test=["3*"])
    own = DatasetFiles("mine", root, ordered, "", "", AUTO)
    prepare(own, TRANSFORMS)
    save(root / "100.png", 100)
    (root / "15.png").unlink()
    assert prepare(own, TRANSFORMS).files_read == 1
    assert [path.name for path in DatasetFiles("mine", root, ordered, "", "", AUTO).paths("train")][-2:] == [
        "19.png",
        "100.png",
    ]


def test_only_new_changed_or_corrupt_files_are_read(root):
    (root / "4.png").write_bytes(b"no image")
    assert prepared(root, corrupt="skip").files_read == 20
    assert prepared(root, corrupt="skip").files_read == 1
    os.utime(root / "5.png", ns=(0, 10**18))
    save(root / "4.png", 4)
    assert prepared(root).files_read == 2
    assert prepared(root).files_read == 0
    assert prepared(root, verify="all").files_read == 20


def test_every_kind_of_corrupt_file_is_found(root):
    intact = (root / "0.png").read_bytes()
    (root / "0.png").write_bytes(b"")
    (root / "1.png").write_bytes(intact[:-30])
    (root / "2.png").write_text("a text")
    (root / "3.png").unlink()
    (root / "3.png").symlink_to("nowhere")
    (root / "5.png").unlink()
    os.mkfifo(root / "5.png")
    found = prepared(root, corrupt="skip")
    reasons = dict(zip(found.corrupt["path"], found.corrupt["corrupt"], strict=True))
    assert reasons.pop("0.png") == "is empty"
    assert "truncated" in reasons.pop("1.png")
    assert reasons.pop("2.png").startswith("is not a PNG")
    assert reasons.pop("3.png") == "is a broken link"
    assert reasons.pop("5.png") == "is a pipe or device, not a file"
    assert not reasons
    left = [path.name for paths in all_of(files(root)).values() for path in paths]
    assert sorted(left) == sorted(f"{i}.png" for i in range(20) if i not in (0, 1, 2, 3, 5))


def test_rejects_names_that_are_not_utf8(root):
    (root / "6.png").rename(root / os.fsdecode(b"\xff.png"))
    with pytest.raises(InputError, match=r"has 1 images whose names are not UTF-8, such as \\xff\.png: rename them"):
        prepared(root, corrupt="skip")


def test_no_manifest_is_written_if_files_are_corrupt(root):
    (root / "0.png").write_bytes(b"")
    found = prepared(root)
    assert found.origin is None
    assert not (root / "mine.manifest.parquet").exists()
    save(root / "0.png", 0)
    assert prepared(root).files_read == 20  # there is no manifest to update
    assert sorted(path.name for path in root.iterdir() if path.suffix != ".png") == ["mine.manifest.parquet"]


def test_image_must_be_large_enough_for_its_crop():
    assert crop_size(resize_and_center_crop((8, 6), 10), 1, 1) == (8, 6)
    assert crop_size(random_resized_crop(16), 5, 9) == (16, 16)
    for height, width in ((1, 9000), (9000, 1)):  # only the middle is resized
        assert crop_size(resize_and_center_crop(256, 350), height, width) == (256, 256)
        assert crop_size(resize_and_center_crop((64, 48), None), height, width) == (64, 48)
        assert resize_shorter_side(np.zeros((height, width, 3), np.uint8), 350).size <= 3 * MAX_RESIZED_PX
    import albumentations as A

    with pytest.raises(InputError, match=r"has a size \(7x9\) that the transforms can't crop: "):
        crop_size(A.Compose([A.RandomCrop(8, 8)]), 7, 9)


def test_identical_images_in_two_splits_are_reported(root):
    train, test = files(root).paths("train")[2], files(root).paths("test")[0]
    test.write_bytes(train.read_bytes())
    assert prepared(root).duplicates == [(train.name, test.name)]


def test_enlarged_images_are_counted(root):
    save(root / "3.png", 3, (7, 30))
    assert prepared(root).enlarged == 1


def test_number_of_processes_does_not_change_the_result(root):
    (root / "4.png").write_bytes(b"no image")
    alone = prepared(root, None)
    together = prepared(root, None, workers=2)
    assert alone.images.equals(together.images)


def crash(root: Path, name: str):
    if name == "7.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return scan_file(root, name)


def test_crashed_worker_is_reported_in_one_line(root, monkeypatch):
    monkeypatch.setattr(scan, "scan_file", crash)
    monkeypatch.setattr(scan, "FILES_PER_TASK", 2)
    with pytest.raises(InputError, match=r"a process that read the images in .* died: .*workers=0") as error:
        prepared(root, corrupt="skip", workers=2)
    assert "\n" not in str(error.value)
    assert not (root / "mine.manifest.parquet").exists()


def test_interrupted_scan_writes_nothing(root, monkeypatch):
    def interrupt(root, name):
        if name == "17.png":
            raise KeyboardInterrupt
        return scan_file(root, name)

    monkeypatch.setattr(scan, "scan_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared(root)
    assert all(path.suffix == ".png" for path in root.iterdir())
    monkeypatch.undo()
    assert prepared(root).files_read == 20


def test_rejects_splits_that_would_become_empty(root):
    prepared(root)
    before = all_of(files(root))
    for path in before["validation"]:
        path.rename(path.with_suffix(".away"))
    for moved, corrupt in (("keep", "stop"), ("keep", "skip")):
        with pytest.raises(InputError, match=r"the validation split would have no intact .*: restore .*moved=redraw"):
            prepared(root, moved=moved, corrupt=corrupt)
    assert all_of(files(root)) == before
    prepared(root, moved="redraw")
    tested = files(root).paths("test")
    for path in tested:
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="the test split would have no intact image: replace its corrupt images"):
        prepared(root, corrupt="skip")
    assert files(root).paths("test") == tested


def scan_slowly(root: Path, started: Path) -> None:
    def slow(root: Path, name: str) -> None:
        (started / str(os.getpid())).touch()
        time.sleep(600)

    os.setsid()
    scan.scan_file, scan.FILES_PER_TASK = slow, 1
    scan.scan_files(root, [f"{i}.png" for i in range(20)], 2)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_killed_scan_leaves_no_process(root, tmp_path):
    started = tmp_path / "started"
    started.mkdir()
    process = multiprocessing.get_context("fork").Process(target=scan_slowly, args=(root, started))
    process.start()
    try:
        while len(list(started.iterdir())) < 2:
            assert process.is_alive()
            time.sleep(0.02)
    finally:
        process.kill()
        process.join()
    deadline = time.monotonic() + 30
    while alive(process.pid) and time.monotonic() < deadline:  # until its workers have ended
        time.sleep(0.02)
    if alive(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("its workers still run")


def test_unwritable_manifest_is_reported_before_reading(root, monkeypatch):
    (root / "file").write_text("in the way")
    monkeypatch.setattr(scan, "scan_file", None)
    with pytest.raises(
        InputError, match=r"data\.manifest=.*/file/m can't be written \(Not a directory\): set data\.mani"
    ):
        prepared(root, root / "file" / "m")


def test_split_functions_are_described_with_all_arguments():
    assert describe_split(partial(splits.last_files, pictures=["*"], validation=1, test=2)) == {
        "_target_": "src.data.splits.last_files",
        **{"pictures": ["*"], "validation": 1, "test": 2},
    }
    assert describe_split(splits.by_shares)["seed"] == 0
    with pytest.raises(InputError, match=r"data\.split: by_patterns got an unexpected keyword argument 'seed'"):
        describe_split(partial(splits.by_patterns, seed=1))


@pytest.mark.parametrize("root", [".", "/", "a", "a/b", "/a"])
def test_relative_names(root):
    names = ["x.jpg", "c/y.jpg"]
    assert relative_names(Path(root), [Path(root) / name for name in names]) == names


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("path", "../outside.png", "inside the dataset's directory"),
        ("path", "a/../../outside.png", "inside the dataset's directory"),
        ("path", "/etc/passwd", "inside the dataset's directory"),
        ("path", "a\0.png", "inside the dataset's directory"),
        ("path", "", "inside the dataset's directory"),
        ("path", None, "missing or occurs twice"),
        ("path", "twice.png", "missing or occurs twice"),
        ("split", "holdout", "one of train, validation, test or null"),
        ("bytes", -2, "at least -1"),
        ("width", -5, "at least 0"),
    ],
)
def test_rejects_manifests_with_invalid_rows(tmp_path, column, value, message):
    rows = [
        {"path": name, "split": "train", "bytes": 1, "modified_ns": 1, "sha256": "0" * 64, "width": 1, "height": 1,
         "mode": "RGB", "format": "PNG", "corrupt": None}
        for name in ("twice.png", "b..c/d.png")
    ]  # fmt: skip
    path = tmp_path / "m.parquet"
    write_manifest(path, pa.Table.from_pylist(rows, COLUMNS), name="x", root=tmp_path, split=splits.by_shares)
    assert Manifest.read(path).names("train") == ["twice.png", "b..c/d.png"]
    rows[1][column] = value
    write_manifest(path, pa.Table.from_pylist(rows, COLUMNS), name="x", root=tmp_path, split=splits.by_shares)
    with pytest.raises(InputError, match=f"m.parquet is corrupt.*{message}"):
        Manifest.read(path)
