"""Masks and edges are matched with images by file name."""

from pathlib import Path

import pytest

from src.common.errors import InputError
from src.prediction.matching import list_images, match_by_name, separate_masks


def paths(*names):
    return [Path(name) for name in names]


def test_masks_are_matched_by_name_not_by_order():
    images = paths("a/cat.jpg", "a/dog.jpg")
    masks = paths("m/cat_hat.png", "m/dog_mask.png", "m/cat.png")
    assert match_by_name(images, masks, "mask") == {images[0]: masks[2], images[1]: masks[1]}


def test_a_single_image_and_a_single_mask_match_whatever_their_names():
    assert match_by_name(paths("x.jpg"), paths("y.png"), "mask") == {Path("x.jpg"): Path("y.png")}


def test_edges_are_matched_by_name_and_never_shared():
    images = paths("a/cat.jpg", "a/dog.jpg")
    edges = paths("e/dog.png", "e/cat_edges.png", "e/cat_mask.png")
    assert match_by_name(images, edges, "edges") == {images[0]: edges[1], images[1]: edges[0]}
    with pytest.raises(InputError, match=r"named after it$"):
        match_by_name(images, paths("e.png"), "edges")


def test_one_mask_for_several_images_needs_the_option():
    images, masks = paths("a.jpg", "b.jpg"), paths("m.png")
    with pytest.raises(InputError, match=r"mask=m\.png is one file but there are 2 images.*one_mask_for_all=true"):
        match_by_name(images, masks, "mask")
    assert match_by_name(images, masks, "mask", one_for_all=True) == dict.fromkeys(images, masks[0])
    with pytest.raises(InputError, match="mask= has 2"):
        match_by_name(images, paths("m.png", "n.png"), "mask", one_for_all=True)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (("a.png", "c.png"), r"b\.jpg: no file in \. matches b\.\* or b_mask\.\*"),
        (("b.png", "b_mask.png", "a.png"), r"b\.jpg: 2 files match b\.\* or b_mask\.\*, expected one: b\.png, b_mask"),
    ],
)
def test_an_image_without_exactly_one_mask_is_named(masks, message):
    with pytest.raises(InputError, match=message):
        match_by_name(paths("a.jpg", "b.jpg"), paths(*masks), "mask")


def test_a_path_is_a_file_a_directory_or_a_pattern(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).touch()
    assert list_images(str(tmp_path / "notes.txt"), "image") == [tmp_path / "notes.txt"]  # reading it will fail
    assert list_images(str(tmp_path), "image") == [tmp_path / "a.png", tmp_path / "b.JPG"]
    assert list_images(f"{tmp_path}/*.png", "image") == [tmp_path / "a.png"]
    for missing in (tmp_path / "gone.png", tmp_path / "*.webp"):
        with pytest.raises(InputError, match=r"mask=.*no such file or directory"):
            list_images(str(missing), "mask")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image in this directory"):
        list_images(str(tmp_path / "empty"), "image")


def test_hidden_files_and_directories_are_skipped_and_other_formats_named(tmp_path, caplog):
    for name in ("a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "b.HEIC", "old.jpg/c.png", ".ipynb_checkpoints/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for path in (tmp_path, f"{tmp_path}/*", f"{tmp_path}/*.jpg"):
        assert list_images(str(path), "image") == [tmp_path / "a.jpg"]
    assert "skipping images of unsupported formats: b.HEIC; convert" in caplog.text
    assert list_images(f"{tmp_path}/**/*.png", "image") == [tmp_path / "old.jpg" / "c.png"]


def test_numbered_masks_match_and_two_for_one_image_are_an_error():
    images = paths("a/cat.jpg", "a/cat_mask.jpg")
    assert match_by_name(images, paths("m/cat_mask001.png", "m/cat_mask_mask.png"), "mask") == {
        images[0]: Path("m/cat_mask001.png"),
        images[1]: Path("m/cat_mask_mask.png"),
    }
    with pytest.raises(InputError, match=r"dog\.jpg: 2 files match .*m/dog_mask001\.png, m/dog_mask002\.png"):
        match_by_name(paths("dog.jpg", "cat.jpg"), paths("m/dog_mask001.png", "m/dog_mask002.png", "m/cat.png"), "mask")


def test_images_and_masks_in_one_directory_are_separated():
    shared = paths("f/a.jpg", "f/a_mask001.png", "f/b.png", "f/b_mask.png", "f/mask.png")
    images, masks = separate_masks(shared, shared, "mask")
    assert images == paths("f/a.jpg", "f/b.png", "f/mask.png")  # the last is named after no image
    assert masks == paths("f/a_mask001.png", "f/b_mask.png")
    assert separate_masks(shared, paths("m/a_mask.png"), "mask") == (shared, paths("m/a_mask.png"))
    assert separate_masks(shared, shared[-1:], "mask") == (shared[:-1], shared[-1:])
    assert separate_masks(shared[:1], shared[:1], "mask") == (shared[:1], shared[:1])
