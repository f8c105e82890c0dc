import io
import json
import zipfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.common.errors import InputError
from src.masks.bank import MaskBank, bins_within, contact_sheet
from src.masks.generators import Mixture
from src.masks.hole_ratios import BINS
from src.masks.noise import RandomShapes
from src.masks.rectangles import Rectangles
from src.masks.strokes import BrushStrokes

MIXTURE = Mixture({"shapes": RandomShapes(), "strokes": BrushStrokes()}, {"shapes": 2, "strokes": 1})
SIZE = (24, 33)  # 792 pixels, 99 bytes
PINNED = "66fd33309c69873601f49fbcd8365d94cba2297ac3f800582dfe2d56da173f33"


@pytest.fixture
def bank():
    return MaskBank.draw(MIXTURE, SIZE, per_bin=3, seed=0)


@pytest.fixture
def path(bank, tmp_path):
    bank.save(tmp_path / "bank.npz")
    return tmp_path / "bank.npz"


def rewrite(path, **changes):
    """Replace some arrays of the file; None removes one."""
    with np.load(path) as file:
        parts = {**file, **changes}
    np.savez(path, **{name: part for name, part in parts.items() if part is not None})


def test_masks_are_within_their_bins(bank):
    assert bank.bins == BINS
    assert len(bank) == 18
    assert bank.per_bin == 3
    for b, (low, high) in enumerate(BINS):
        masks = [bank.mask(b, k) for k in range(3)]
        assert all(mask.shape == SIZE and mask.dtype == np.uint8 for mask in masks)
        assert all(low < (mask == 0).mean() <= high for mask in masks)
        assert len({mask.tobytes() for mask in masks}) == 3


def test_masks_come_from_the_generator(bank):
    drawn = MIXTURE(SIZE, np.random.default_rng((0, 4, 2)), BINS[4])
    assert (bank.mask(4, 2) == drawn).all()


def test_larger_bank_extends_a_smaller_one(bank):
    larger = MaskBank.draw(MIXTURE, SIZE, per_bin=5, seed=0)
    assert (larger.bits[:, :3] == bank.bits).all()
    assert larger.hash != bank.hash


def test_loaded_bank_equals_the_saved_one(bank, path):
    loaded = MaskBank.load(path)
    assert loaded.hash == bank.hash
    assert loaded.size == SIZE
    assert loaded.bins == BINS
    assert loaded.recipe == bank.recipe
    assert (loaded.bits == bank.bits).all()
    assert [p.name for p in path.parent.iterdir()] == ["bank.npz"]  # no temporary file


def test_recipe_describes_the_draw(bank):
    recipe = json.loads(json.dumps(bank.recipe))
    assert (recipe["seed"], recipe["size"], recipe["per_bin"]) == (0, [24, 33], 3)
    assert recipe["generator"] == repr(MIXTURE)
    assert "RandomShapes(cell_ratio=(0.08, 0.25), roughness=0.3, refinement=4)" in recipe["generator"]
    assert "weights={'shapes': 2, 'strokes': 1}" in recipe["generator"]


def test_hash_depends_on_masks_size_and_bins_only(bank):
    flipped = bank.bits.copy()
    flipped[2, 1, 7] ^= 8
    turned = np.ascontiguousarray(bank.bits)
    others = [
        MaskBank(flipped, bank.size, bank.bins, bank.recipe),
        MaskBank(turned, (33, 24), bank.bins, bank.recipe),
        MaskBank(turned, bank.size, (*bank.bins[:-1], (0.5, 0.7)), bank.recipe),
        MaskBank.draw(MIXTURE, SIZE, per_bin=3, seed=1),
    ]
    assert len({bank.hash, *(other.hash for other in others)}) == 5
    assert MaskBank(turned, bank.size, bank.bins, {}).hash == bank.hash


def test_hash_is_the_same_in_every_process_and_version():
    """If this fails, existing banks can no longer be drawn again: announce the change."""
    assert MaskBank.draw(RandomShapes(), (8, 12), per_bin=2, seed=7).hash == PINNED


def test_bank_is_read_only(bank):
    with pytest.raises(ValueError, match="read-only"):
        bank.bits[0, 0, 0] = 0


def test_rejects_a_changed_mask(path):
    with np.load(path) as file:
        bits = file["bits"].copy()
    bits[0, 0, 0] ^= 1
    rewrite(path, bits=bits)
    with pytest.raises(InputError, match=rf"{path} is corrupt: its masks do not match its hash"):
        MaskBank.load(path)


def test_flipped_byte_is_an_error_or_has_no_effect(bank, path):
    intact, errors = path.read_bytes(), 0
    positions = range(0, len(intact), max(1, len(intact) // 150))
    for position in positions:
        corrupt = bytearray(intact)
        corrupt[position] ^= 255
        path.write_bytes(corrupt)
        try:
            loaded = MaskBank.load(path)
        except InputError:
            errors += 1
        else:  # a byte that is not read, such as the modification time
            assert (loaded.hash, loaded.recipe) == (bank.hash, bank.recipe)
    assert errors > len(positions) / 2


@pytest.mark.parametrize(
    "content",
    [b"", b"not a bank", b"PK\x03\x04 half", b"\x93NUMPY\x01\x00", b"\x80\x04N."],
    ids=["empty", "text", "zip", "npy", "pickle"],
)
def test_rejects_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{path} is (corrupt or )?not a mask bank"):
        MaskBank.load(path)


def test_rejects_truncated_files_directories_and_arrays(path):
    intact = path.read_bytes()
    for length in range(1, len(intact), len(intact) // 20):
        path.write_bytes(intact[:length])
        with pytest.raises(InputError, match=str(path)):
            MaskBank.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match=str(path)):
        MaskBank.load(path)
    with pytest.raises(InputError, match=str(path.parent)):
        MaskBank.load(path.parent)


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": None},
        {"recipe": None},
        {"another": np.zeros(1)},
        {"size": np.array([24, 33, 1])},
        {"size": np.array([24, 34])},
        {"bins": np.zeros((5, 2))},
        {"bins": np.zeros(6)},
        {"bits": np.zeros((6, 3, 99))},
        {"recipe": np.array("{")},
        {"hash": np.array("0" * 64)},
    ],
)
def test_rejects_missing_and_inconsistent_members(path, changes):
    rewrite(path, **changes)
    with pytest.raises(InputError, match=str(path)):
        MaskBank.load(path)


def test_rejects_pickled_members(path):
    data = io.BytesIO()
    np.lib.format.write_array(data, np.array([print], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("more.npy", data.getvalue())
    with pytest.raises(InputError, match=str(path)):
        MaskBank.load(path)


def test_missing_bank_and_unwritable_path_are_errors(bank, path):
    with pytest.raises(InputError, match=r"no file at .*no.npz: draw one with python -m src.make_masks"):
        MaskBank.load(path.with_name("no.npz"))
    with pytest.raises(InputError, match="can't be written"):
        bank.save(path / "below_a_file.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"per_bin": 0}, "per_bin"), ({"per_bin": "3"}, "per_bin"), ({"seed": -1}, "seed"), ({"bins": ()}, "one bin")],
)
def test_rejects_invalid_numbers(changes, message):
    with pytest.raises(InputError, match=message):
        MaskBank.draw(**{"generator": MIXTURE, "size": SIZE, "per_bin": 1, "seed": 0, **changes})


def test_rejects_a_bin_that_the_generator_cannot_fill():
    with pytest.raises(InputError, match="max_side_ratio"):
        MaskBank.draw(Rectangles(max_side_ratio=0.5), SIZE, per_bin=1, seed=0)


def test_bins_within_a_range():
    assert bins_within((0.0, 0.6)) == BINS
    assert bins_within((0.0, 0.25)) == BINS[:2]
    assert bins_within((0.2, 0.45)) == BINS[2:4]
    with pytest.raises(InputError, match="no bin"):
        bins_within((0.11, 0.19))


def test_contact_sheet_shows_holes_white(bank):
    sheet = contact_sheet(bank, columns=2)
    assert sheet.shape == (6 * (24 + 4), 2 * (33 + 4))
    tile = sheet[28 * 4 + 2 : 28 * 4 + 26, 37 + 2 : 37 + 35]
    assert (tile == 255 * (1 - bank.mask(4, 1))).all()


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    size=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    edges=st.lists(st.integers(0, 20), min_size=2, max_size=4, unique=True).map(sorted),
    per_bin=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_any_bank_survives_saving_and_loading(tmp_path_factory, size, edges, per_bin, seed):
    bins = [(low / 20, high / 20) for low, high in pairwise(edges)]
    path = tmp_path_factory.getbasetemp() / "any.npz"
    try:
        bank = MaskBank.draw(RandomShapes(), size, per_bin, seed, bins)
    except InputError:  # a bin contains no ratio of so few pixels
        assert any(
            not any(low < n / (size[0] * size[1]) <= high for n in range(1, size[0] * size[1])) for low, high in bins
        )
        return
    bank.save(path)
    loaded = MaskBank.load(path)
    assert (loaded.bits == bank.bits).all()
    assert (loaded.hash, loaded.size, loaded.bins, loaded.recipe) == (bank.hash, bank.size, bank.bins, bank.recipe)
