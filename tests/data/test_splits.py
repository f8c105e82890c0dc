import os
from fnmatch import fnmatch
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.common.errors import InputError
from src.data import splits
from src.data.files import DatasetFiles
from src.image_files import search as image_search
from src.image_files.reading import read_image

CONF = Path(__file__).parents[2] / "conf"
DATASETS = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
TEN_CATEGORIES = (
    "apartment_building/outdoor beach house ocean sky throne_room tower tundra valley wheat_field".split()  # noqa: SIM905
)


def touch(root: Path, *names: str) -> None:
    """Create empty files: splits depend on names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def data(name: str, root: Path | str, *overrides: str):
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        shared = ["+scale={image_size: 64, shorter_side_px: 88}", "+batch_size=2", "+workers=0", "+seed=0"]
        cfg = compose(overrides=[f"+data={name}", f"data.root={root}", *shared, *overrides])
    return instantiate(cfg.data.datamodule)


def files(name: str, root: Path, *overrides: str) -> dict[str, list[str]]:
    found = data(name, root, *overrides).files
    return {s: [path.relative_to(root).as_posix() for path in found.paths(s)] for s in ("train", "validation", "test")}


def numbered(folder: str, count: int, suffix: str = "jpg") -> list[str]:
    return [f"{folder}/{i}.{suffix}" for i in range(count)]


def assert_disjoint(found: dict[str, list[str]]) -> None:
    everything = [name for names in found.values() for name in names]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize("name", DATASETS)
def test_missing_directory_is_reported_in_one_line(name, tmp_path):
    found = data(name, tmp_path / "nowhere").files
    with pytest.raises(InputError, match=rf"^data={name}: data.root=.*nowhere is not a directory; expected ") as error:
        found.paths("train")
    assert found.source in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", DATASETS)
def test_empty_directory_is_reported_in_one_line(name, tmp_path):
    with pytest.raises(InputError, match=rf"^data={name}: data.root=.* has no .*; expected ") as error:
        data(name, tmp_path).files.paths("train")
    assert "\n" not in str(error.value)


def test_natural_order_hidden_files_and_suffixes(tmp_path):
    touch(tmp_path, "10.jpg", "9.JPG", "a/2.Png", "a/10.webp", ".hidden.jpg", "._9.jpg", "notes.txt", "a.zip", "1")
    found = image_search.find_images(tmp_path, ["nothing/*", "**/*"])
    assert [p.relative_to(tmp_path).as_posix() for p in found] == ["9.JPG", "10.jpg", "a/2.Png", "a/10.webp"]


def test_links_to_directories_are_followed(tmp_path):
    touch(tmp_path, "elsewhere/1.jpg", "root/2.jpg")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(image_search.find_images(tmp_path / "root", ["**/*"])) == 2


def test_built_in_photos_keep_views_of_a_scene_together():
    root = splits.built_in_photos_folder()
    found = splits.built_in_photos(root)
    names = {split: {path.name for path in paths} for split, paths in found.items()}
    assert names["test"] == {"chelsea.png", "coffee.png"}
    assert names["validation"] == {"rocket.jpg"}
    assert {"motorcycle_left.png", "motorcycle_right.png"} <= names["train"]  # two views of one scene
    assert_disjoint(names_as_lists := {split: sorted(of_split) for split, of_split in names.items()})
    assert sum(map(len, names_as_lists.values())) == 9
    for paths in found.values():
        for path in paths:
            image = read_image(path)
            assert min(image.shape[:2]) >= 256
            assert (image != image[..., :1]).any(), f"{path.name} has no colour"


def test_folder_is_split_by_fractions(tmp_path):
    touch(tmp_path, *numbered("a", 30), *numbered("b/c", 10, "PNG"))
    found = files("folder", tmp_path)
    assert {split: len(paths) for split, paths in found.items()} == {"train": 32, "validation": 4, "test": 4}
    assert_disjoint(found)
    assert files("folder", tmp_path) == found
    assert files("folder", tmp_path, "data.split.seed=1") != found
    assert len(files("folder", tmp_path, "data.split.test=0.5")["test"]) == 20
    with pytest.raises(InputError, match=r"validation=0\.1 and test=0\.9 must be fractions above 0 with a sum below 1"):
        files("folder", tmp_path, "data.split.test=0.9")


def test_folder_needs_three_images(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(InputError, match="has 2 images, but three splits need at least 3"):
        files("folder", tmp_path)
    touch(tmp_path, "3.jpg")
    assert [len(paths) for paths in files("folder", tmp_path).values()] == [1, 1, 1]


def test_folder_requires_a_root():
    with pytest.raises(InputError, match=r"^data=folder: data\.root is not set: set it to a directory with images"):
        data("folder", "null").files.paths("train")


def test_paris_streetview(tmp_path):
    touch(tmp_path, *numbered("paris_train_original", 130, "JPG"), *[f"paris_eval_gt/{i:03}_im.png" for i in range(5)])
    found = files("paris_streetview", tmp_path)
    assert {split: len(paths) for split, paths in found.items()} == {"train": 30, "validation": 100, "test": 5}
    assert_disjoint(found)
    assert all(name.startswith("paris_train_original/") for name in found["validation"])
    assert {len(Path(name).stem) for name in found["validation"]} == {1, 2, 3}  # drawn from all of them
    (tmp_path / "paris_eval").mkdir()
    (tmp_path / "paris_eval_gt").rename(tmp_path / "paris_eval" / "paris_eval_gt")
    assert len(files("paris_streetview", tmp_path)["test"]) == 5
    (tmp_path / "paris_train_original" / "0.JPG").unlink()
    with pytest.raises(InputError, match="has 129 training images, but validation_count=200 must be lower"):
        files("paris_streetview", tmp_path, "data.split.validation_count=200")


def test_places_easy_layout(tmp_path):
    for category in [*TEN_CATEGORIES, "zoo"]:
        easy = category.replace("/", "-")
        touch(tmp_path, *numbered(f"train/{easy}", 7), *numbered(f"val/{easy}", 4))
    found = files("places", tmp_path)
    assert {split: len(paths) for split, paths in found.items()} == {"train": 70, "validation": 20, "test": 20}
    assert_disjoint(found)
    assert not any("zoo" in name for names in found.values() for name in names)
    for category in TEN_CATEGORIES:
        for split in ("validation", "test"):
            assert sum(f"val/{category.replace('/', '-')}/" in name for name in found[split]) == 2
    assert len(files("places", tmp_path, "data.split.train_per_category=3")["train"]) == 30
    (tmp_path / "train" / "sky").rename(tmp_path / "train" / "skies")
    with pytest.raises(InputError, match="has no training images of category sky; expected"):
        files("places", tmp_path)


@pytest.mark.parametrize("size", ["large", "256"])
def test_places_listed_layout(tmp_path, size):
    categories = sorted([*TEN_CATEGORIES, "zoo"])
    lines, listing = [], []
    for number, category in enumerate(categories):
        lines.append(f"/{category[0]}/{category} {number}")
        touch(tmp_path, *[f"data_{size}_standard/{category[0]}/{category}/{i:08}.jpg" for i in range(1, 4)])
        for repeat in range(2):
            name = f"Places365_val_{repeat * 11 + number:08}.jpg"
            touch(tmp_path, f"val_{size}/{name}")
            listing.append(f"{name} {number}")
    (tmp_path / "categories_places365.txt").write_text("\n".join(lines))
    (tmp_path / "places365_val.txt").write_text("\n".join(sorted(listing)))
    found = files("places", tmp_path)
    assert {split: len(paths) for split, paths in found.items()} == {"train": 30, "validation": 10, "test": 10}
    assert_disjoint(found)
    assert f"data_{size}_standard/a/apartment_building/outdoor/00000001.jpg" in found["train"]
    zoo = {line.split()[0] for line in listing if line.endswith(f" {categories.index('zoo')}")}
    assert not zoo & {Path(name).name for name in found["validation"] + found["test"]}
    assert len(files("places365", tmp_path, "data.split.validation_count=5")["test"]) == 22


def test_places365(tmp_path):
    touch(tmp_path, *numbered("train/airfield", 8), *numbered("train/zoo", 8), *numbered("val/zoo", 6))
    found = files("places365", tmp_path, "data.split.validation_count=4")
    assert {split: len(paths) for split, paths in found.items()} == {"train": 12, "validation": 4, "test": 6}
    assert_disjoint(found)
    assert len(files("places365", tmp_path, "data.split.validation_count=4", "data.split.test_count=2")["test"]) == 2


def test_reads_splits_from_lists(tmp_path):
    touch(tmp_path, "data/a/airfield/1.jpg", "data/z/zoo/2.jpg")
    (tmp_path / "train.txt").write_text("/a/airfield/1.jpg 0\n\n/z/zoo/2.jpg 364\n")
    found = splits.by_lists(tmp_path, "train.txt", "validation.txt", "test.txt", pictures="data")
    assert found["train"] == [tmp_path / "data/a/airfield/1.jpg", tmp_path / "data/z/zoo/2.jpg"]
    assert found["test"] == []
    (tmp_path / "test.txt").write_text("a/airfield/7.jpg 0\n")
    with pytest.raises(InputError, match=r"lists .*7\.jpg in test\.txt, but has no such file"):
        splits.by_lists(tmp_path, "train.txt", "validation.txt", "test.txt", pictures="data")


@pytest.mark.parametrize("folder", ["CelebA-HQ-img", "celeba_hq_256", "."])
def test_celeba_hq_uses_the_last_in_natural_order(tmp_path, folder):
    touch(tmp_path, *numbered(folder, 230))
    if folder == "CelebA-HQ-img":
        touch(tmp_path, "CelebA-HQ-mask-anno/0/00000_hair.png")  # not an image
    found = {split: [Path(name).stem for name in names] for split, names in files("celeba_hq", tmp_path).items()}
    assert found["train"] == [str(i) for i in range(30)]
    assert found["validation"] == [str(i) for i in range(30, 130)]
    assert found["test"] == [str(i) for i in range(130, 230)]
    with pytest.raises(InputError, match="has 230 images, but validation=100 and test=3000 must have a lower sum"):
        files("celeba_hq", tmp_path, "data.split.test=3000")


def test_celeba_hq_3000_has_3000_test_images(tmp_path):
    touch(tmp_path, *numbered("CelebA-HQ-img", 3104))
    assert [len(names) for names in files("celeba_hq_3000", tmp_path).values()] == [4, 100, 3000]


@pytest.mark.parametrize("name", ["imagenet", "places365"])
def test_1000_training_images_are_for_validation(name):
    assert data(name, "nowhere").files.split.keywords["validation_count"] == 1000


def test_imagenet_with_flat_and_nested_validation(tmp_path):
    touch(tmp_path, *[f"train/n0{w}/n0{w}_{i}.JPEG" for w in range(3) for i in range(4)])
    touch(tmp_path, *[f"val/ILSVRC2012_val_{i:08}.JPEG" for i in range(3)])
    found = files("imagenet", tmp_path, "data.split.validation_count=2")
    assert {split: len(paths) for split, paths in found.items()} == {"train": 10, "validation": 2, "test": 3}
    assert_disjoint(found)
    touch(tmp_path, "val/n00/ILSVRC2012_val_00000004.JPEG")
    assert len(files("imagenet", tmp_path, "data.split.validation_count=2")["test"]) == 4


def test_dtd(tmp_path):
    for split, number in {"train": 0, "val": 1, "test": 2}.items():
        touch(tmp_path, f"images/banded/banded_{number}.jpg", f"labels/{split}1.txt")
        (tmp_path / f"labels/{split}1.txt").write_text(f"banded/banded_{number}.jpg\n")
    found = files("dtd", tmp_path)
    assert found == {s: [f"images/banded/banded_{i}.jpg"] for i, s in enumerate(("train", "validation", "test"))}


def test_celeba_partition(tmp_path):
    touch(tmp_path, *[f"img_align_celeba/{i:06}.jpg" for i in range(1, 7)])
    listing = tmp_path / "list_eval_partition.txt"
    listing.write_text("".join(f"{i:06}.jpg {partition}\n" for i, partition in enumerate("000112", start=1)))
    found = files("celeba", tmp_path)
    assert [len(names) for names in found.values()] == [3, 2, 1]
    assert found["test"] == ["img_align_celeba/000006.jpg"]
    (tmp_path / "list_eval_partition.csv").write_text("image_id,partition\n" + listing.read_text().replace(" ", ","))
    listing.unlink()
    assert files("celeba", tmp_path) == found
    (tmp_path / "img_align_celeba" / "000006.jpg").unlink()
    with pytest.raises(InputError, match=r"lists 000006\.jpg in list_eval_partition\.csv, but has no such image"):
        files("celeba", tmp_path)


def test_missing_test_directory_is_an_error_only_when_used(tmp_path):
    touch(tmp_path, *numbered("data/images/train", 3), *numbered("data/images/val", 2))
    found = data("bsds500", tmp_path).files
    assert (len(found.paths("train")), len(found.paths("validation"))) == (3, 2)
    with pytest.raises(InputError, match=r"data=bsds500: data.root=.* has no images for the test split; expected"):
        found.paths("test")


def test_rejects_a_file_in_two_splits(tmp_path):
    touch(tmp_path, *numbered("data/images/train", 3))
    with pytest.raises(InputError, match="in both test and train"):
        files("bsds500", tmp_path, "data.split.test=[data/images/train/1.jpg]")


def test_provenance_changes_with_the_file_names(tmp_path):
    touch(tmp_path, *numbered("data/images/train", 2), *numbered("data/images/test", 3))
    facts = data("bsds500", tmp_path).provenance("test")
    assert facts["files"] == {"train": 2, "validation": 0, "test": 3}
    assert facts["name"] == "bsds500"
    assert facts == data("bsds500", tmp_path).provenance("test")
    (tmp_path / "data/images/test/1.jpg").rename(tmp_path / "data/images/test/7.jpg")
    assert data("bsds500", tmp_path).provenance("test")["sha256_of_file_list"] != facts["sha256_of_file_list"]


def test_splits_do_not_depend_on_the_listing_order(tmp_path, monkeypatch):
    touch(tmp_path, *numbered("a", 20))
    before = splits.by_shares(tmp_path)
    original = image_search._walk
    monkeypatch.setattr(image_search, "_walk", lambda *a, **k: reversed(list(original(*a, **k))))
    assert splits.by_shares(tmp_path) == before


def test_dataset_files_work_without_hydra(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "1.png")
    touch(tmp_path, "2.png", "3.png")
    found = DatasetFiles("mine", tmp_path, splits.by_shares, "images", "me")
    assert sum(len(found.paths(split)) for split in ("train", "validation", "test")) == 3


NAMES = st.sampled_from(["a", "b1", ".h", "c d", "é", "x.jpg"])
TREES = st.lists(
    st.tuples(
        st.lists(NAMES, max_size=3), st.sampled_from(["1.jpg", "2.JPG", "10.png", ".5.jpg", "no.txt", "a\n.png"])
    ),
    max_size=12,
)
PATTERNS = st.lists(st.sampled_from(["*", "**", "a", "b*", "*.jpg", "[ab]*", ".h"]), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(tree=TREES, parts=PATTERNS)
def test_patterns_match_as_in_glob(tree, parts):
    with TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root, *{"/".join([*folders, name]) for folders, name in tree})
        pattern = "/".join(parts)
        globbed = {n for n in glob(pattern, root_dir=root, recursive=True) if (root / n).is_file()}  # noqa: PTH207
        expected = {name for name in globbed if name.lower().endswith((".jpg", ".png"))}
        assert {path.relative_to(root).as_posix() for path in image_search.find_images(root, [pattern])} == expected


def test_circular_links_are_skipped_and_broken_links_listed(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    found = image_search.find_images(tmp_path, ["**/*"])
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["a/1.jpg", "a/lost.jpg", "a/to_b/2.jpg", "b/2.jpg", "b/to_a/1.jpg", "b/to_a/lost.jpg"]


def test_unreadable_directory_is_named(tmp_path, monkeypatch):
    touch(tmp_path, *numbered("a", 3), *numbered("secret", 3))

    def scandir(folder):
        if Path(folder).name == "secret":  # not by its mode, which root ignores
            raise PermissionError(13, "Permission denied")
        return original(folder)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    message = r"data=folder: data.root=.* has a directory secret/ that can't be read \(Permission denied\); expected"
    with pytest.raises(InputError, match=message):
        files("folder", tmp_path)
    assert len(image_search.images_under(tmp_path)) == 3


def test_all_missing_categories_are_named(tmp_path):
    for category in TEN_CATEGORIES:
        easy = category.replace("/", "-")
        touch(tmp_path, *numbered(f"train/{easy}", 2), *numbered(f"val/{easy}", 2))
    (tmp_path / "val" / "sky").rename(tmp_path / "val" / "skies")
    (tmp_path / "val" / "apartment_building-outdoor").rename(tmp_path / "val" / "flats")
    with pytest.raises(InputError, match="has no validation images of categories apartment_building/outdoor, sky; exp"):
        files("places", tmp_path)


def test_categories_are_those_of_the_supplement():
    """The supplement of LBAM, Sec. 3, writes the second part of a category after an underscore."""
    supplement = "apartment_building_outdoor beach house ocean sky throne_room tower tundra valley wheat_field"
    configured = data("places", "nowhere").files.split.keywords["categories"]
    assert [category.replace("/", "_") for category in configured] == supplement.split()


@settings(deadline=None, max_examples=60)
@given(count=st.integers(3, 60), seed=st.integers(0, 2**32), data=st.data())
def test_splits_are_disjoint_and_complete_in_any_listing_order(count, seed, data):
    names = [f"{'ab'[i % 2]}/{i}.jpg" for i in range(count)]
    draws = {
        "shares": lambda root: splits.by_shares(root, seed=seed),
        "from train": lambda root: splits.draw_from_train(root, ["a/*"], ["b/*"], 1, seed=seed),
        "last": lambda root: splits.last_files(root, ["**/*"], 1, 1),
        "halves": lambda root: splits.halved_by_name(root, ["a/*"], ["b/*"]),
    }
    draw = draws[data.draw(st.sampled_from(sorted(draws)))]

    def listed(order):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                image_search, "_walk", lambda _, pattern, strict: [n for n in order if fnmatch(n, pattern[-3:])]
            )
            return draw(Path("root"))

    once = listed(names)
    assert listed(data.draw(st.permutations(names))) == once
    taken = [path.relative_to("root").as_posix() for paths in once.values() for path in paths]
    assert sorted(taken) == sorted(names)
