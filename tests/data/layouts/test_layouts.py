"""Miniatures of every dataset's downloaded layout are composed, prepared and loaded as a training batch."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from src.data.manifest import Manifest
from src.masks.rectangles import Rectangles
from src.prepare import prepare

CONF = Path(__file__).parents[3] / "conf"
TEN = "apartment_building/outdoor beach house ocean sky throne_room tower tundra valley wheat_field".split()  # noqa: SIM905
CATEGORIES = sorted([*TEN, "airfield", "zen_garden"])


def encode_image(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (20, 15)) -> bytes:
    y, x = np.mgrid[: size[1], : size[0]]
    pixels = np.stack([x * 12, y * 16, (x + y) * 7], axis=-1).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


JPEG, GREY, CMYK, PNG = encode_image(), encode_image(mode="L"), encode_image(mode="CMYK"), encode_image("PNG")
FACE = encode_image(size=(18, 22))


class Folder:
    """Directory of a dataset under construction."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0

    def add(self, name: str, content: bytes = JPEG) -> None:
        """Write an image with a unique hash: decoders ignore the bytes appended to it."""
        self.count += 1
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + b"%d" % self.count)

    def write(self, name: str, lines: list[str]) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text("".join(f"{line}\n" for line in lines))


def paris_streetview(root: Folder, evaluated: str = "paris_eval_gt") -> None:
    for i in range(103):
        root.add(f"paris_train_original/48.8{i:03}_2.3{i:03}_{90 * (i % 4)}_-004.JPG")
    for i in range(1, 4):
        root.add(f"{evaluated}/{i:03}_im.png", PNG)


def context_encoders_paris(root: Folder) -> None:
    paris_streetview(root, "paris_eval/paris_eval_gt")


def places_easy(root: Folder) -> None:
    for number, category in enumerate(CATEGORIES):
        folder = category.replace("/", "-")
        for i in range(1, 4):
            root.add(f"train/{folder}/{i:08}.jpg", GREY if i == 2 else JPEG)
        for i in range(4):
            root.add(f"val/{folder}/Places365_val_{i * len(CATEGORIES) + number + 1:08}.jpg")


def places_of_torchvision(root: Folder, data: str = "data_256_standard", val: str = "val_256") -> None:
    root.write("categories_places365.txt", [f"/{name[0]}/{name} {i}" for i, name in enumerate(CATEGORIES)])
    listed, trained = [], []
    for number, category in enumerate(CATEGORIES):
        for i in range(1, 4):
            trained.append(f"/{category[0]}/{category}/{i:08}.jpg {number}")
            root.add(f"{data}{trained[-1].split()[0]}", GREY if i == 2 else JPEG)
        for i in range(4):
            name = f"Places365_val_{i * len(CATEGORIES) + number + 1:08}.jpg"
            root.add(f"{val}/{name}")
            listed.append(f"{name} {number}")
    root.write("places365_val.txt", sorted(listed))
    root.write("places365_train_standard.txt", trained)


def places_large_of_torchvision(root: Folder) -> None:
    places_of_torchvision(root, "data_large_standard", "val_large")


def places_small_of_torchvision(root: Folder) -> None:
    places_of_torchvision(root, "data_256", "val_256")


def celeba(root: Folder, images: str = "img_align_celeba", partition: str = "list_eval_partition.txt") -> None:
    names = [f"{i:06}.jpg" for i in range(1, 9)]
    for name in names:
        root.add(f"{images}/{name}", FACE)
    parts = dict(zip(names, "00000122", strict=True))
    if partition.endswith(".csv"):
        root.write(partition, ["image_id,partition", *(f"{name},{part}" for name, part in parts.items())])
    else:
        root.write(partition, [f"{name} {part}" for name, part in parts.items()])


def celeba_from_kaggle(root: Folder) -> None:
    celeba(root, "img_align_celeba/img_align_celeba", "list_eval_partition.csv")
    root.write("list_attr_celeba.csv", ["image_id,Smiling"])


def celeba_from_google_drive(root: Folder) -> None:
    celeba(root, "Img/img_align_celeba", "Eval/list_eval_partition.txt")


def celeba_mask_hq(root: Folder) -> None:
    for i in range(204):
        root.add(f"CelebA-HQ-img/{i}.jpg")
    for part in ("hair", "nose"):
        root.add(f"CelebA-HQ-mask-anno/0/00000_{part}.png", PNG)
    root.write("CelebA-HQ-to-CelebA-mapping.txt", ["idx orig_idx orig_file", "0 119613 119614.jpg"])


def celeba_hq_256(root: Folder) -> None:
    for i in range(204):
        root.add(f"celeba_hq_256/{i:05}.jpg")


def celeba_hq_flat(root: Folder) -> None:
    for i in range(204):
        root.add(f"img{i:08}.png", PNG)


def imagenet(root: Folder, folders: bool = False) -> None:
    for i in range(24):
        wnid = ("n01440764", "n02105855")[i % 2]
        # ImageNet's training set has a PNG and some CMYK images with the suffix .JPEG.
        root.add(f"train/{wnid}/{wnid}_{i}.JPEG", {1: PNG, 2: CMYK, 3: GREY}.get(i, JPEG))
    for i in range(1, 6):
        root.add(f"val/{'n01440764/' if folders else ''}ILSVRC2012_val_{i:08}.JPEG")


def imagenet_in_folders(root: Folder) -> None:
    imagenet(root, folders=True)


def dtd(root: Folder) -> None:
    for texture in ("banded", "waffled"):
        for i in range(6):
            root.add(f"images/{texture}/{texture}_{i:04}.jpg")
    root.write("images/waffled/.directory", ["[Dolphin]"])  # as in the archive
    for number in (1, 2):
        for k, split in enumerate(("train", "val", "test")):
            chosen = [f"{t}/{t}_{(2 * k + i + number) % 6:04}.jpg" for t in ("banded", "waffled") for i in range(2)]
            root.write(f"labels/{split}{number}.txt", chosen)
    root.write("labels/labels_joint_anno.txt", ["banded/banded_0000.jpg banded"])


def bsds500(root: Folder) -> None:
    for split, numbers in {
        "train": (2092, 8049, 8143),
        "val": (3096, 8023, 12084, 14037),
        "test": (2018, 3063),
    }.items():
        for number in numbers:
            root.add(f"data/images/{split}/{number}.jpg")
        root.write(f"data/images/{split}/Thumbs.db", ["as in the archive"])
        root.write(f"data/groundTruth/{split}/{numbers[0]}.mat", ["MATLAB"])


def folder(root: Folder) -> None:
    names = ["a b.jpg", "täglich/Ü.JPEG", "täglich/日本.Png", "line\nbreak.jpg", "x.y/z.webp", "[1].jpg", "%s'\".bmp"]
    kinds = {".Png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
    for name in names:
        root.add(name, encode_image(kinds.get(Path(name).suffix, "JPEG")))
    for name in (".hidden.jpg", "._a b.jpg", ".cache/1.jpg", "täglich/.Ü.jpg"):
        root.write(name, ["no image"])
    (root.root / "linked.jpg").symlink_to("a b.jpg")


LAYOUTS: list[tuple[str, Callable[[Folder], None], tuple[int, int, int], int]] = [
    ("paris_streetview", paris_streetview, (3, 100, 3), 0),
    ("paris_streetview", context_encoders_paris, (3, 100, 3), 0),
    ("places", places_easy, (30, 20, 20), 14),
    ("places", places_of_torchvision, (30, 20, 20), 14),
    ("places", places_large_of_torchvision, (30, 20, 20), 14),
    ("places365", places_easy, (16, 20, 48), 0),
    ("places365", places_small_of_torchvision, (16, 20, 48), 0),
    ("celeba", celeba, (5, 1, 2), 0),
    ("celeba", celeba_from_kaggle, (5, 1, 2), 0),
    ("celeba", celeba_from_google_drive, (5, 1, 2), 0),
    ("celeba_hq", celeba_mask_hq, (4, 100, 100), 2),
    ("celeba_hq", celeba_hq_256, (4, 100, 100), 0),
    ("celeba_hq", celeba_hq_flat, (4, 100, 100), 0),
    ("imagenet", imagenet, (4, 20, 5), 0),
    ("imagenet", imagenet_in_folders, (4, 20, 5), 0),
    ("dtd", dtd, (4, 4, 4), 0),
    ("bsds500", bsds500, (3, 4, 2), 0),
    ("bsds500_dev", bsds500, (3, 2, 2), 2),
    ("folder", folder, (6, 1, 1), 0),
]
"""Dataset, function that writes its files, number of images per split, and number of images in no split."""

FEWER = {name: ["data.split.validation_count=20"] for name in ("places365", "imagenet")}  # instead of 1,000


@pytest.fixture
def config() -> Iterator[Callable]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda name, *overrides: compose(name, ["scale=smoke", "workers=0", *overrides])


@pytest.mark.parametrize(("name", "fill", "counts", "others"), LAYOUTS, ids=lambda x: getattr(x, "__name__", None))
def test_downloaded_layout_is_prepared_and_trained_on(config, tmp_path, name, fill, counts, others):
    fill(Folder(tmp_path))
    prepared = prepare(config("prepare", f"data={name}", f"data.root={tmp_path}", *FEWER.get(name, [])))
    assert prepared.corrupt.empty
    assert prepared.files_read == sum(counts)
    assert int(prepared.images["split"].isna().sum()) == others

    manifest = Manifest.read(tmp_path / f"{name}.manifest.parquet")
    names = {split: manifest.names(split) for split in ("train", "validation", "test")}
    assert tuple(map(len, names.values())) == counts
    assert len({n for of_split in names.values() for n in of_split}) == sum(counts)

    cfg = config("train", f"data={name}", f"data.root={tmp_path}", *FEWER.get(name, []))
    data = instantiate(cfg.data.datamodule).with_masks(generator=Rectangles(), hole_ratio=(0.1, 0.4))
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 64, 64)
    assert {str(Path(path).relative_to(tmp_path)) for path in batch["path"]} <= set(names["train"])
    cfg.data.manifest = None
    without = instantiate(cfg.data.datamodule)
    for split in names:
        assert data.files.paths(split) == without.files.paths(split)


def test_manifest_records_mode_format_and_size(config, tmp_path):
    imagenet(Folder(tmp_path))
    table = prepare(config("prepare", "data=imagenet", f"data.root={tmp_path}", *FEWER["imagenet"])).images
    assert table["mode"].value_counts().to_dict() == {"RGB": 27, "CMYK": 1, "L": 1}
    assert table["format"].value_counts().to_dict() == {"JPEG": 28, "PNG": 1}
    assert set(table["width"]) == {20}
    assert set(table["height"]) == {15}
    assert table["sha256"].nunique() == len(table)
