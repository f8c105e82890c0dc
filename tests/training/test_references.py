"""Methods that validations are compared with: values by hand, computed once, no effect on training."""

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.classical import Biharmonic, MeanColour
from src.training.callbacks.references import ValidationReferences, choose_samples, reference_psnr
from src.training.run import train

EVERY_STEP = (
    "trainer.max_steps=2", "trainer.val_check_interval=1", "trainer.limit_val_batches=1.0",
    "callbacks.sample_images=null",
)  # fmt: skip


def rows(cfg):
    text = Path(cfg.output_dir, "csv", "metrics.csv").read_text()
    return [row for row in csv.DictReader(text.splitlines()) if row["val/psnr"]]


class Stop(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 1:
            raise KeyboardInterrupt


def test_chosen_samples_are_whole_images_evenly_spread():
    assert choose_samples(60, 6, 12) == {*range(6), *range(30, 36)}
    assert choose_samples(60, 6, 13) == {
        *range(6),
        *range(18, 24),
        *range(36, 42),
    }  # three images, not two and a fraction
    assert choose_samples(10, 6, 100) == set(range(10))  # fewer than requested, the last image cut short
    assert choose_samples(60, 6, None) == set(range(60))


def test_psnr_of_the_mean_colour_by_hand():
    # known pixels of 0.25; a hole of a quarter of the image that should be 0.75: a mean squared error of 0.25 / 4
    image, mask = torch.full((1, 3, 4, 4), 0.25), torch.ones(1, 1, 4, 4)
    image[..., :2, :2], mask[..., :2, :2] = 0.75, 0.0
    assert_close(reference_psnr(MeanColour(), image, mask), -10 * torch.log10(torch.tensor([0.0625])))


def test_run_logs_its_gain_over_each_reference(composed):
    cfg = composed("model=pconv", *EVERY_STEP)
    trainer = train(cfg)
    module, loader = trainer.lightning_module.eval(), trainer.val_dataloaders
    theirs, ours = {"biharmonic": Biharmonic(), "mean_colour": MeanColour()}, []
    for batch in loader:
        with torch.no_grad():
            module.score(batch, module(batch["image"], batch["mask"]))
        ours.append(module.sample_scores["psnr"])
    for name, method in theirs.items():
        scores = torch.cat([reference_psnr(method, batch["image"], batch["mask"]) for batch in loader])
        expected = (torch.cat(ours) - scores).mean().item()
        assert float(rows(cfg)[-1][f"val/psnr_over_{name}"]) == pytest.approx(expected, rel=1e-4)
    bins = [float(rows(cfg)[-1][f"val/psnr_over_biharmonic/{one}"]) for one in ("(0,0.1]", "(0.5,0.6]")]
    assert bins[0] != bins[1]


class Counted(MeanColour):
    """Mean colour that counts the images it fills."""

    filled = 0

    def inpaint(self, image, mask, edges):
        type(self).filled += len(image)
        return super().inpaint(image, mask, edges)


def counted(monkeypatch):
    monkeypatch.setattr(Counted, "filled", 0)
    return "callbacks.references.methods.mean_colour._target_=tests.training.test_references.Counted"


def test_references_are_computed_once_per_run_and_only_for_the_compared_samples(composed, monkeypatch):
    cfg = composed("model=pconv", *EVERY_STEP, counted(monkeypatch), "callbacks.references.samples=6")
    train(cfg)
    assert Counted.filled == 6


def test_only_validated_samples_are_computed(composed, monkeypatch):
    batches = ("trainer.limit_val_batches=1", "data.eval_batch_size=4")
    train(composed("model=pconv", *EVERY_STEP, counted(monkeypatch), *batches))
    assert Counted.filled == 4


def test_resumed_run_logs_the_same_gains(composed, train_with):
    overrides = ["model=pconv", *EVERY_STEP, "callbacks.references.samples=6", "resume=auto"]
    with pytest.raises(SystemExit):
        train_with(Stop(), composed(*overrides))
    cfg = composed(*overrides)
    train(cfg)
    resumed = rows(cfg)[-1]
    train(composed(*overrides, "resume=null"))
    assert rows(cfg)[-1] == resumed


def test_references_do_not_affect_training(composed, tmp_path):
    def trained(name, *overrides):
        cfg = composed("model=lbam", *EVERY_STEP, f"output_dir={tmp_path / name}", *overrides)
        return train(cfg).lightning_module.state_dict()

    with_them, without = trained("with"), trained("without", "callbacks.references=null")
    assert all(torch.equal(t, without[key]) for key, t in with_them.items())


def test_method_set_to_null_is_off(composed):
    cfg = composed("model=pconv", *EVERY_STEP, "callbacks.references.methods.biharmonic=null")
    train(cfg)
    assert "val/psnr_over_biharmonic" not in rows(cfg)[0]
    assert "val/psnr_over_mean_colour" in rows(cfg)[0]


@pytest.mark.parametrize("samples", [0, 1.5, "all"])
def test_samples_out_of_range_are_rejected(samples):
    with pytest.raises(InputError, match=r"callbacks\.references\.samples must be"):
        ValidationReferences({}, samples)
