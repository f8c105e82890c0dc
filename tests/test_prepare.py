from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from rich.console import Console

from src.common.errors import InputError
from src.data.manifest import Manifest
from src.data.summary import corrupt_table, splits_table
from src.masks.bank import MaskBank
from src.masks.rectangles import Rectangles
from src.prepare import main, prepare

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path) -> Path:
    for i in range(10):
        path = tmp_path / "root" / "a folder" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), (i, 90, 30)).save(path)
    return tmp_path / "root"


@pytest.fixture
def composed(root):
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        yield lambda *overrides, config="prepare": compose(
            config, ["data=folder", f"data.root={root}", "scale=smoke", "workers=0", *overrides]
        )


def printed(table) -> str:
    with (console := Console(width=120)).capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("key", ["corrupt", "moved", "verify"])
def test_rejects_unknown_choices(composed, key):
    with pytest.raises(InputError, match=f"{key} must be .* or .*, got 'perhaps'"):
        prepare(composed(f"{key}=perhaps"))


def test_rejects_negative_workers(composed):
    with pytest.raises(InputError, match="workers must be an integer >= 0, got -1"):
        prepare(composed("workers=-1"))


def test_built_in_photos_are_checked_without_a_manifest(composed):
    prepared = prepare(composed("data=photos", "data.root={_target_:src.data.splits.built_in_photos_folder}"))
    assert prepared.manifest_path is None
    assert prepared.origin is None
    assert prepared.corrupt.empty
    assert prepared.images["split"].value_counts().to_dict() == {"train": 6, "test": 2, "validation": 1}


def test_trainer_checks_only_the_splits_it_needs(composed, root):
    prepare(composed())
    bank = MaskBank.draw(Rectangles(), (64, 64), per_bin=1, seed=0, bins=((0.0, 0.2),))
    cfg = composed(config="evaluate")
    found = instantiate(cfg.data.datamodule).with_masks(test_bank=bank)
    names = {split: found.files.paths(split)[0] for split in ("train", "test")}
    assert found.provenance("test")["sha256_of_manifest"] == Manifest.read(found.files.manifest_path).origin.sha256
    names["test"].unlink()
    with pytest.raises(InputError, match=f"a folder/{names['test'].name} is missing; restore"):
        found.prepare_data()
    cfg.data.verify = "none"
    instantiate(cfg.data.datamodule).with_masks(test_bank=bank).prepare_data()


def test_tables_escape_and_count_names(composed, root):
    (root / "line\nbreak [red].png").write_bytes(b"")
    prepared = prepare(composed("corrupt=skip"))
    text = printed(corrupt_table(prepared.corrupt))
    assert r"line\nbreak [red].png" in text
    assert "is empty" in text
    counts = [line.split("│")[1:4] for line in printed(splits_table(prepared.images, "x")).splitlines() if "│" in line]
    assert sum(int(count) for _, count, _ in counts) == 10
    assert sum(int(count) for _, _, count in counts) == 1


def test_command_lists_corrupt_images_and_exits_with_an_error(composed, root, capsys):
    (root / "broken.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as ended:
        main(composed())
    assert "broken.png" in capsys.readouterr().out
    assert ended.value.code == (
        "error: 1 of 11 files of data=folder are corrupt, so no manifest was written: replace the files listed above, "
        "or set corrupt=skip to leave them out of the splits"
    )
    assert not (root / "folder.manifest.parquet").exists()
    main(composed("corrupt=skip"))
    printed_text = capsys.readouterr().out
    assert "broken.png" in printed_text
    assert "read 11 of 11 files" in printed_text
    assert "1 corrupt images were left out of the splits" in printed_text
    manifest = Manifest.read(root / "folder.manifest.parquet")
    assert f"SHA-256: {manifest.origin.sha256}" in printed_text
    assert sum(len(manifest.names(split)) for split in ("train", "validation", "test")) == 10


def test_command_reports_unused_enlarged_and_duplicate_images(composed, root, capsys):
    train = prepare(composed("data.manifest=null")).images["path"][2]
    (root / "a folder" / "10.png").write_bytes((root / train).read_bytes())
    main(composed("+data.split.pictures=[a*/?.png,a*/*]", "data.manifest=null"))
    printed_text = capsys.readouterr().out
    assert "1 images belong to no split" in printed_text
    assert "10 images are smaller than their crop and will be enlarged" in printed_text
    assert "no manifest was written, as data.manifest=null" in printed_text
    (root / "a folder" / "11.png").write_bytes((root / train).read_bytes())
    (root / "a folder" / "12.png").write_bytes((root / train).read_bytes())
    main(composed("data.split.test=0.4", "data.split.validation=0.4", "data.manifest=null"))
    assert "1 images have an identical copy in another split:\n  a folder/" in capsys.readouterr().out
