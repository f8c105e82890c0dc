"""Evaluation on a mask bank, with provenance, the same for every method."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from src.common.errors import InputError
from src.common.pretrained import MissingWeightsError
from src.evaluation.records import read_records, read_set_scores
from src.evaluation.scoring import evaluate, scores_table
from src.masks.bank import MaskBank
from src.masks.hole_ratios import BINS
from src.metrics.scores import LPIPS, Score
from src.training.run import train


@pytest.fixture
def run(composed, tmp_path):
    """Evaluate with a small bank, into a separate directory."""

    def run(*overrides, output="evaluated"):
        settings = ["bank_masks_per_bin=2", f"output_dir={tmp_path / output}"]
        return evaluate(composed(*settings, *overrides, config="evaluate"))

    return run


def test_every_image_has_a_mask_of_every_bin_and_records_have_provenance(run, tmp_path):
    records, provenance = read_records(run("model=mean_colour", "scale=smoke", "scale.test_batches=1.0"))
    assert sorted(records["bin"].unique()) == [f"({low:g},{high:g}]" for low, high in BINS]
    assert records.groupby("path")["bin"].nunique().eq(len(BINS)).all()
    bank = MaskBank.load(tmp_path / "evaluated" / "bank.npz")
    assert provenance.mask_bank_hash == bank.hash
    assert provenance.config["model"] == {
        "name": "mean_colour", "network": {"_target_": "src.networks.classical.MeanColour"},
    }  # fmt: skip
    assert provenance.data["name"] == "folder"
    for low, high in BINS:
        ratios = records.loc[records["bin"] == f"({low:g},{high:g}]", "hole_ratio"]
        assert ((ratios > low) & (ratios <= high)).all()


@pytest.mark.parametrize("model", ["edge_lbam_release", "contextual_attention_release"])
def test_scores_initial_weights_of_models_with_interpolations(run, model):
    """Canny's settings are in model.edges, the attention's downscaling in the scale."""
    records, provenance = read_records(run(f"model={model}", "scale=smoke"))
    assert set(records["method"]) == {f"{model} (untrained)"}
    assert "${" not in str(provenance.config["model"])


def test_composites_score_at_least_as_well_as_raw_outputs(run):
    records, _ = read_records(run("model=telea", "scale=smoke"))
    assert (records["composite_psnr"] >= records["raw_psnr"] - 1e-3).all()
    assert np.allclose(records["composite_l1_relative_known_percent"], 0)


def test_checkpoint_is_scored_at_its_own_scale_on_the_same_bank_as_other_methods(run, composed, tmp_path):
    train(composed("model=pconv"))
    trained = run(f"ckpt={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}")
    records, provenance = read_records(trained)
    assert set(records["method"]) == {"pconv"}
    assert provenance.config["scale"]["name"] == "smoke"
    assert provenance.checkpoint is not None
    others = [run(f"model={m}", "scale=smoke", "scale.test_batches=1.0", output=m) for m in ("lbam", "telea")]
    table = scores_table([trained, *others], caption="three")
    assert [row.method for row in table.groups[0].rows] == ["pconv", "lbam (untrained)", "telea"]
    hashes = {read_records(path)[1].mask_bank_hash for path in (trained, *others)}
    assert len(hashes) == 1


def test_lpips_is_in_the_table_if_its_weights_are_available(run, tmp_path, monkeypatch):
    fake = Score(**asdict(LPIPS), function=lambda prediction, truth, _: (prediction - truth).square().mean((1, 2, 3)))
    monkeypatch.setattr("src.evaluation.frozen_test.DEEP_SCORES", {"lpips": lambda: fake})
    table = scores_table([run("model=mean_colour", "scale=smoke", "lpips=true")], caption="one")
    (lpips,) = (group for group in table.groups if group.metric.name == "lpips")
    assert lpips.metric.label == "LPIPS"
    assert all(mean > 0 for mean in lpips.rows[0].means)
    without = scores_table([run("model=mean_colour", "scale=smoke", output="without")], caption="one")
    assert not any("lpips" in group.metric.name for group in without.groups)
    assert any("LPIPS" in note and "turned off" in note for note in without.notes)


def test_further_scores_are_in_the_table_if_asked_for(run):
    path = run("model=telea", "scale=smoke", "extra_scores=[seam_percent,ssim_valid]")
    labels = [group.metric.label for group in scores_table([path], caption="one").groups]
    assert {"seam", "SSIM valid", "PSNR"} < set(labels)
    assert "colour shift" not in labels
    assert (read_records(path)[0]["composite_seam_percent"] >= 0).all()
    with pytest.raises(InputError, match=r"unknown score seams in extra_scores; available: ssim_zero_padded, .*dists"):
        run("model=telea", "scale=smoke", "extra_scores=[seams]", output="unknown")


def test_set_scores_are_in_the_records_or_absent_with_the_reason(run, monkeypatch):
    weights = torch.randn(3 * 64 * 64, 5, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        "src.evaluation.frozen_test.EXTRACTORS", {"random": lambda: lambda image: image.flatten(1) @ weights}
    )
    path = run("model=telea", "scale=smoke", "features=random", "scale.test_batches=1.0")
    found = read_set_scores(path)
    assert {"fid", "u_ids", "p_ids"} <= {one.name for one in found}
    assert {one.count for one in found if one.bin == "all"} == {len(read_records(path)[0])}
    assert not any("features" in column for column in read_records(path)[0])

    def missing():
        raise MissingWeightsError("no file")

    monkeypatch.setattr("src.evaluation.frozen_test.EXTRACTORS", {"random": missing})
    without = run("model=telea", "scale=smoke", "features=random", output="without")
    assert read_set_scores(without) == []
    assert any("P-IDS) is not shown: no file" in note for note in scores_table([without], caption="one").notes)
    with pytest.raises(InputError, match="unknown features other; available: random"):
        run("model=telea", "scale=smoke", "features=other", output="other")


def test_scores_do_not_depend_on_the_batch_size(run):
    whole = ["model=navier_stokes", "scale=smoke", "scale.test_batches=1.0"]
    one, many = (read_records(run(*whole, f"batch_size={n}", output=str(n)))[0] for n in (1, 4))
    assert one["path"].equals(many["path"])
    for column in one.filter(like="_"):
        if one[column].dtype.kind == "f":
            np.testing.assert_allclose(one[column], many[column], rtol=1e-5, atol=1e-5)


def test_samples_are_scored_by_their_mean_and_by_the_best(run):
    options = ["model=picnet", "scale=smoke", "scale.test_batches=1.0", "scale.width=0.03", "samples=2"]
    paths = [run(*options, f"batch_size={n}", output=str(n)) for n in (1, 4)]
    one, many = (read_records(path)[0] for path in paths)
    for column in (
        "composite_psnr",
        "raw_psnr",
        "composite_psnr_best",
        "raw_l1_percent_best",
    ):  # whatever the batch size
        np.testing.assert_allclose(one[column], many[column], rtol=1e-5, atol=1e-5)
    assert set(one["samples"]) == {2}
    assert (one["raw_psnr_best"] > one["raw_psnr"]).all()
    assert (one["raw_l1_percent_best"] < one["raw_l1_percent"]).all()
    table = scores_table(paths[:1], caption="samples")
    mean, best = table.groups[0].rows
    assert [row.method for row in (mean, best)] == [f"picnet (untrained), {n} of 2 samples" for n in ("mean", "best")]
    assert mean.means[-1] == pytest.approx(one["composite_psnr"].mean())
    assert best.means[-1] == pytest.approx(one["composite_psnr_best"].mean())
    assert any("the best of n samples" in note for note in table.notes)
    with pytest.raises(InputError, match="samples=2: mean_colour has one result for an image, as it is deterministic"):
        run("model=mean_colour", "scale=smoke", "samples=2", output="deterministic")


def test_scores_crops_that_are_not_square(run, tmp_path):
    size = ["scale=smoke", "test_size=[48,64]"]
    records, provenance = read_records(run("model=telea", *size))
    bank = MaskBank.load(tmp_path / "evaluated" / "bank.npz")
    assert bank.size == (48, 64)
    assert provenance.mask_bank_hash == bank.hash
    assert provenance.data["test_size"] == [48, 64]
    assert provenance.config["data"]["transforms"]["evaluation"]["image_size"] == [48, 64]
    assert records["composite_psnr"].between(5, 60).all()
    reused = run("model=mpga_gla", *size, f"bank={tmp_path / 'evaluated' / 'bank.npz'}", output="reused")
    assert read_records(reused)[1].mask_bank_hash == bank.hash


def test_centred_hole_has_one_bin_and_one_mask(run):
    records, _ = read_records(run("model=mean_colour", "scale=smoke", "mask=centre", "test_size=[33,64]"))
    assert set(records["bin"]) == {"(0.2,0.3]"}
    assert set(records["hole_ratio"]) == {16 * 32 / (33 * 64)}


def test_errors_name_the_key(run, tmp_path):
    with pytest.raises(InputError, match="exactly one of ckpt="):
        run("scale=smoke")
    with pytest.raises(InputError, match="exactly one of ckpt="):
        run("model=telea", f"ckpt={tmp_path / 'x.ckpt'}")
    with pytest.raises(InputError, match=r"no file at .*none\.npz"):
        run("model=telea", "scale=smoke", f"bank={tmp_path / 'none.npz'}")
    run("model=mean_colour", "scale=smoke")
    with pytest.raises(InputError, match=r"bank\.npz holds masks of .*draw another"):
        run("model=telea", "scale=smoke", "scale.image_size=32", f"bank={tmp_path / 'evaluated' / 'bank.npz'}")
    with pytest.raises(
        InputError, match=r"test_size must be an integer >= 1 or \[height, width\] in pixels, got \[64\]"
    ):
        run("model=telea", "scale=smoke", "test_size=[64]")
    flip = ["~data.transforms.evaluation", "+data.transforms.evaluation={_target_:albumentations.HorizontalFlip,p:0}"]
    with pytest.raises(InputError, match=r"data\.transforms\.evaluation has _target_, p: leave test_size= out"):
        run("model=telea", "scale=smoke", "test_size=64", *flip)
