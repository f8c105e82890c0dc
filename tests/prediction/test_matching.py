"""Masks and edges are matched with images by file name."""

from pathlib import Path

import pytest

from src.common.errors import InputError
from src.image_files.matching import FoundFiles, find_files, image_stems, match_by_name, separate_masks
from src.prediction.matching import find_inputs


def files(*names):
    return FoundFiles(Path(names[0]).parts[0] if "/" in names[0] else Path(), tuple(Path(name) for name in names))


def match(images, others, kind="mask", **options):
    """Return the names of the files that are matched with each image."""
    matched = match_by_name(files(*images), files(*others), kind, **options)
    return {str(image): [str(other) for other in found] for image, found in matched.items()}


def test_masks_are_matched_by_name_not_by_order():
    assert match(["a/cat.jpg", "a/dog.jpg"], ["m/cat_hat.png", "m/dog_mask.png", "m/cat.png"]) == {
        "a/cat.jpg": ["m/cat.png"],
        "a/dog.jpg": ["m/dog_mask.png"],
    }


def test_a_single_image_and_a_single_mask_match_whatever_their_names():
    assert match(["x.jpg"], ["y.png"]) == {"x.jpg": ["y.png"]}


def test_edges_are_matched_by_name_and_never_shared():
    images = ["a/cat.jpg", "a/dog.jpg"]
    assert match(images, ["e/dog.png", "e/cat_edges.png", "e/cat_mask.png"], "edges") == {
        "a/cat.jpg": ["e/cat_edges.png"],
        "a/dog.jpg": ["e/dog.png"],
    }
    with pytest.raises(InputError, match=r"named after it$"):
        match(images, ["e.png"], "edges")
    with pytest.raises(
        InputError, match=r"cat\.jpg: 2 files match cat\.\* or cat_edges\.\*, expected one: e/cat\.png, e/cat_edge"
    ):
        match(images, ["e/cat.png", "e/cat_edges.png", "e/dog.png"], "edges")


def test_one_mask_for_several_images_needs_the_option():
    images = ["a.jpg", "b.jpg"]
    with pytest.raises(InputError, match=r"mask=m\.png is one file but there are 2 images.*one_mask_for_all=true"):
        match(images, ["m.png"])
    assert match(images, ["m.png"], one_for_all=True) == {image: ["m.png"] for image in images}
    with pytest.raises(InputError, match="mask= has 2"):
        match(images, ["m.png", "n.png"], one_for_all=True)


def test_an_image_without_a_mask_is_named():
    with pytest.raises(InputError, match=r"b\.jpg: no file in \. matches b\.\* or b_mask\.\*"):
        match(["a.jpg", "b.jpg"], ["a.png", "c.png"])


@pytest.mark.parametrize(
    "mask",
    [
        *("a.png", "a_mask.png", "a_mask001.png", "a_mask_001.png", "a-mask.png"),
        *("a_Mask.png", "a.mask.png", "mask_a.png", "a.jpg.png"),
    ],
)
def test_common_names_of_masks(mask):
    other = mask.replace("a", "b").replace("mbsk", "mask").replace("Mbsk", "Mask")
    assert match(["p/a.jpg", "p/b.jpg"], [f"m/{mask}", f"m/{other}"]) == {
        "p/a.jpg": [f"m/{mask}"],
        "p/b.jpg": [f"m/{other}"],
    }


def test_a_file_named_like_an_image_belongs_to_that_image_alone():
    assert match(["p/a.jpg", "p/a_mask.jpg"], ["m/a_mask001.png", "m/a_mask.png"]) == {
        "p/a.jpg": ["m/a_mask001.png"],
        "p/a_mask.jpg": ["m/a_mask.png"],
    }


def test_composed_and_decomposed_letters_match():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert match([f"p/{composed}.jpg", "p/b.jpg"], ["m/b.png", f"m/{decomposed}_mask.png"]) == {
        f"p/{composed}.jpg": [f"m/{decomposed}_mask.png"],
        "p/b.jpg": ["m/b.png"],
    }
    assert image_stems(Path(f"{decomposed}_mask.png"), "mask") == {composed}


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def targets(tmp_path, image="photos", mask="masks"):
    inputs, left_out = find_inputs(f"{tmp_path}/{image}", f"{tmp_path}/{mask}", None, one_mask_for_all=False)
    found = {str(one.target): (str(one.mask.relative_to(tmp_path)), one.label) for one in inputs}
    return found, [str(path.relative_to(tmp_path)) for path in left_out]


def test_several_masks_of_an_image_give_one_result_each(tmp_path):
    touch(tmp_path, "photos/a.jpg", "photos/b.jpg", "masks/a_mask001.png", "masks/a_mask002.png", "masks/b.png")
    assert targets(tmp_path)[0] == {
        "a_mask001.jpg": ("masks/a_mask001.png", "a_mask001"),
        "a_mask002.jpg": ("masks/a_mask002.png", "a_mask002"),
        "b.jpg": ("masks/b.png", "b"),
    }


def test_subdirectories_are_kept_and_those_without_masks_are_left_out(tmp_path):
    touch(tmp_path, *(f"{folder}/{name}" for folder in ("photos", "masks") for name in ("0.png", "x/1.png", "y/1.png")))
    touch(tmp_path, "photos/old.jpg/1.png")
    same = {"0.png": ("masks/0.png", "0"), "x/1.png": ("masks/x/1.png", "x/1"), "y/1.png": ("masks/y/1.png", "y/1")}
    assert targets(tmp_path) == (same, ["photos/old.jpg/1.png"])
    del same["0.png"]
    assert targets(tmp_path, "photos/[xy]/*.png", "masks/**/1.png") == (same, [])


def test_a_path_is_a_file_a_directory_or_a_pattern(tmp_path):
    touch(tmp_path, "b.JPG", "a.png", "notes.txt", "empty/notes.txt")
    assert find_files(str(tmp_path / "notes.txt"), "image").paths == (tmp_path / "notes.txt",)  # reading it will fail
    assert find_files(str(tmp_path), "image").paths == (tmp_path / "a.png", tmp_path / "b.JPG")
    assert find_files(f"{tmp_path}/*.png", "image") == FoundFiles(tmp_path, (tmp_path / "a.png",))
    for missing in (tmp_path / "gone.png", tmp_path / "*.webp"):
        with pytest.raises(InputError, match=r"mask=.*no such file or directory"):
            find_files(str(missing), "mask")
    with pytest.raises(InputError, match="no image in this directory"):
        find_files(str(tmp_path / "empty"), "image")


def test_hidden_files_and_directories_are_skipped_and_other_formats_named(tmp_path, caplog):
    touch(tmp_path, "a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "b.JXL", "old.jpg/c.png", ".ipynb_checkpoints/a.png")
    for path in (f"{tmp_path}/*", f"{tmp_path}/*.jpg"):
        assert find_files(path, "image").paths == (tmp_path / "a.jpg",)
    assert "skipping images of unsupported formats: b.JXL; convert" in caplog.text
    for path in (tmp_path, f"{tmp_path}/**/*"):
        assert find_files(str(path), "image").paths == (tmp_path / "a.jpg", tmp_path / "old.jpg" / "c.png")


def test_names_that_are_not_utf8_are_reported_before_any_work(tmp_path):
    (tmp_path / "caf\udce9.jpg").touch()
    with pytest.raises(InputError, match=r"image=.* has 1 images whose names are not UTF-8, such as caf\\xe9\.jpg"):
        find_files(str(tmp_path), "image")


def test_images_and_masks_in_one_directory_are_separated():
    shared = files("f/a.jpg", "f/a_mask001.png", "f/b.png", "f/b_mask.png", "f/mask.png")
    images, masks = separate_masks(shared, shared, "mask")
    assert images == files("f/a.jpg", "f/b.png", "f/mask.png")  # the last is named after no image
    assert masks == files("f/a_mask001.png", "f/b_mask.png")
    assert separate_masks(shared, files("m/a_mask.png"), "mask") == (shared, files("m/a_mask.png"))
    last = files("f/mask.png")
    assert separate_masks(shared, last, "mask") == (files(*map(str, shared.paths[:-1])), last)
    first = files("f/a.jpg")
    assert separate_masks(first, first, "mask") == (first, first)
