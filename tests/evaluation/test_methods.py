"""Several methods in one evaluation, images of other programs, and inputs exported for them."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from src.checkpoints.methods import find_methods
from src.common.errors import InputError
from src.evaluation.comparison import write_comparison
from src.evaluation.exported_inputs import export_inputs
from src.evaluation.methods import compares_methods, evaluate_methods
from src.evaluation.records import read_records


@pytest.fixture
def evaluation(composed, tmp_path):
    """Compose an evaluation of several methods on a small test."""

    def compose_test(*overrides, output="compared"):
        small = ["scale=smoke", "scale.test_batches=1.0", "test_size=[32,48]", "bank_masks_per_bin=1"]
        return composed(*small, f"output_dir={tmp_path / output}", *overrides, config="evaluate")

    return compose_test


def fill_with_opencv(inputs: Path, output: Path) -> None:
    """Fill exported inputs without any code of this suite."""
    output.mkdir()
    for path in (inputs / "holes").glob("*.png"):
        mask = cv2.imread(str(inputs / "masks" / path.name), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(output / path.name), cv2.inpaint(cv2.imread(str(path)), mask, 3, cv2.INPAINT_TELEA))


def test_inputs_that_opencv_fills_score_as_our_telea_bit_for_bit_and_finished_methods_are_kept(
    evaluation, tmp_path, capsys
):
    inputs, filled = export_inputs(evaluation(f"export_inputs={tmp_path / 'inputs'}")), tmp_path / "filled"
    fill_with_opencv(inputs, filled)
    options = ["methods=[telea,mean_colour]", f"results={{opencv: {filled}}}"]
    scored = evaluate_methods(evaluation(*options))
    frames = {path.parent.name: read_records(path) for path in scored.records}
    assert list(frames) == ["telea", "mean_colour", "opencv"]
    ours, theirs = (frames[name][0].drop(columns="method") for name in ("telea", "opencv"))
    assert len(ours) == len(list(filled.iterdir())) == 6
    assert ours.equals(theirs)
    assert frames["opencv"][1].results.composites == 6

    before = {path: path.read_bytes() for path in scored.records}
    image = next(filled.iterdir())
    pixels = np.array(Image.open(image))
    Image.fromarray(255 - pixels).save(image)
    capsys.readouterr()
    cfg = evaluation(*options, "batch_size=3", "pictures=1")
    again = evaluate_methods(cfg)
    said = capsys.readouterr().out
    assert "telea: kept" in said
    assert "mean_colour: kept" in said
    assert "opencv: scoring again, as its images have changed" in said
    changed = {path.parent.name for path in again.records if path.read_bytes() != before[path]}
    assert changed == {"opencv"}
    facts = read_records(again.records[2])[1].results
    assert (facts.composites, facts.files) == (5, 6)
    records = read_records(again.records[2])[0]
    worse = records["raw_psnr"] < records["composite_psnr"] - 1
    assert worse.sum() == 1  # the raw output is scored as it is, its composite with the known pixels pasted back

    board = write_comparison(cfg, again)
    assert {row.method for row in board.table.groups[0].rows} == set(frames)
    page = (tmp_path / "compared" / "report.html").read_text()
    assert "5 composites, whose known pixels equal the input" in page
    assert page.count("data:image/png") == 5
    evaluate_methods(evaluation(*options, "seed=1"))
    assert "telea: scoring again, as the masks have changed" in capsys.readouterr().out


def test_exported_files_hold_crops_and_masks_in_several_layouts(evaluation, tmp_path):
    cfg = evaluation(f"export_inputs={tmp_path / 'inputs'}", "data.masks_per_bin=1")
    root = export_inputs(cfg, ["data=folder"])
    names = sorted(path.stem for path in (root / "images").iterdir())
    assert names == [f"{names[0][:-2]}_{number}" for number in range(1, 7)]
    for name in names:
        files = [root / layout / f"{name}.png" for layout in ("images", "holes", "masks", "masks_inverted", "lama")]
        image, hole, mask, inverted, lama = (np.array(Image.open(file)) for file in files)
        assert image.shape == (32, 48, 3)
        assert np.array_equal(image, lama)
        assert np.array_equal(mask, 255 - inverted)
        assert np.array_equal(mask, np.array(Image.open(root / "lama" / f"{name}_mask001.png")))
        assert np.array_equal(hole, np.where(mask[:, :, None] == 255, 0, image))
    assert "'results={name: directory/}' data=folder" in (root / "README.md").read_text()
    export_inputs(evaluation(f"export_inputs={root}"))  # again
    with pytest.raises(InputError, match="neither empty nor an earlier export of this test"):
        export_inputs(evaluation(f"export_inputs={root}", "seed=1"))
    with pytest.raises(InputError, match="scores nothing: leave out methods"):
        export_inputs(evaluation(f"export_inputs={root}", "methods=[telea]"))


def test_results_that_do_not_fit_are_named(evaluation, tmp_path):
    inputs = export_inputs(evaluation(f"export_inputs={tmp_path / 'inputs'}"))
    results = tmp_path / "results"
    (results / "deep").mkdir(parents=True)
    names = sorted(path.stem for path in (inputs / "images").iterdir())
    for name in names[1:]:  # as LaMa names its results, in a single subdirectory
        Image.open(inputs / "images" / f"{name}.png").save(results / "deep" / f"{name}_mask001.webp", lossless=True)
    cfg = evaluation(f"results={{lama: {results}}}")
    with pytest.raises(InputError, match=rf"results\.lama=.* lacks the results of {names[0]}, 1 of the 6 samples"):
        evaluate_methods(cfg)
    Image.new("RGB", (31, 48)).save(results / "deep" / f"{names[0]}.jpg")
    with pytest.raises(
        InputError, match=rf"1 of 6 files can't be scored, as crops are 48x32 px .*{names[0]}\.jpg is 31x48"
    ):
        evaluate_methods(evaluation(f"results={{lama: {results}}}"))
    shutil.copy(inputs / "images" / f"{names[0]}.png", results / "deep")
    with pytest.raises(InputError, match=rf"several files for one sample: .*{names[0]}\.jpg"):
        evaluate_methods(evaluation(f"results={{lama: {results}}}"))
    (results / "deep" / f"{names[0]}.jpg").unlink()
    scored = evaluate_methods(evaluation(f"results={{lama: {results}}}"))
    records, made = read_records(scored.records[0])
    assert (records["raw_psnr"] == 100).all()
    assert made.results.composites == 6


def test_one_parser_reads_methods_for_all_commands(untrained, evaluation):
    lbam = str(untrained / "demo" / "lbam")
    found = find_methods(methods=["telea", "pconv"], ckpt={"ours": lbam}, weights="small")
    assert [method.name for method in found] == ["telea", "pconv", "ours"]
    assert [method.checkpoint is None for method in found] == [True, False, False]
    for arguments, message in [
        ({"methods": ["telea"], "ckpt": {"telea": lbam}}, "several methods have the name telea: name them"),
        ({"methods": None, "ckpt": {"a/b": lbam}}, "ckpt: the name 'a/b' can't name a directory"),
        ({"methods": ["telea"], "ckpt": None, "model": "telea"}, r"both name methods: add telea to methods="),
        ({"methods": ["pconv"], "ckpt": lbam}, r"methods=\[\.\.\.\]:pconv is not a classical method"),
    ]:
        with pytest.raises(InputError, match=message):
            find_methods(**{"weights": None, **arguments})
    assert not compares_methods(evaluation("ckpt=a.ckpt"))
    assert compares_methods(evaluation("ckpt={ours: a.ckpt}"))
    with pytest.raises(InputError, match=r"add it to methods=\[telea,\.\.\.\]"):
        evaluate_methods(evaluation("model=telea", "methods=[mean_colour]"))
