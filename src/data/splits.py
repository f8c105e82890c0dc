"""Split the files of a dataset into training, validation and test: one function for each kind of layout.

Each function takes the dataset's directory and returns its `Splits`, which depend on the files' names and the arguments
only, not on the order in which the file system lists them. A split without files is an empty list; `DatasetFiles.paths`
raises an error when it is used.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage

from src.common.errors import InputError
from src.data.image_search import find_images, natural_order

Splits = dict[str, list[Path]]
"""The files of "train", "validation" and "test"; no file belongs to two of them."""


def by_patterns(root: Path, train: Sequence[str], validation: Sequence[str], test: Sequence[str]) -> Splits:
    """Split by directories of the dataset; the arguments are patterns for `find_images`."""
    patterns = {"train": train, "validation": validation, "test": test}
    return {split: find_images(root, choices) for split, choices in patterns.items()}


def halved_by_name(root: Path, train: Sequence[str], held_out: Sequence[str]) -> Splits:
    """Split the held-out images by name: the first half for validation, the second half for testing.

    Args:
        train, held_out: patterns for `find_images`.
    """
    images = find_images(root, held_out)
    half = len(images) // 2
    return {"train": find_images(root, train), "validation": images[:half], "test": images[half:]}


def by_lists(root: Path, train: str, validation: str, test: str, pictures: str = ".") -> Splits:
    """Read the splits from text files with one image per line; a class number after the name is ignored.

    Args:
        train, validation, test: the text files, relative to `root`.
        pictures: the directory, relative to `root`, that the names in the files are relative to.
    """
    return {
        split: _read_listing(root / name, root / pictures)
        for split, name in {"train": train, "validation": validation, "test": test}.items()
    }


def by_shares(
    root: Path, pictures: Sequence[str] = ("**/*",), validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> Splits:
    """Split the images at random; every split gets at least one.

    Args:
        pictures: patterns for `find_images`.
        validation, test: fractions of all images, above 0; the remaining images are for training.
        seed: seed of the draw; comparable results need the same seed.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise InputError(f"{validation=} and {test=} must be fractions above 0 with a sum below 1")
    files = find_images(root, pictures)
    if len(files) in (1, 2):
        raise InputError(f"has {len(files)} images, but three splits need at least 3")
    drawn = _shuffle(files, seed)
    validation_count, test_count = (max(1, round(fraction * len(files))) for fraction in (validation, test))
    held_out = validation_count + test_count
    return {
        "train": natural_order(drawn[held_out:]),
        "validation": natural_order(drawn[:validation_count]),
        "test": natural_order(drawn[validation_count:held_out]),
    }


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
        train, test: patterns for `find_images`.
        validation_count: number of images to draw.
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
    first_test = len(files) - test
    first_validation = first_test - validation
    return {
        "train": files[:first_validation],
        "validation": files[first_validation:first_test],
        "test": files[first_test:],
    }


def by_partition(root: Path, partition: Sequence[str], pictures: Sequence[str]) -> Splits:
    """Read CelebA's own split by person, a file with lines `000001.jpg 0`: 0 = train, 1 = validation, 2 = test.

    Args:
        partition: possible paths of that file, relative to `root`; the first that exists is used. Kaggle's .csv, with
            commas and a header, is supported.
        pictures: possible directories of the images.
    """
    listing = _first_existing(root, partition)
    files = {path.name: path for path in find_images(root, [f"{folder}/*" for folder in pictures])}
    numbers = {"0": "train", "1": "validation", "2": "test"}
    splits: Splits = {split: [] for split in numbers.values()}
    for line in listing.read_text().splitlines():
        name, _, number = line.strip().replace(",", " ").partition(" ")
        if number.strip() not in numbers:
            continue  # the header
        if files and name not in files:
            raise InputError(f"lists {name} in {listing.name}, but has no such image")
        if files:
            splits[numbers[number.strip()]].append(files[name])
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
        train = {category: _find_category(root, "train", category) for category in categories}
        held_out = {category: _find_category(root, "val", category) for category in categories}
    else:
        folders = [f"data_{size}{kind}" for size in ("large", "256") for kind in ("_standard", "")]
        train = {
            category: find_images(root, [f"{folder}/{category[0]}/{category}/*" for folder in folders])
            for category in categories
        }
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
        "train": [
            "astronaut.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "retina.jpg",
        ],
        "validation": ["rocket.jpg"],
        "test": ["chelsea.png", "coffee.png"],
    }
    missing = [name for of_split in names.values() for name in of_split if not (root / name).is_file()]
    if missing:
        raise InputError(f"has no {', '.join(missing)}")
    return {split: [root / name for name in of_split] for split, of_split in names.items()}


def _shuffle(files: list[Path], seed: int) -> list[Path]:
    return [files[i] for i in np.random.default_rng(seed).permutation(len(files))]


def _first_existing(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise InputError(f"has no {' or '.join(names)}")


def _read_listing(listing: Path, folder: Path) -> list[Path]:
    """Return the images that a text file names, or [] if the file does not exist."""
    if not listing.is_file():
        return []
    lines = (re.sub(r"\s+\d+$", "", line.strip()).lstrip("/") for line in listing.read_text().splitlines())
    files = [folder / name for name in lines if name]
    if files and not files[0].is_file():  # the first one reveals a wrong layout; checking millions takes minutes
        raise InputError(f"lists {files[0]} in {listing.name}, but has no such file")
    return files


def _find_category(root: Path, split: str, category: str) -> list[Path]:
    return find_images(root, [f"{split}/{category.replace('/', joint)}/*" for joint in ("-", "_")])


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
