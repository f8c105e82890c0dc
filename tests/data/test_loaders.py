import subprocess
import warnings
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from src.common.errors import InputError
from src.data import splits
from src.data.datamodule import InpaintingData
from src.data.dataset import InpaintingDataset, RandomMasks
from src.data.files import DatasetFiles
from src.data.loaders import EpochSampler, FixedSampler, SampleLoader
from src.data.options import CropOptions, LoaderOptions, MaskOptions
from src.data.transforms import apply_transform, random_resized_crop, resize_and_center_crop, resize_and_random_crop
from src.image_files.reading import read_image
from src.masks.bank import MaskBank
from src.masks.rectangles import Rectangles

SIZE = (16, 16)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(14):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


TRANSFORMS = {"train": random_resized_crop(SIZE), "evaluation": resize_and_center_crop(SIZE, 20)}
COUNTS = {"train": 1, "validation": 1, "test": 2}


def data(root: Path, crops=(), masks=(), **loader) -> InpaintingData:
    bank = MaskBank.draw(Rectangles(), SIZE, per_bin=4, seed=0, bins=((0.0, 0.2), (0.2, 0.5)))
    drawn = {"generator": Rectangles(), "hole_ratio": (0.1, 0.4), "validation_bank": bank, "test_bank": bank}
    return InpaintingData(
        DatasetFiles("test", root, splits.by_shares, "images", "here"),
        CropOptions(**{"transforms": TRANSFORMS, "samples_per_image": COUNTS, "seed": 5, **dict(crops)}),
        MaskOptions(**{**drawn, **dict(masks)}),
        LoaderOptions(**{"batch_size": 3, "eval_batch_size": 4, **loader}),
    )


def dataset_of_length(count: int) -> InpaintingDataset:
    return InpaintingDataset(["x"] * count, random_resized_crop(SIZE), RandomMasks(Rectangles(), (0, 1)), seed=0)


def on_each_rank(monkeypatch, world_size: int, keys) -> list[list]:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world_size)
    keys_by_rank = []
    for rank in range(world_size):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        keys_by_rank.append(keys())
    return keys_by_rank


def test_each_epoch_visits_every_sample_once_in_another_order():
    sampler = EpochSampler(dataset_of_length(20), seed=0)
    first = list(sampler)
    assert sorted(first) == [(0, i) for i in range(20)]
    assert first == list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(second) == [(1, i) for i in range(20)]
    assert [i for _, i in first] != [i for _, i in second] != list(range(20))


@pytest.mark.parametrize("count", [20, 21, 1])
def test_processes_divide_an_epoch(monkeypatch, count):
    sampler = EpochSampler(dataset_of_length(count), seed=3)
    alone = list(sampler)
    keys_by_rank = on_each_rank(monkeypatch, 2, lambda: [*sampler, len(sampler)])
    lengths = [keys.pop() for keys in keys_by_rank]
    assert lengths == [len(keys) for keys in keys_by_rank] == [(count + 1) // 2] * 2
    together = [key for pair in zip(*keys_by_rank, strict=True) for key in pair]
    assert together[:count] == alone
    assert together[count:] == alone[: len(together) - count]


@pytest.mark.parametrize("count", [20, 21, 1])
def test_processes_evaluate_every_sample_once(monkeypatch, count):
    sampler = FixedSampler(dataset_of_length(count))
    sampler.set_epoch(4)  # as Lightning does; evaluation does not change
    assert list(sampler) == [(0, i) for i in range(count)]
    keys_by_rank = on_each_rank(monkeypatch, 2, lambda: [*sampler, len(sampler)])
    assert [keys.pop() for keys in keys_by_rank] == [len(keys) for keys in keys_by_rank]
    assert sorted(keys_by_rank[0] + keys_by_rank[1]) == [(0, i) for i in range(count)]


def batches_of(loader, epoch: int) -> list:
    loader.sampler.set_epoch(epoch)
    return [{name: torch.as_tensor(b[name]) for name in ("image", "mask", "index")} for b in loader]


def equal(one, other) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a
    )


def test_number_of_workers_does_not_change_batches(root):
    alone, with_workers = data(root).train_dataloader(), data(root, workers=2, cache_mib=1).train_dataloader()
    for epoch in (0, 3):
        assert equal(batches_of(alone, epoch), batches_of(with_workers, epoch))
    assert not equal(batches_of(alone, 0), batches_of(alone, 1))


def same_batches(one, other) -> bool:
    def same(a, b) -> bool:
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    return all(
        a.keys() == b.keys() and all(same(a[name], b[name]) for name in a) for a, b in zip(one, other, strict=True)
    )


def test_evaluated_images_are_decoded_in_full(tmp_path):
    for i in range(10):
        y, x = np.mgrid[:80, :120]
        pixels = np.stack([128 + 100 * np.sin((x * (c + 1) + y * i) / 9) for c in range(3)], -1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    transforms = {"train": resize_and_random_crop(SIZE, 20), "evaluation": resize_and_center_crop(SIZE, 20)}
    loaders = {
        on: data(tmp_path, {"reduced_decode": on, "transforms": transforms}, batch_size=1) for on in (False, True)
    }
    for name, same in (("val_dataloader", True), ("test_dataloader", True), ("train_dataloader", False)):
        batches = [list(getattr(module, name)()) for module in loaders.values()]
        assert same_batches(*batches) == same, name
    shown = [next(module.images("test", 1))[1] for module in loaders.values()]
    assert torch.equal(*shown)
    (path,) = next(iter(loaders[True].test_dataloader()))["path"][:1]
    by_hand = apply_transform(resize_and_center_crop(SIZE, 20), read_image(Path(path)), np.random.SeedSequence(0))
    assert np.array_equal(shown[0][0].mul(255).round().byte().permute(1, 2, 0).numpy(), by_hand)


def test_loaders_cover_their_split(root):
    module = data(root)
    train = module.train_dataloader()
    assert len(train) == 4  # 12 of 14 images
    tested = [path for batch in module.test_dataloader() for path in batch["path"]]
    assert tested == [str(module.files.paths("test")[0])] * 4  # 2 crops x 2 bins
    assert len([path for batch in module.val_dataloader() for path in batch["path"]]) == 2
    assert module.provenance("test")["samples_per_image"] == 2
    assert not train.pin_memory or torch.cuda.is_available()


def test_evaluation_does_not_depend_on_the_training_seed(root):
    transforms = dict.fromkeys(("train", "evaluation"), random_resized_crop(SIZE))
    one, other = (data(root, {"seed": seed, "transforms": transforms}) for seed in (1, 2))
    assert all(
        torch.equal(a["image"], b["image"]) and torch.equal(a["mask"], b["mask"])
        for a, b in zip(one.test_dataloader(), other.test_dataloader(), strict=True)
    )
    assert not equal(batches_of(one.train_dataloader(), 0), batches_of(other.train_dataloader(), 0))


def test_too_few_images_for_a_batch_is_an_error(root):
    with pytest.raises(InputError, match=r"data=test has 12 training samples per process, fewer than batch_size=13: "):
        data(root, batch_size=13).train_dataloader()
    more = {"train": 2, "validation": 1, "test": 1}
    assert len(data(root, {"samples_per_image": more}, batch_size=13).train_dataloader()) == 1


def test_missing_generator_or_bank_is_an_error(root):
    with pytest.raises(ValueError, match=r"training needs a mask generator: with_masks\(generator="):
        data(root, masks={"generator": None}).train_dataloader()
    with pytest.raises(ValueError, match=r"test needs a mask bank: with_masks\(test_bank="):
        data(root, masks={"test_bank": None}).test_dataloader()


@pytest.mark.parametrize("workers", [0, 1])
def test_corrupt_file_ends_the_epoch_with_one_line(root, tmp_path, workers):
    for path in root.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    module = data(tmp_path, workers=workers)
    corrupt = module.files.paths("train")[4]
    corrupt.write_bytes(corrupt.read_bytes()[:300])
    with pytest.raises(InputError, match=rf"^{corrupt}: is corrupt or truncated.*$") as error:
        list(module.train_dataloader())
    assert "\n" not in str(error.value)


class Recorder(lightning.LightningModule):
    """Records the batches it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(
            (self.current_epoch, batch["index"].tolist(), float(batch["image"].sum() + batch["mask"].sum()))
        )
        return self.weight**2

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(root, folder, workers=0, callbacks=(), ckpt_path=None, **options) -> Recorder:
    module = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, callbacks=list(callbacks), enable_checkpointing=bool(callbacks),
        **{"max_epochs": 2, **options},
    )  # fmt: skip
    trainer.fit(module, datamodule=data(root, workers=workers), ckpt_path=ckpt_path, weights_only=True)
    return module


class SaveAfterValidation(ModelCheckpoint):
    """Has another state key than a ModelCheckpoint, so a run may have both."""


@pytest.fixture(scope="module")
def full_run(root, tmp_path_factory):
    """The batches of a run of two epochs with four steps each, and the directory of its checkpoints, by kind."""
    folder = tmp_path_factory.mktemp("full_run")
    options = {"filename": "{step}", "save_top_k": -1}
    saves = [
        ModelCheckpoint(folder / "mid_epoch", every_n_train_steps=1, **options),
        ModelCheckpoint(folder / "epoch_end", every_n_epochs=1, save_on_train_epoch_end=True, **options),
        SaveAfterValidation(folder / "validation_end", every_n_epochs=1, save_on_train_epoch_end=False, **options),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*smaller than the logging interval")
        return fit(root, folder, callbacks=saves).seen, folder


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*smaller than the logging interval")
@pytest.mark.parametrize(
    ("kind", "step", "workers"),
    [("mid_epoch", 2, 0), ("mid_epoch", 7, 1), ("epoch_end", 4, 0), ("validation_end", 4, 0)],
)
def test_resumed_run_sees_the_same_batches(root, tmp_path, full_run, kind, step, workers):
    full, folder = full_run
    assert len(full) == 8
    resumed = fit(root, tmp_path, workers=workers, ckpt_path=folder / kind / f"step={step}.ckpt")
    assert resumed.seen == full[step:]


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*smaller than the logging interval")
def test_shortened_epoch_does_not_shift_the_next(root, tmp_path):
    save = ModelCheckpoint(tmp_path, filename="{epoch}-{step}", save_top_k=-1, every_n_epochs=1)
    full = fit(root, tmp_path, callbacks=[save], limit_train_batches=2).seen
    assert len(full) == 4
    checkpoint = next(tmp_path.glob("epoch=0*.ckpt"))
    assert fit(root, tmp_path, ckpt_path=checkpoint, limit_train_batches=2).seen == full[2:]


def test_workers_stop_only_on_sigterm_from_the_main_process(root):
    images = data(root, workers=1).train_dataloader().dataset
    loader = SampleLoader(images, workers=1, batch_size=1, sampler=FixedSampler(images))
    list(loader)
    (worker,) = loader._iterator._workers
    for name in ("TERM", "INT", "USR1", "USR2"):
        subprocess.run(["kill", "-s", name, str(worker.pid)], check=True)
    assert len(list(loader)) == len(images)
    worker.terminate()  # as Python does when it exits
    worker.join(timeout=60)
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        (CropOptions, {"samples_per_image": {**COUNTS, "test": 0}}, r"data\.samples_per_image\.test .* >= 1, got 0"),
        (CropOptions, {"transforms": {"train": TRANSFORMS["train"]}}, r"data\.transforms\.evaluation must be an albu"),
        (CropOptions, {"seed": -1}, r"data\.seed must be an integer >= 0, got -1"),
        (CropOptions, {"evaluation_seed": 0.5}, r"data\.evaluation_seed must be an integer >= 0, got 0\.5"),
        (CropOptions, {"reduced_decode": "yes"}, r"data\.reduced_decode must be true or false, got 'yes'"),
        (CropOptions, {"edges": True}, r"data\.edges must be null or a Canny .*, got True"),
        (MaskOptions, {"hole_ratio": (0.4, 0.4)}, r"mask\.hole_ratio must be \[low, high\] .*, got \[0\.4, 0\.4\]"),
        (MaskOptions, {"per_bin": 0}, r"data\.masks_per_bin must be an integer >= 1, got 0"),
        (MaskOptions, {"seed": -3}, r"data\.mask_seed must be an integer >= 0, got -3"),
        (LoaderOptions, {"batch_size": 0}, r"data\.batch_size must be an integer >= 1, got 0"),
        (LoaderOptions, {"eval_batch_size": True}, r"data\.eval_batch_size must be an integer >= 1, got True"),
        (LoaderOptions, {"workers": -1}, r"data\.workers must be an integer >= 0, got -1"),
        (LoaderOptions, {"cache_mib": None}, r"data\.cache_mib must be an integer >= 0, got None"),
    ],
)
def test_invalid_options_are_named(group, values, message):
    valid = {
        CropOptions: {"transforms": TRANSFORMS, "samples_per_image": COUNTS, "seed": 0},
        MaskOptions: {},
        LoaderOptions: {"batch_size": 1, "eval_batch_size": 1},
    }
    group(**valid[group])
    with pytest.raises(InputError, match=message):
        group(**{**valid[group], **values})
