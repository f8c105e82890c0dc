import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.image_files.binary_images import read_mask
from src.masks import folder as mask_folder
from src.masks.folder import MaskFolder


@pytest.fixture
def folder(tmp_path):
    """Eight masks of 60x80 with white holes, hole ratios 0.05, 0.15, ..., 0.75; two lie in a subfolder."""
    (tmp_path / "more").mkdir()
    for i in range(8):
        hole = np.zeros(60 * 80, np.uint8)
        hole[: round((0.05 + 0.1 * i) * hole.size)] = 255
        folder = tmp_path / "more" if i % 4 == 3 else tmp_path
        cv2.imwrite(str(folder / f"{i}.png"), hole.reshape(60, 80))
    (tmp_path / "README.txt").write_text("no mask")
    return tmp_path


def hole_ratio_of(mask):
    return (mask == 0).sum() / mask.size


@pytest.mark.parametrize("size", [(60, 80), (48, 64), (64, 48), (128, 128)])
def test_drawn_masks_are_resized_and_within_the_range(folder, size):
    generator, rng = MaskFolder(str(folder)), np.random.default_rng(0)
    decimals = set()
    for _ in range(60):
        mask = generator(size, rng, (0.1, 0.4))
        assert mask.shape == size
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        assert mask.flags.c_contiguous
        assert 0.1 < hole_ratio_of(mask) <= 0.4
        decimals.add(int(hole_ratio_of(mask) * 10))
    assert decimals == {1, 2, 3}  # every file in the range


def test_linked_folders_are_entered_and_hidden_files_skipped(folder, tmp_path_factory):
    linking = tmp_path_factory.mktemp("linking")
    (linking / "linked").symlink_to(folder, target_is_directory=True)
    (linking / "old.png").mkdir()
    (linking / "._a.png").touch()
    drawn, direct = (MaskFolder(str(path))._masks for path in (linking, folder))
    assert (drawn[0] == direct[0]).all()


def test_hole_may_be_transparent(tmp_path):
    alpha = np.full((60, 80), 255, np.uint8)
    alpha[:15] = 0
    cv2.imwrite(str(tmp_path / "erased.png"), np.dstack([np.full((60, 80, 3), 255, np.uint8), alpha]))
    assert (
        hole_ratio_of(MaskFolder(str(tmp_path), "transparent")((60, 80), np.random.default_rng(0), (0.2, 0.3))) == 0.25
    )


def test_hole_may_be_black(folder):
    mask = MaskFolder(str(folder), hole="black", flips=False)((60, 80), np.random.default_rng(0), (0.9, 1.0))
    assert hole_ratio_of(mask) == 0.95
    assert mask[0, 0] == 1  # white, at the top


def test_flips_are_optional(folder):
    rng, masks = np.random.default_rng(0), {True: set(), False: set()}
    for _ in range(40):
        for flips, seen in masks.items():
            seen.add(MaskFolder(str(folder), flips=flips)((60, 80), rng, (0.1, 0.2)).tobytes())
    assert len(masks[False]) == 1
    assert len(masks[True]) == 2  # rows are uniform, so horizontal flips have no effect


def test_folder_is_read_once_and_its_masks_are_pickled(folder, monkeypatch):
    generator = MaskFolder(str(folder))
    expected = [generator((48, 64), np.random.default_rng(s), (0.0, 0.6)) for s in range(5)]
    copied = pickle.loads(pickle.dumps(generator))
    monkeypatch.setattr(mask_folder, "find_images", lambda *_: pytest.fail("the folder was searched again"))
    for drawn in (generator, copied):
        assert all((drawn((48, 64), np.random.default_rng(s), (0.0, 0.6)) == expected[s]).all() for s in range(5))


def test_masks_that_leave_the_range_on_resizing_are_skipped(tmp_path):
    thin = np.zeros((99, 99), np.uint8)
    thin[::3] = 255  # a third of the rows, but none of those that are sampled at a height of 33
    cv2.imwrite(str(tmp_path / "thin.png"), thin)
    block = np.zeros((99, 99), np.uint8)
    block[:33] = 255
    cv2.imwrite(str(tmp_path / "block.png"), block)
    for seed in range(10):
        mask = MaskFolder(str(tmp_path))((33, 33), np.random.default_rng(seed), (0.3, 0.4))
        assert hole_ratio_of(mask) == pytest.approx(1 / 3)


@pytest.mark.parametrize("hole", ["grey", "", "White"])
def test_rejects_other_colours(hole):
    with pytest.raises(InputError, match="white, black or transparent"):
        MaskFolder("masks", hole=hole)


def test_errors_name_the_folder(folder, tmp_path_factory):
    rng, empty = np.random.default_rng(0), tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match=r"/nowhere does not exist"):
        MaskFolder("/nowhere")((8, 8), rng, (0.0, 0.6))
    with pytest.raises(InputError, match=f"{empty} contains no image files"):
        MaskFolder(str(empty))((8, 8), rng, (0.0, 0.6))
    with pytest.raises(InputError, match=rf"{folder}: none of its 8 masks .* in \(0.26, 0.34\]"):
        MaskFolder(str(folder))((60, 80), rng, (0.26, 0.34))
    with pytest.raises(InputError, match=r"mask.root is not set"):
        MaskFolder("")


def test_corrupt_mask_is_named(folder):
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:-30])
    with pytest.raises(InputError, match=r"broken.png"):
        MaskFolder(str(folder))((60, 80), np.random.default_rng(0), (0.0, 0.6))


def draw_from_files(generator, size, rng, hole_ratio):
    """Draw a mask, reading the file at each draw."""
    files = sorted(Path(generator.root).rglob("*.png"))
    low, high = hole_ratio
    in_range = [file for file in files if low < hole_ratio_of(read_mask(file, generator.hole)) <= high]
    for chosen in rng.permutation(len(in_range)):
        mask = read_mask(in_range[chosen], generator.hole)
        if mask.shape != size:
            mask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        if low < hole_ratio_of(mask) <= high:
            if generator.flips:
                down, across = rng.integers(0, 2, 2) * 2 - 1
                mask = mask[::down, ::across]
            return mask
    raise AssertionError


@pytest.mark.parametrize("hole", ["white", "black"])
def test_cached_masks_equal_those_of_the_files(folder, hole):
    cv2.imwrite(str(folder / "odd.png"), np.triu(np.full((61, 83), 255, np.uint8)))  # not a multiple of 8 pixels
    generator = MaskFolder(str(folder), hole)
    rngs = np.random.default_rng(3), np.random.default_rng(3)
    for i in range(40):
        size = [(60, 80), (48, 64), (61, 83)][i % 3]
        hole_ratio = [(0.1, 0.6), (0.15, 0.35)][i % 2]  # two files have the ratios of the ends
        drawn, expected = generator(size, rngs[0], hole_ratio), draw_from_files(generator, size, rngs[1], hole_ratio)
        assert (drawn == expected).all()
    assert rngs[0].random() == rngs[1].random()
