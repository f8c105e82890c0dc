import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from src.common.errors import InputError
from src.data import packed
from src.data.packed import Pack
from src.data.photos import Photos
from src.image_files.reading import read_image

SETTINGS = {"shorter_side_px": None}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Photos are written in pairs; a file ends after two pairs."""
    monkeypatch.setattr(packed, "TOGETHER", 2)
    monkeypatch.setattr(packed, "PART_BYTES", 4 * 1000)


@pytest.fixture
def files(tmp_path) -> list[Path]:
    return [saved(tmp_path / f"{i}.png", seed=i) for i in range(7)]


def saved(path: Path, seed: int) -> Path:
    """Of about 1,000 bytes, no two of the same shape."""
    pixels = np.random.default_rng(seed).integers(0, 256, (18 + seed % 20, 21 - seed % 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


class Reader:
    """Reads photos and notes which."""

    def __init__(self) -> None:
        self.names = []

    def __call__(self, path):
        self.names.append(path.name)
        return read_image(path)


def update(folder: Path, files, settings=SETTINGS) -> list[str]:
    """Bring a pack up to date; returns the names of the photos that were read for it, in order."""
    reader = Reader()
    Pack(folder, settings).update(files, reader, "test")
    return sorted(reader.names)


def names(files) -> list[str]:
    return [file.name for file in files]


def assert_holds(folder: Path, files) -> None:
    pack = Pack(folder, SETTINGS)
    rows = pack.rows(files)
    assert (rows >= 0).all()
    for row, file in zip(rows, files, strict=True):
        assert np.array_equal(pack.photo(int(row)), read_image(file))


def test_a_pack_holds_the_very_pixels(tmp_path, files):
    folder = tmp_path / "packs" / "a"
    assert update(folder, files) == names(files)
    assert sorted(path.name for path in folder.glob("*.arrow")) == ["00000.arrow", "00001.arrow"]
    assert_holds(folder, files)
    assert_holds(folder, files[::-1])
    pack = Pack(tmp_path / "packs" / "b", SETTINGS)
    assert (pack.rows(files) == -1).all()
    assert update(pack.folder, files[:2]) == names(files[:2])
    reader = Reader()
    pack.update(files, reader, "test")
    assert sorted(reader.names) == names(files[2:])  # another process has packed the first ones since
    assert (pack.rows(files) >= 0).all()
    assert not pack.photo(0).flags.writeable
    assert pack.rows([files[0], tmp_path / "else.png"])[1] == -1
    copied = pickle.loads(pickle.dumps(pack))
    assert np.array_equal(copied.photo(4), pack.photo(4))
    assert len(pickle.dumps(pack)) < 500  # not the photos


def test_what_has_not_changed_is_not_read_again(tmp_path, files):
    folder = tmp_path / "pack"
    update(folder, files[:5])
    first = {path: path.read_bytes() for path in folder.glob("*.arrow")}
    assert update(folder, files[:5]) == []
    status = files[1].stat()
    saved(files[1], seed=99)
    os.utime(files[1], ns=(status.st_atime_ns, status.st_mtime_ns))  # of another size alone
    os.utime(files[3], ns=(0, 10**18))  # of another time alone
    assert files[1].stat().st_size != status.st_size
    assert update(folder, files[1:]) == ["1.png", "3.png", "5.png", "6.png"]  # two have changed, two are new
    assert_holds(folder, files)
    assert all(path.read_bytes() == content for path, content in first.items())
    assert update(folder, files) == []


def test_a_pack_that_is_up_to_date_may_lie_on_a_disk_that_can_only_be_read(tmp_path, files, monkeypatch):
    folder = tmp_path / "pack"
    update(folder, files[:5])

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(packed, "FileLock", read_only)  # not a mode of the folder's: it would not stop root
    monkeypatch.setattr(Path, "mkdir", read_only)
    assert update(folder, files[:5]) == []
    assert_holds(folder, files[:5])
    with pytest.raises(InputError, match=rf"data\.packed: {folder} can't be written: Read-only file system"):
        update(folder, files)


def test_a_packing_that_was_interrupted_goes_on(tmp_path, files):
    folder = tmp_path / "pack"
    whole = files[5].read_bytes()
    files[5].write_bytes(whole[:60])
    with pytest.raises(InputError, match=r"5\.png: is damaged or cut off"):
        update(folder, files)
    assert [part.name for part in folder.glob("*.arrow")] == ["00000.arrow"]
    assert_holds(folder, files[:4])
    files[5].write_bytes(whole)
    assert update(folder, files) == names(files[4:])
    assert_holds(folder, files)
    assert not (folder / "unfinished").exists()


def test_processes_do_not_pack_the_same_photos(tmp_path, files):
    with ThreadPoolExecutor() as processes:
        read = list(processes.map(lambda _: update(tmp_path / "pack", files), range(3)))
    assert sorted(read) == [[], [], names(files)]


def test_a_missing_photo_is_named(tmp_path, files):
    files[2].unlink()
    with pytest.raises(InputError, match=r"2\.png: there is no such file"):
        update(tmp_path / "pack", files)


def test_what_is_no_pack_is_refused_by_name(tmp_path, files):
    folder = tmp_path / "pack"
    update(folder, files)
    part = folder / "00001.arrow"
    whole = part.read_bytes()

    def refused(reason: str, settings=SETTINGS) -> None:
        for use in (lambda pack: pack.rows(files), lambda pack: pack.update(files, read_image, "test")):
            with pytest.raises(InputError, match=rf"{part}: .*{reason}"):
                use(Pack(folder, settings))

    for content in (b"", whole[:-1], whole[: len(whole) // 2], b"no Arrow file" * 99):
        part.write_bytes(content)
        refused("is no part of a pack of photos, or is damaged .*: delete it")
    with pa.ipc.new_file(str(part), pa.schema({"text": pa.string()})):
        pass
    refused("is no part of a pack of photos: name another folder")
    with pa.ipc.open_file(str(folder / "00000.arrow")) as reader:
        table = reader.read_all()
    wider = table.set_column(4, table.schema.field("width"), pa.array(table["width"].to_numpy() + 1))
    with pa.ipc.new_file(str(part), wider.schema) as writer:
        writer.write_table(wider)
    refused("a photo has more or fewer pixels than its size says: delete it")
    huge = table.set_column(3, table.schema.field("height"), pa.array(np.full(len(table), 2**62 + 8)))
    with pa.ipc.new_file(str(part), huge.schema) as writer:
        writer.write_table(huge)
    refused("a photo has more or fewer pixels than its size says: delete it")
    with pa.ipc.new_file(str(part), (older := table.drop_columns("crc32")).schema) as writer:
        writer.write_table(older)
    refused("was written by another version of this suite: delete it")
    part.write_bytes(whole)
    part = folder / "00000.arrow"
    refused("were prepared by .*None.*, not .*350", {"shorter_side_px": 350})
    part = part.rename(folder / "notes.arrow")
    refused("is no part of a pack")


def test_pixels_that_were_damaged_since_are_noticed_by_name(tmp_path, files):
    folder = tmp_path / "pack"
    update(folder, files)
    part = folder / "00001.arrow"
    content = bytearray(part.read_bytes())
    at = content.index(read_image(files[5]).tobytes())
    content[at + 100] ^= 1
    part.write_bytes(content)
    pack = Pack(folder, SETTINGS)
    rows = pack.rows(files)
    for row, file in zip(rows, files, strict=True):
        for _ in range(2):
            if file == files[5]:
                with pytest.raises(
                    InputError, match=rf"{part}: is damaged, the pixels of {file} are not .*: delete it"
                ):
                    pack.photo(int(row))
            else:
                assert np.array_equal(pack.photo(int(row)), read_image(file))
    part.unlink()
    assert update(folder, files) == names(files[4:])
    assert_holds(folder, files)


def test_a_pack_that_can_not_be_written_is_named(tmp_path, files):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=rf"data\.packed: {tmp_path}/file/pack can't be written: Not a directory"):
        update(tmp_path / "file" / "pack", files)


def test_what_the_disk_has_no_space_for_is_not_begun(tmp_path, files, monkeypatch, caplog):
    folder = tmp_path / "pack"
    caplog.set_level("INFO", "src.data.packed")
    estimate = sum(read_image(file).nbytes for file in files[:2]) / 2 * len(files)
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(estimate) - 1))
    with pytest.raises(InputError, match=rf"data\.packed: {folder} would grow by about 0\.00 GiB, .* 0\.00 GiB free"):
        update(folder, files)
    assert list(folder.glob("*.arrow")) == []
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(estimate) + 1))
    assert update(folder, files) == names(files)
    assert "7 photos to be packed in" in caplog.text

    class Large:
        nbytes = 3 * 3000 * 2000

    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * 2**30))
    with pytest.raises(InputError, match=r"would grow by about 838\.19 GiB, and its disk has 100\.00 GiB free"):
        Pack(folder, SETTINGS).update([tmp_path / f"{i}.jpg" for i in range(50_000)], lambda _: Large(), "test")


def test_photos_come_from_the_pack_where_it_has_them(tmp_path, files):
    update(tmp_path / "pack", files[:4])
    reader = Reader()
    photos = Photos(files, reader, pack=Pack(tmp_path / "pack", SETTINGS))
    for number in (0, 5, 3, 6, 1):
        assert np.array_equal(photos[number], read_image(files[number]))
    assert reader.names == ["5.png", "6.png"]
