"""Which file of a data set belongs to training, validation and test: one function for each kind of layout.

Each takes the data set's folder and returns its `Splits`. A result depends on the files' names and the arguments alone,
not on the order in which a file system lists them. A split for which nothing is found is an empty list here;
`PictureFiles.of` says so, to whoever asks for it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

import numpy as np
import skimage

from src.common.errors import InputError
from src.image_files.reading import PICTURE_SUFFIXES

Splits = dict[str, list[Path]]
"""Files by the names "train", "validation" and "test"; no file is in two of them."""


def find_pictures(root: Path, patterns: Sequence[str]) -> list[Path]:
    """The pictures that the first fruitful pattern matches, in natural order: 2.jpg stands before 10.jpg.

    Args:
        patterns: globs relative to `root` for the layouts in which people have a data set; `**` enters subfolders,
            linked ones too, but none that leads back to where it came from. Hidden files and files that do not end like
            a picture do not count.
    Raises:
        InputError: a folder can't be read.
    """
    for pattern in patterns:
        found = [root / name for name in dict.fromkeys(_matching(root, pattern, strict=True))]
        if found:
            return _in_order(found)
    return []


def pictures_under(root: Path) -> set[str]:
    """All pictures of a folder and its subfolders, relative to it; folders that can't be read are left out."""
    return set(_matching(root, "**/*", strict=False))


def by_patterns(root: Path, train: Sequence[str], validation: Sequence[str], test: Sequence[str]) -> Splits:
    """Splits that the data set makes itself, by its folders; the arguments are patterns of `find_pictures`."""
    patterns = {"train": train, "validation": validation, "test": test}
    return {split: find_pictures(root, choices) for split, choices in patterns.items()}


def halved_by_name(root: Path, train: Sequence[str], held_out: Sequence[str]) -> Splits:
    """Training pictures, and others of which the first half in natural order validates and the second half tests.

    Args:
        train, held_out: patterns of `find_pictures`.
    """
    others = find_pictures(root, held_out)
    half = len(others) // 2
    return {"train": find_pictures(root, train), "validation": others[:half], "test": others[half:]}


def by_lists(root: Path, train: str, validation: str, test: str, pictures: str = ".") -> Splits:
    """Splits that text files name, one picture a line; a class number after the name is ignored.

    Args:
        train, validation, test: the text files, relative to `root`.
        pictures: the folder, relative to `root`, that the listed names start from.
    """
    return {
        split: _listed(root / name, root / pictures)
        for split, name in {"train": train, "validation": validation, "test": test}.items()
    }


def by_shares(
    root: Path, pictures: Sequence[str] = ("**/*",), validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> Splits:
    """Random shares of a folder without splits; every split gets one picture at least.

    Args:
        validation, test: shares of all pictures, above 0; training gets what is left.
        seed: of the draw. Keep it when results are to be compared.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise InputError(f"the shares must be above 0 and leave some for training: {validation=}, {test=}")
    files = find_pictures(root, pictures)
    if len(files) in (1, 2):
        raise InputError(f"holds {len(files)} of the three pictures that three splits need")
    drawn = _shuffled(files, seed)
    validation_count, test_count = (max(1, round(share * len(files))) for share in (validation, test))
    held_out = validation_count + test_count
    return {
        "train": _in_order(drawn[held_out:]),
        "validation": _in_order(drawn[:validation_count]),
        "test": _in_order(drawn[validation_count:held_out]),
    }


def draw_from_train(
    root: Path,
    train: Sequence[str],
    test: Sequence[str],
    validation_count: int,
    test_count: int | None = None,
    seed: int = 0,
) -> Splits:
    """The data set has training and test pictures; validation pictures are drawn, and removed, from the training ones.

    Source: LBAM Sec. 4 and Edge-LBAM Sec. 4.1 draw 100 of Paris StreetView's 14,900 training images at random.

    Args:
        train, test: patterns of `find_pictures`.
        test_count: draw that many of the test pictures; None takes all.
    """
    available, tests = find_pictures(root, train), find_pictures(root, test)
    if 0 < len(available) <= validation_count:
        raise InputError(f"holds {len(available)} training pictures, of which {validation_count} can't be drawn")
    drawn = _shuffled(available, seed)
    return {
        "train": _in_order(drawn[validation_count:]),
        "validation": _in_order(drawn[:validation_count]),
        "test": tests if test_count is None else _in_order(_shuffled(tests, seed)[:test_count]),
    }


def last_files(root: Path, pictures: Sequence[str], validation: int, test: int) -> Splits:
    """The last `test` files in natural order are for testing, the `validation` before them for validation.

    Source: Edge-LBAM Sec. 4.1: "We choose the last 200 images to make our validation and test sets"; which of the 200
    are which it leaves open. MPGA-GLA Sec. 4: "we use the last 3000 images as the testing images".
    """
    files = find_pictures(root, pictures)
    if 0 < len(files) <= validation + test:
        raise InputError(f"holds {len(files)} pictures, too few to keep {validation} + {test} from training")
    first_test = len(files) - test
    first_validation = first_test - validation
    return {
        "train": files[:first_validation],
        "validation": files[first_validation:first_test],
        "test": files[first_test:],
    }


def by_partition(root: Path, partition: Sequence[str], pictures: Sequence[str]) -> Splits:
    """CelebA's own split by person: a file of lines `000001.jpg 0`, with 0 = train, 1 = validation, 2 = test.

    Args:
        partition: where that file may be, relative to `root`; the first that exists counts. Commas and a header, as
            Kaggle's .csv has them, are understood.
        pictures: where the folder of pictures may be.
    """
    listing = _first_existing(root, partition)
    files = {path.name: path for path in find_pictures(root, [f"{folder}/*" for folder in pictures])}
    numbers = {"0": "train", "1": "validation", "2": "test"}
    splits: Splits = {split: [] for split in numbers.values()}
    for line in listing.read_text().splitlines():
        name, _, number = line.strip().replace(",", " ").partition(" ")
        if number.strip() not in numbers:
            continue  # the header
        if files and name not in files:
            raise InputError(f"{listing.name} names {name}, which is not among the pictures")
        if files:
            splits[numbers[number.strip()]].append(files[name])
    return splits


def halved_validation(root: Path, categories: Sequence[str], train_per_category: int = 5000, seed: int = 0) -> Splits:
    """Some categories of Places365-Standard; the validation images of each are halved into validation and test.

    Two layouts are understood, the "easy directory structure", where train/ and val/ hold a folder for each category,
    and the one that torchvision unpacks: data_large_standard/ or data_256_standard/ (or data_large/, data_256/) by
    category, val_large/ or val_256/ flat, with places365_val.txt and categories_places365.txt.

    Source: LBAM Sec. 4: "divide the original validation set from each category [...] into two equal non-overlapped
    sets"; which image goes where it leaves open, so `seed` decides. The categories are named in its supplement, Sec. 3.

    Args:
        categories: as Places365 spells them, e.g. apartment_building/outdoor.
        train_per_category: the first so many training images of each category; the standard set has up to 5,000.
    """
    if (root / "train").is_dir():
        train = {category: _easy_folder(root, "train", category) for category in categories}
        held_out = {category: _easy_folder(root, "val", category) for category in categories}
    else:
        folders = [f"data_{size}{kind}" for size in ("large", "256") for kind in ("_standard", "")]
        train = {
            category: find_pictures(root, [f"{folder}/{category[0]}/{category}/*" for folder in folders])
            for category in categories
        }
        held_out = _listed_validation(root)
    for kind, found in {"training": train, "validation": held_out}.items():
        if missing := [category for category in categories if not found.get(category)]:
            noun = "category" if len(missing) == 1 else "categories"
            raise InputError(f"has no {kind} images of {noun} {', '.join(missing)}")
    splits: Splits = {"train": [], "validation": [], "test": []}
    for category in categories:
        drawn = _shuffled(held_out[category], seed)
        splits["train"] += train[category][:train_per_category]
        splits["validation"] += _in_order(drawn[: len(drawn) // 2])
        splits["test"] += _in_order(drawn[len(drawn) // 2 :])
    return splits


def built_in_photos_folder() -> Path:
    """Where scikit-image keeps the pictures that it ships."""
    return Path(skimage.__file__).parent / "data"


def built_in_photos(root: Path) -> Splits:
    """The colour photos that scikit-image ships inside its package, split by photo.

    Testing has the two everyday scenes with fur, wood, china and shadows, the nearest here to what one wants filled:
    a cat (chelsea) and a cup of coffee. Validation has the only outdoor scene, a rocket launch, whose smooth sky and
    fine structures punish both noise and blur. Training has the rest, some of it far from holiday photos: an
    astronaut's portrait, a motorcycle (a stereo pair, so both views stay together), galaxies, stained tissue, a retina.
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


def _matching(root: Path, pattern: str, *, strict: bool) -> Iterator[str]:
    """The pictures, relative to `root`, that a pattern matches.

    As `glob` has it, which neither tells of a folder that it can't read nor of links that go round in circles, and asks
    the disk whether each file is a folder: a million questions, where listing the folders has answered them.

    Args:
        strict: refuse a folder that can't be read.
    """
    endings = tuple(PICTURE_SUFFIXES)

    @lru_cache(maxsize=1)  # `**` looks at each folder twice
    def listed(folder: str) -> tuple[list[str], list[str]]:
        """The files and the folders in a folder."""
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else files).append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        except OSError as error:
            if strict:
                raise InputError(f"has a folder {folder or '.'} that can't be read ({error.strerror})") from error
        return files, folders

    def matching(folder: str, parts: Sequence[str], above: Sequence[str]) -> Iterator[str]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from matching(folder, rest or ["*"], above)
        elif not rest:
            yield from (
                folder + name for name in listed(folder)[0] if name.lower().endswith(endings) and _matches(name, part)
            )
            return
        fixed = not any(sign in part for sign in "*?[")
        for name in [part] if fixed else listed(folder)[1]:
            if _matches(name, "*" if part == "**" else part):
                real = os.path.realpath(root / folder / name)
                if fixed or real not in above:
                    yield from matching(f"{folder}{name}/", parts if part == "**" else rest, [*above, real])

    return matching("", pattern.split("/"), [os.path.realpath(root)])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _matches(name: str, part: str) -> bool:
    return fnmatch(name, part) and (part.startswith(".") or not name.startswith("."))


def _in_order(files: list[Path]) -> list[Path]:
    def natural(path: Path) -> tuple[list[str | int], str]:
        name = path.as_posix()
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name  # 01 and 1 tie

    return sorted(files, key=natural)


def _shuffled(files: list[Path], seed: int) -> list[Path]:
    return [files[i] for i in np.random.default_rng(seed).permutation(len(files))]


def _first_existing(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise InputError(f"has no {' or '.join(names)}")


def _listed(listing: Path, folder: Path) -> list[Path]:
    """Pictures named in `listing`; [] where there is no such file."""
    if not listing.is_file():
        return []
    lines = (re.sub(r"\s+\d+$", "", line.strip()).lstrip("/") for line in listing.read_text().splitlines())
    files = [folder / name for name in lines if name]
    if files and not files[0].is_file():  # a look at the first tells a wrong layout; millions would take minutes
        raise InputError(f"{listing.name} names {files[0]}, which does not exist")
    return files


def _easy_folder(root: Path, split: str, category: str) -> list[Path]:
    return find_pictures(root, [f"{split}/{category.replace('/', joint)}/*" for joint in ("-", "_")])


def _listed_validation(root: Path) -> dict[str, list[Path]]:
    """Places365's flat validation images by category, e.g. "apartment_building/outdoor"."""
    categories = _first_existing(root, ["categories_places365.txt"]).read_text().split()
    category_of = {number: name[len("/a/") :] for name, number in zip(categories[::2], categories[1::2], strict=True)}
    files = {path.name: path for path in find_pictures(root, ["val_large/*", "val_256/*"])}
    by_category: dict[str, list[Path]] = {}
    listing = _first_existing(root, ["places365_val.txt"]).read_text().split()
    for name, number in zip(listing[::2], listing[1::2], strict=True):
        if name in files:
            by_category.setdefault(category_of[number], []).append(files[name])
    return by_category
