import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from src.common.errors import InputError
from src.data import cached_images as cached_images_module
from src.data import dataset as dataset_module
from src.data.cached_images import CachedImages
from src.data.dataset import BankMasks, InpaintingDataset, RandomMasks
from src.data.transforms import (
    apply_transform,
    random_resized_crop,
    resize_and_center_crop,
    resize_and_random_crop,
)
from src.image_files.reading import read_image
from src.masks.bank import MaskBank
from src.masks.rectangles import Rectangles
from src.networks.layers.canny import DEFAULT_CANNY, Canny

SIZE = (24, 32)
MASKS = RandomMasks(Rectangles(), (0.1, 0.3))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(5)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return paths


def images(photos, **options) -> InpaintingDataset:
    return InpaintingDataset(photos, resize_and_random_crop(SIZE, 36), MASKS, seed=7, **options)


def same(one, other) -> bool:
    return all(
        torch.equal(one[name], other[name]) if name in ("image", "mask") else one[name] == other[name] for name in one
    )


def test_sample_has_documented_keys_shapes_and_ranges(photos):
    sample = images(photos)[0, 3]
    assert set(sample) == {"image", "mask", "index", "path"}
    assert sample["image"].shape == (3, *SIZE)
    assert sample["mask"].shape == (1, *SIZE)
    assert sample["image"].dtype == sample["mask"].dtype == torch.float32
    assert 0 <= sample["image"].min() < sample["image"].max() <= 1
    assert set(sample["mask"].unique().tolist()) == {0.0, 1.0}
    assert 0.1 < 1 - sample["mask"].mean() <= 0.3
    assert (sample["index"], sample["path"]) == (3, str(photos[3]))
    batch = default_collate([sample, sample])
    assert batch["image"].shape == (2, 3, *SIZE)
    assert batch["path"] == [str(photos[3])] * 2


def test_edges_are_optional_and_leave_other_entries_unchanged(photos):
    plain, with_edges = images(photos)[0, 3], images(photos, edges=Canny())[0, 3]
    assert set(with_edges) == {*plain, "edges", "known_edges"}
    assert same(plain, {name: with_edges[name] for name in plain})
    image, mask = (with_edges[name][None] for name in ("image", "mask"))
    assert with_edges["edges"].sum() > 0
    assert torch.equal(with_edges["edges"][None], DEFAULT_CANNY.known_edges(image, torch.ones_like(mask)))
    assert torch.equal(with_edges["known_edges"][None], DEFAULT_CANNY.known_edges(image, mask))


def test_center_crop_contains_the_pixels_of_the_file(photos):
    dataset = InpaintingDataset(photos, resize_and_center_crop((40, 40), 40), MASKS, seed=0)
    with Image.open(photos[2]) as image:
        expected = np.array(image)[:, 10:50]
    assert np.array_equal(dataset[0, 2]["image"].mul(255).round().byte().permute(1, 2, 0).numpy(), expected)


def test_sample_depends_only_on_seed_epoch_and_index(photos):
    dataset = images(photos, samples_per_image=2)
    keys = [(epoch, index) for epoch in range(2) for index in range(len(dataset))]
    forward = {key: dataset[key] for key in keys}
    again = pickle.loads(pickle.dumps(images(photos, samples_per_image=2, cache_bytes=20_000)))
    assert all(same(forward[key], again[key]) for key in reversed(keys))
    assert len({forward[key]["image"].numpy().tobytes() for key in keys}) == len(keys)
    assert len({forward[key]["mask"].numpy().tobytes() for key in keys}) == len(keys)
    other = InpaintingDataset(photos, resize_and_random_crop(SIZE, 36), MASKS, seed=8)
    assert not torch.equal(images(photos)[0, 0]["mask"], other[0, 0]["mask"])


def test_masks_and_crops_are_drawn_independently(photos):
    other_crops = InpaintingDataset(photos, random_resized_crop(SIZE), MASKS, seed=7)
    other_masks = InpaintingDataset(
        photos, resize_and_random_crop(SIZE, 36), RandomMasks(Rectangles(1.0), (0.4, 0.5)), seed=7
    )
    sample = images(photos)[1, 2]
    assert torch.equal(other_crops[1, 2]["mask"], sample["mask"])
    assert torch.equal(other_masks[1, 2]["image"], sample["image"])


def test_crops_and_masks_use_the_two_children_of_the_seed(photos):
    _, mask_seed = np.random.SeedSequence((7, 1, 2)).spawn(2)  # `in_full` uses the first one
    expected = MASKS.mask(SIZE, 2, 0, np.random.default_rng(mask_seed))
    assert np.array_equal(images(photos)[1, 2]["mask"][0].numpy(), expected)


def test_evaluation_pairs_every_crop_with_every_bin(photos):
    bank = MaskBank.draw(Rectangles(1.0), SIZE, per_bin=8, seed=0, bins=((0.0, 0.2), (0.2, 0.4), (0.4, 0.6)))
    dataset = InpaintingDataset(photos[:2], random_resized_crop(SIZE), BankMasks(bank, 2), seed=0, samples_per_image=2)
    assert len(dataset) == 2 * 2 * 3 * 2
    samples = [dataset[0, index] for index in range(len(dataset))]
    for crop in range(4):
        of_crop = samples[crop * 6 : crop * 6 + 6]
        assert {sample["path"] for sample in of_crop} == {str(photos[crop // 2])}
        assert all(torch.equal(sample["image"], of_crop[0]["image"]) for sample in of_crop)
        for k, sample in enumerate(of_crop):
            low, high = bank.bins[k // 2]
            assert low < 1 - sample["mask"].mean() <= high
    assert len({sample["image"].numpy().tobytes() for sample in samples}) == 4
    assert len({sample["mask"].numpy().tobytes() for sample in samples}) == 24  # the whole bank, without repetition
    assert [sample["index"] for sample in samples] == list(range(24))


def test_rejects_a_bank_that_does_not_fit(photos):
    bank = MaskBank.draw(Rectangles(), (16, 16), per_bin=1, seed=0, bins=((0.0, 0.2),))
    with pytest.raises(InputError, match=r"data\.masks_per_bin=2, but the mask bank has 1 masks per bin"):
        BankMasks(bank, 2)
    with pytest.raises(InputError, match="the masks of the bank are 16x16, but the crops are 24x32"):
        InpaintingDataset(photos, resize_and_center_crop(SIZE, 36), BankMasks(bank, 1), seed=0)[0, 0]


def test_corrupt_file_is_named(photos, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(photos[0].read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cut\.png: is corrupt or truncated"):
        images([photos[0], cut])[0, 1]


def test_cache_respects_its_size_in_bytes(photos, monkeypatch):
    reads = []
    monkeypatch.setattr(
        "src.data.cached_images.read_image", lambda path, _: reads.append(path.name) or np.zeros((40, 60, 3), np.uint8)
    )
    cached = images(photos, cache_bytes=2 * 36 * 54 * 3)  # two images, resized to 36x54
    for index in (0, 1, 0, 2, 2, 0, 1, 2):  # 2 does not fit: it is kept as the latest one only
        cached[0, index]
        cached[1, index]
    assert reads == ["0.png", "1.png", "2.png"]
    cached[0, 3]
    cached[0, 2]
    assert reads == ["0.png", "1.png", "2.png", "3.png", "2.png"]
    del reads[:]
    uncached = images(photos)
    for key in ((0, 0), (1, 0), (0, 1), (0, 0)):  # only the latest image is kept
        uncached[key]
    assert reads == ["0.png", "1.png", "0.png"]


def jpegs(folder: Path) -> list[Path]:
    """Write JPEGs that a shorter side of 36 decodes at 1/4, 1/2 and in full; the second has an EXIF orientation."""
    paths, exif = [], Image.Exif()
    exif[0x0112] = 6
    for shape in ((144, 200), (99, 73), (60, 40), (30, 300)):
        y, x = np.mgrid[: shape[0], : shape[1]]
        pixels = np.stack([128 + 100 * np.sin((x * (c + 1) + y) / 30) for c in range(3)], -1).astype(np.uint8)
        paths.append(folder / f"{shape[0]}.jpg")
        Image.fromarray(pixels).save(paths[-1], exif=exif if shape[0] == 99 else Image.Exif())
    return paths


PIPELINES = {
    "random": resize_and_random_crop(SIZE, 36),
    "whole_side": resize_and_random_crop(32, 32),
    "center": resize_and_center_crop(SIZE, 36),
    "resized": random_resized_crop(SIZE),
}


def in_full(files, transform, seed, epoch, number, samples_per_image):
    """Return a crop by definition: the full-size image through the whole pipeline."""
    crop_seed, _ = np.random.SeedSequence((seed, epoch, number)).spawn(2)
    crop = apply_transform(transform, read_image(files[number // samples_per_image]), crop_seed)
    return torch.from_numpy(crop / np.float32(255)).permute(2, 0, 1)


@pytest.mark.parametrize("transform", PIPELINES.values(), ids=PIPELINES)
def test_resizing_once_gives_the_same_crops(photos, tmp_path, transform):
    files = [*photos[:2], *jpegs(tmp_path)]
    dataset = InpaintingDataset(files, transform, MASKS, seed=7, samples_per_image=3, cache_bytes=20_000)
    keys = [(epoch, index) for index in (0, 1, 9, 2, 4, 10, 13, 16, 7) for epoch in (0, 5)]
    for epoch, index in keys:
        assert torch.equal(dataset[epoch, index]["image"], in_full(files, transform, 7, epoch, index, 3))


def test_samples_of_a_crop_share_pixels_and_edges(photos, monkeypatch):
    bank = MaskBank.draw(Rectangles(1.0), SIZE, per_bin=2, seed=0, bins=((0.0, 0.2), (0.2, 0.4)))
    transform = random_resized_crop(SIZE)

    def evaluated() -> InpaintingDataset:
        return InpaintingDataset(photos[:2], transform, BankMasks(bank, 2), seed=0, samples_per_image=2, edges=Canny())

    alone = [evaluated()[0, index] for index in range(len(evaluated()))]
    calls = {"read_image": 0, "canny_edges": 0}

    def counted(module, name):
        original = getattr(module, name)

        def count(*arguments):
            calls[name] += 1
            return original(*arguments)

        monkeypatch.setattr(module, name, count)

    counted(cached_images_module, "read_image")
    counted(dataset_module, "canny_edges")
    dataset = evaluated()
    for index, expected in enumerate(alone):
        sample = dataset[0, index]
        assert sample.keys() == expected.keys()
        assert all(torch.equal(sample[name], expected[name]) for name in ("image", "mask", "edges", "known_edges"))
        for name in ("image", "edges", "known_edges"):
            sample[name].zero_()  # samples share no memory
    assert calls == {"read_image": 2, "canny_edges": 4 + 16}


def test_reduced_decoding_affects_only_the_first_resize(tmp_path):
    files = jpegs(tmp_path)
    for name, transform in PIPELINES.items():
        whole, reduced = (InpaintingDataset(files, transform, MASKS, seed=0, reduced_decode=on) for on in (False, True))
        for index, reduces in enumerate((True, True, False, False)):
            one, other = whole[0, index]["image"], reduced[0, index]["image"]
            assert torch.equal(one, other) == (not reduces or name == "resized"), (name, index)
            assert abs(one - other).mean() < 0.02
    assert [CachedImages(files, 36, reduced_decode=True)[i].shape for i in (0, 1)] == [(36, 50, 3), (36, 49, 3)]


@pytest.mark.parametrize("transform", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (49, 98), (321, 481), (100, 24), (36, 36)])
def test_every_pipeline_accepts_images_of_any_size(transform, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    result = apply_transform(transform, image, np.random.SeedSequence(0))
    assert result.shape in ((*SIZE, 3), (32, 32, 3))
    assert result.dtype == np.uint8


def test_shorter_side_has_its_exact_length():
    for side in range(1, 400):
        image = np.zeros((side, side + 3, 3), np.uint8)
        assert apply_transform(resize_and_center_crop(64, 64), image, np.random.SeedSequence(0)).shape == (64, 64, 3)


def test_pipeline_steps_draw_independently():
    rows = np.broadcast_to(np.arange(80, dtype=np.uint8)[:, None, None], (80, 80, 1))
    image = np.concatenate([rows, rows.transpose(1, 0, 2), rows], axis=-1)
    transform = resize_and_random_crop(40, 80)
    crops = [apply_transform(transform, image, np.random.SeedSequence((1, i))) for i in range(400)]
    top = [int(crop[0, 0, 0]) for crop in crops]
    flipped = [bool(crop[0, 0, 1] > crop[0, -1, 1]) for crop in crops]
    assert abs(np.corrcoef(top, flipped)[0, 1]) < 0.15  # -0.87 with Compose.set_random_seed
    assert 0.4 < np.mean(flipped) < 0.6


def test_random_crops_are_not_distorted():
    rows = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 200, 1))
    image = np.concatenate([rows, rows.transpose(1, 0, 2), rows], axis=-1)
    for i in range(20):
        crop = apply_transform(random_resized_crop((24, 48)), image, np.random.SeedSequence(i)).astype(int)
        height, width = crop[-1, 0, 0] - crop[0, 0, 0], abs(crop[0, -1, 1] - crop[0, 0, 1])
        assert abs(width - 2 * height) <= 0.06 * width + 6


@pytest.mark.parametrize("image_size", [(120, 90), (90, 120), (53, 71), (40, 300), (300, 40)])
def test_without_shorter_side_the_image_just_covers_the_crop(image_size):
    """Use a ramp across and one down: one of the two is not cropped."""
    height, width = image_size
    y, x = np.mgrid[:height, :width]
    image = np.stack([255 * y / (height - 1), 255 * x / (width - 1), 0 * x], axis=-1).astype(np.uint8)
    crop = apply_transform(resize_and_center_crop((64, 85), None), image, np.random.SeedSequence(0))
    assert crop.shape == (64, 85, 3)
    whole = crop[..., 0 if height / width < 64 / 85 else 1].astype(int)  # a wide image keeps all rows
    assert whole.max() - whole.min() >= 255 - 2 * 255 / min(64, height, width)


def test_rejects_a_shorter_side_below_the_crop():
    for factory in (resize_and_random_crop, resize_and_center_crop):
        with pytest.raises(InputError, match=r"shorter_side_px=40 must be at least the longer side of .*\[24, 64\]"):
            factory((24, 64), 40)
