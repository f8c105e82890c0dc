"""Which mask belongs to which picture."""

from pathlib import Path

import pytest

from src.common.errors import InputError
from src.prediction.matching import paired, pictures_at, told_apart


def paths(*names):
    return [Path(name) for name in names]


def test_masks_are_matched_by_name_not_by_order():
    images = paths("a/cat.jpg", "a/dog.jpg")
    masks = paths("m/cat_hat.png", "m/dog_mask.png", "m/cat.png")
    assert paired(images, masks, "mask") == [(images[0], masks[2]), (images[1], masks[1])]


def test_one_picture_and_one_mask_may_be_called_anything():
    assert paired(paths("x.jpg"), paths("y.png"), "mask") == [(Path("x.jpg"), Path("y.png"))]


def test_edges_are_matched_likewise_and_never_shared():
    images = paths("a/cat.jpg", "a/dog.jpg")
    edges = paths("e/dog.png", "e/cat_edges.png", "e/cat_mask.png")
    assert paired(images, edges, "edges") == [(images[0], edges[1]), (images[1], edges[0])]
    with pytest.raises(InputError, match=r"like the pictures$"):
        paired(images, paths("e.png"), "edges")


def test_one_mask_for_several_pictures_only_when_asked():
    images, masks = paths("a.jpg", "b.jpg"), paths("m.png")
    with pytest.raises(InputError, match=r"mask=m\.png is one file for 2 pictures.*one_mask_for_all=true"):
        paired(images, masks, "mask")
    assert paired(images, masks, "mask", one_for_all=True) == [(image, masks[0]) for image in images]
    with pytest.raises(InputError, match="names 2"):
        paired(images, paths("m.png", "n.png"), "mask", one_for_all=True)


@pytest.mark.parametrize(
    ("masks", "word"), [(("a.png", "c.png"), "no files"), (("b.png", "b_mask.png", "a.png"), "2 files")]
)
def test_a_picture_without_its_one_mask_is_named(masks, word):
    with pytest.raises(InputError, match=rf"b\.jpg: {word}"):
        paired(paths("a.jpg", "b.jpg"), paths(*masks), "mask")


def test_a_file_a_folder_and_a_pattern(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).touch()
    assert pictures_at(str(tmp_path / "notes.txt"), "image") == [tmp_path / "notes.txt"]  # the reader will refuse it
    assert pictures_at(str(tmp_path), "image") == [tmp_path / "a.png", tmp_path / "b.JPG"]
    assert pictures_at(f"{tmp_path}/*.png", "image") == [tmp_path / "a.png"]
    for nothing in (tmp_path / "gone.png", tmp_path / "*.webp"):
        with pytest.raises(InputError, match=r"mask=.*no such file or folder"):
            pictures_at(str(nothing), "mask")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in this folder"):
        pictures_at(str(tmp_path / "empty"), "image")


def test_numbered_masks_as_lama_has_them_belong_to_their_picture_and_two_are_refused():
    images = paths("a/cat.jpg", "a/cat_mask.jpg")
    assert paired(images, paths("m/cat_mask001.png", "m/cat_mask_mask.png"), "mask") == [
        (images[0], Path("m/cat_mask001.png")),
        (images[1], Path("m/cat_mask_mask.png")),
    ]
    with pytest.raises(InputError, match=r"dog\.jpg: 2 files called .*m/dog_mask001\.png, m/dog_mask002\.png"):
        paired(paths("dog.jpg", "cat.jpg"), paths("m/dog_mask001.png", "m/dog_mask002.png", "m/cat.png"), "mask")


def test_pictures_and_masks_of_one_folder_are_told_apart():
    folder = paths("f/a.jpg", "f/a_mask001.png", "f/b.png", "f/b_mask.png", "f/mask.png")
    images, masks = told_apart(folder, folder, "mask")
    assert images == paths("f/a.jpg", "f/b.png", "f/mask.png")  # the last is nobody's mask
    assert masks == paths("f/a_mask001.png", "f/b_mask.png")
    assert told_apart(folder, paths("m/a_mask.png"), "mask") == (folder, paths("m/a_mask.png"))
    assert told_apart(folder, folder[-1:], "mask") == (folder[:-1], folder[-1:])
    assert told_apart(folder[:1], folder[:1], "mask") == (folder[:1], folder[:1])
