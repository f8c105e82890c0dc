"""Split the files of a dataset into training, validation and test: one function for each kind of layout.

Each function takes the dataset's directory and returns its `Splits`, which depend only on the files' names and the
arguments. Arguments that list several paths are patterns for `find_images`. A split without files is an empty list.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage

from src.common.errors import InputError
from src.image_files.search import find_images, natural_order

Splits = dict[str, list[Path]]
"""The files of "train", "validation" and "test"; no file belongs to two of them."""


def by_patterns(root: Path, train: Sequence[str], validation: Sequence[str], test: Sequence[str]) -> Splits:
    """Split by directories of the dataset; the arguments are patterns for `find_images`."""
    patterns = {"train": train, "validation": validation, "test": test}
    return {split: find_images(root, choices) for split, choices in patterns.items()}


def halved_by_name(root: Path, train: Sequence[str], held_out: Sequence[str]) -> Splits:
    """Split the held-out images by name: the first half for validation, the second half for testing."""
    images = find_images(root, held_out)
    half = len(images) // 2
    return {"train": find_images(root, train), "validation": images[:half], "test": images[half:]}


def by_lists(root: Path, train: str, validation: str, test: str, pictures: str = ".") -> Splits:
    """Read the splits from text files with one image per line; a class number after the name is ignored.

    Args:
        train, validation, test: the text files, relative to `root`; a missing one is an empty split.
        pictures: the directory, relative to `root`, that the names in the files are relative to.
    """
    splits: Splits = {"train": [], "validation": [], "test": []}
    for split, listing in zip(splits, (train, validation, test), strict=True):
        if (root / listing).is_file():
            lines = (re.sub(r"\s+\d+$", "", line.strip()) for line in (root / listing).read_text().splitlines())
            splits[split] = [root / pictures / line.lstrip("/") for line in lines if line]
        # The first image reveals a wrong layout; checking millions of them takes minutes.
        if splits[split] and not splits[split][0].is_file():
            raise InputError(f"lists {splits[split][0]} in {listing}, but has no such file")
    return splits


def by_shares(
    root: Path, pictures: Sequence[str] = ("**/*",), validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> Splits:
    """Split the images at random; every split gets at least one.

    Args:
        validation, test: fractions of all images, above 0; the remaining images are for training.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise InputError(f"{validation=} and {test=} must be fractions above 0 with a sum below 1")
    files = find_images(root, pictures)
    if len(files) in (1, 2):
        raise InputError(f"has {len(files)} images, but three splits need at least 3")
    drawn, held_out = _shuffle(files, seed), []
    for fraction in (validation, test):
        count = max(1, round(fraction * len(files)))
        held_out.append(natural_order(drawn[:count]))
        drawn = drawn[count:]
    return {"train": natural_order(drawn), "validation": held_out[0], "test": held_out[1]}


def draw_from_train(
    root: Path,
    train: Sequence[str],
    test: Sequence[str],
    validation_count: int,
    test_count: int | None = None,
    seed: int = 0,
) -> Splits:
    """Draw validation images from the training images of a dataset that has no validation split.

    Source: LBAM Sec. 4 and Edge-LBAM Sec. 4.1 draw 100 of Paris StreetView's 14,900 training images at random.

    Args:
        test_count: number of images to draw from the test images; None uses all.
        seed: seed of both draws.
    """
    available, tests = find_images(root, train), find_images(root, test)
    if 0 < len(available) <= validation_count:
        raise InputError(f"has {len(available)} training images, but validation_count={validation_count} must be lower")
    drawn = _shuffle(available, seed)
    return {
        "train": natural_order(drawn[validation_count:]),
        "validation": natural_order(drawn[:validation_count]),
        "test": tests if test_count is None else natural_order(_shuffle(tests, seed)[:test_count]),
    }


def last_files(root: Path, pictures: Sequence[str], validation: int, test: int) -> Splits:
    """Use the last `test` images in natural order for testing, and the `validation` images before them for validation.

    Source: Edge-LBAM Sec. 4.1: "We choose the last 200 images to make our validation and test sets", without saying
    which are which. MPGA-GLA Sec. 4: "we use the last 3000 images as the testing images".
    """
    files = find_images(root, pictures)
    if 0 < len(files) <= validation + test:
        raise InputError(f"has {len(files)} images, but validation={validation} and test={test} must have a lower sum")
    ends = len(files) - test - validation, len(files) - test
    return {"train": files[: ends[0]], "validation": files[ends[0] : ends[1]], "test": files[ends[1] :]}


def by_partition(root: Path, partition: Sequence[str], pictures: Sequence[str]) -> Splits:
    """Read CelebA's own split by person, a file with lines `000001.jpg 0`: 0 = train, 1 = validation, 2 = test.

    Args:
        partition: possible paths of that file, relative to `root`; the first that exists is used. Kaggle's .csv, with
            commas and a header, is supported.
        pictures: possible directories of the images.
    """
    listing = _first_existing(root, partition)
    files = {path.name: path for path in find_images(root, [f"{folder}/*" for folder in pictures])}
    splits: Splits = {"train": [], "validation": [], "test": []}
    of_number = dict(zip("012", splits.values(), strict=True))
    for line in listing.read_text().splitlines() if files else []:
        name, _, number = line.strip().replace(",", " ").partition(" ")
        if number.strip() not in of_number:
            continue  # the header
        if name not in files:
            raise InputError(f"lists {name} in {listing.name}, but has no such image")
        of_number[number.strip()].append(files[name])
    return splits


def halved_validation(root: Path, categories: Sequence[str], train_per_category: int = 5000, seed: int = 0) -> Splits:
    """Use some categories of Places365-Standard, with the validation images of each halved into validation and test.

    Two layouts are supported: the "easy directory structure", where train/ and val/ have a directory per category, and
    torchvision's: data_large_standard/ or data_256_standard/ (or data_large/, data_256/) by category, and a flat
    val_large/ or val_256/ with places365_val.txt and categories_places365.txt.

    Source: LBAM Sec. 4: "divide the original validation set from each category [...] into two equal non-overlapped
    sets", without saying how; here at random. Its supplement, Sec. 3, names the categories.

    Args:
        categories: names as in Places365, e.g. apartment_building/outdoor.
        train_per_category: number of training images to use of each category; the standard set has up to 5,000.
        seed: seed of the draw.
    """
    if (root / "train").is_dir():
        train, held_out = (
            {
                name: find_images(root, [f"{folder}/{name.replace('/', joint)}/*" for joint in "-_"])
                for name in categories
            }
            for folder in ("train", "val")
        )
    else:
        folders = [f"data_{size}{kind}" for size in ("large", "256") for kind in ("_standard", "")]
        train = {name: find_images(root, [f"{folder}/{name[0]}/{name}/*" for folder in folders]) for name in categories}
        held_out = _read_validation_listing(root)
    for kind, found in {"training": train, "validation": held_out}.items():
        if missing := [category for category in categories if not found.get(category)]:
            noun = "category" if len(missing) == 1 else "categories"
            raise InputError(f"has no {kind} images of {noun} {', '.join(missing)}")
    splits: Splits = {"train": [], "validation": [], "test": []}
    for category in categories:
        drawn = _shuffle(held_out[category], seed)
        splits["train"] += train[category][:train_per_category]
        splits["validation"] += natural_order(drawn[: len(drawn) // 2])
        splits["test"] += natural_order(drawn[len(drawn) // 2 :])
    return splits


def built_in_photos_folder() -> Path:
    """Return the directory of the images in the scikit-image package."""
    return Path(skimage.__file__).parent / "data"


def built_in_photos(root: Path) -> Splits:
    """Split the colour images of the scikit-image package.

    The two everyday scenes, a cat (chelsea) and a cup of coffee, are for testing, as they are closest to images that
    people inpaint. The only outdoor scene, a rocket launch, is for validation: its smooth sky and fine structures
    penalise both noise and blur. The others are for training; the two views of the motorcycle are a stereo pair.
    """
    names = {
        "train": "astronaut.png hubble_deep_field.jpg ihc.png motorcycle_left.png motorcycle_right.png retina.jpg",
        "validation": "rocket.jpg",
        "test": "chelsea.png coffee.png",
    }
    splits = {split: [root / name for name in of_split.split()] for split, of_split in names.items()}
    if missing := [path.name for paths in splits.values() for path in paths if not path.is_file()]:
        raise InputError(f"has no {', '.join(missing)}")
    return splits


def _shuffle(files: list[Path], seed: int) -> list[Path]:
    return [files[i] for i in np.random.default_rng(seed).permutation(len(files))]


def _first_existing(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise InputError(f"has no {' or '.join(names)}")


def _read_validation_listing(root: Path) -> dict[str, list[Path]]:
    """Return the flat validation images of Places365 by category, e.g. "apartment_building/outdoor"."""
    categories = _first_existing(root, ["categories_places365.txt"]).read_text().split()
    category_of = {number: name[len("/a/") :] for name, number in zip(categories[::2], categories[1::2], strict=True)}
    files = {path.name: path for path in find_images(root, ["val_large/*", "val_256/*"])}
    by_category: dict[str, list[Path]] = {}
    listing = _first_existing(root, ["places365_val.txt"]).read_text().split()
    for name, number in zip(listing[::2], listing[1::2], strict=True):
        if name in files:
            by_category.setdefault(category_of[number], []).append(files[name])
    return by_category
