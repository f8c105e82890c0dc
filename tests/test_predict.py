"""`python -m src.predict`: inputs, options, outputs and error messages."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import ExifTags, Image, ImageCms

from src.common.errors import InputError, report_input_errors
from src.networks.edge_lbam import EdgeLBAM
from src.networks.layers.canny import DEFAULT_CANNY
from src.predict import predict
from src.prediction import load

ROOT = Path(__file__).parents[1]


@pytest.fixture
def files(tmp_path):
    """A 70x50 image, and a mask of the same size with a white hole in the upper left quarter."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    hole = np.zeros((50, 70), np.uint8)
    hole[:25, :35] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    return tmp_path


def run(*overrides):
    with initialize_config_dir(str(ROOT / "conf" / "predict"), version_base="1.3"):
        return predict(compose("config", overrides=["device=cpu", *overrides]))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def overrides(files, **changes):
    settings = {
        "model": "mean_colour",
        "image": files / "photo.png",
        "mask": files / "mask.png",
        "output": files / "o.png",
    }
    return [f"{key}={value}" for key, value in (settings | changes).items()]


def test_the_hole_is_filled_and_known_pixels_stay_unchanged(files):
    assert run(*overrides(files)) == [files / "o.png"]
    before, after = pixels(files / "photo.png"), pixels(files / "o.png")
    hole = np.zeros((50, 70), bool)
    hole[:25, :35] = True
    assert (after[~hole] == before[~hole]).all()
    assert abs(after[hole] - before[~hole].mean(0)).max() <= 1  # the mean colour of what is known


def test_samples_have_numbered_files_and_depend_on_their_seed(files):
    config = {"_target_": "src.networks.picnet.PICNet", "width": 0.05, "levels": 3, "infer_blocks": 1}
    torch.manual_seed(0)
    weights = {f"network.{name}": tensor for name, tensor in instantiate(config).state_dict().items()}
    saved = {"state_dict": weights, "config": {"model": {"name": "picnet", "network": config}}, "global_step": 0}
    torch.save(saved, files / "picnet.ckpt")
    stochastic = {"model": "null", "ckpt": files / "picnet.ckpt"}
    assert run(*overrides(files, **stochastic, samples=2)) == [files / "o_1.png", files / "o_2.png"]
    first, second, before = (pixels(files / name) for name in ("o_1.png", "o_2.png", "photo.png"))
    assert (first[:25, :35] != second[:25, :35]).any()
    assert (first[25:] == before[25:]).all()
    run(*overrides(files, **stochastic, samples=1, seed=1, output=files / "next.png"))
    assert (pixels(files / "next_1.png") == second).all()
    for name in ("once", "twice"):  # without a seed the result is always the same
        run(*overrides(files, **stochastic, output=files / f"{name}.png"))
    assert (pixels(files / "once.png") == pixels(files / "twice.png")).all()
    with pytest.raises(InputError, match="samples=2: mean_colour has one result for an image, as it is deterministic"):
        run(*overrides(files, samples=2))


def test_hole_black_inverts_the_mask(files):
    run(*overrides(files, hole="black", output=files / "turned.png"))
    before, after = pixels(files / "photo.png"), pixels(files / "turned.png")
    assert (after[:25, :35] == before[:25, :35]).all()
    assert (after[25:] != before[25:]).any()


def test_a_warning_is_printed_for_a_mask_that_is_mostly_hole_or_empty(files, capsys):
    run(*overrides(files, hole="black"))
    assert "75.0% of" in (printed := capsys.readouterr().err)
    assert "if the mask is inverted, pass hole=white" in printed
    Image.new("L", (70, 50), 0).save(files / "mask.png")
    run(*overrides(files))
    assert "has no white pixels" in (printed := capsys.readouterr().err)
    assert "has no hole and stays unchanged" in printed
    Image.new("L", (70, 50), 255).save(files / "mask.png")
    run(*overrides(files))
    assert "100.0% of" in capsys.readouterr().err


def test_a_directory_keeps_file_names_and_matches_masks_by_name(files):
    images, masks = files / "in", files / "masks"
    for folder in (images, masks):
        folder.mkdir()
    for name in ("one", "two"):
        Image.open(files / "photo.png").convert("RGB").save(images / f"{name}.jpg")
        Image.open(files / "mask.png").save(masks / f"{name}_mask.png")
    written = run(*overrides(files, image=images, mask=masks, output=files / "out"))
    assert written == [files / "out" / "one.jpg", files / "out" / "two.jpg"]
    written = run(*overrides(files, image=images, mask=masks, output=files / "out", format="png"))
    assert written == [files / "out" / "one.png", files / "out" / "two.png"]


@pytest.fixture(scope="module")
def edge_lbam(tmp_path_factory):
    """A checkpoint of an untrained Edge-LBAM."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", ["model=edge_lbam", "scale=smoke", "output_dir=none"])
    config = OmegaConf.to_container(composed.model.network, resolve=True)
    torch.manual_seed(0)
    network = instantiate(config)
    state = {f"network.{name}": t for name, t in network.state_dict().items()}
    path = tmp_path_factory.mktemp("edge_lbam") / "e.ckpt"
    torch.save({"state_dict": state, "config": {"model": {"network": config}}, "global_step": 1}, path)
    return path


def test_edges_replace_predicted_edges_in_the_hole(files, edge_lbam, monkeypatch):
    drawn = np.zeros((50, 70), bool)
    drawn[:, 10:14] = True
    Image.fromarray(np.where(drawn, 255, 0).astype(np.uint8)).save(files / "white.png")
    drawn[40:, 60:] = True  # also outside the hole
    Image.fromarray(np.where(drawn, 0, 255).astype(np.uint8)).save(files / "black.png")
    seen, original = [], EdgeLBAM.forward

    def spied(self, image, mask, edges=None, **options):
        seen.append((image, mask, edges))
        return original(self, image, mask, edges, **options)

    monkeypatch.setattr(EdgeLBAM, "forward", spied)
    ours = {"model": "null", "ckpt": edge_lbam}
    for changes in ({}, {"edges": files / "white.png"}, {"edges": files / "black.png", "lines": "black"}):
        run(*overrides(files, **ours, **changes))
    (image, mask, own), (_, _, white), (_, _, black) = seen
    assert own is None
    hole = mask == 0
    assert torch.equal(white[hole], torch.from_numpy(drawn)[None, None].float()[hole])
    assert torch.equal(white[~hole], DEFAULT_CANNY.known_edges(image, mask)[~hole])
    assert torch.equal(white, black)


def test_figures_are_written(files, edge_lbam):
    run(*overrides(files, model="null", ckpt=edge_lbam, figures=files / "inside"))
    written = {path.name for path in (files / "inside").iterdir()}
    assert written == {f"photo_{name}.png" for name in ("attention_maps", "updated_masks", "features", "edges")}
    assert pixels(files / "inside" / "photo_edges.png").shape[0] > 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"figures": "{}"}, r"figures=.*photo_edges\.png would overwrite an input"),
        ({"figures": "{}/t", "output": "{}/t/photo_stages.png"}, r"figures=.*photo_stages\.png would overwrite a fill"),
        (
            {"figures": "{}/t", "sheet": "{}/t/photo_edges.png"},
            r"figures=.*photo_edges\.png would overwrite a comparison sheet",
        ),
        ({"sheet": "{}/t", "output": "{}/t"}, r"sheet=.*photo\.png would overwrite a filled image"),
        ({"sheet": "{}/o.png"}, r"sheet=.*o\.png would overwrite a filled image"),
    ],
)
def test_figures_and_sheets_overwrite_neither_inputs_nor_results(files, edge_lbam, changes, message):
    (files / "t").mkdir()
    Image.new("L", (70, 50)).save(files / "photo_edges.png")
    before = {path: path.read_bytes() for path in files.rglob("*.*")}
    options = {key: value.format(files) for key, value in changes.items()}
    with pytest.raises(InputError, match=message):
        run(*overrides(files, model="null", ckpt=edge_lbam, edges=files / "photo_edges.png", **options))
    assert {path: path.read_bytes() for path in files.rglob("*.*")} == before


def test_edges_of_another_size_are_an_error_and_mostly_lines_a_warning(files, edge_lbam, capsys):
    ours = {"model": "null", "ckpt": edge_lbam}
    Image.new("L", (7, 5), 255).save(files / "small.png")
    with pytest.raises(InputError, match=r"small\.png is 7x5 but .*photo\.png is 70x50"):
        run(*overrides(files, **ours, edges=files / "small.png"))
    Image.new("L", (70, 50), 255).save(files / "white.png")
    run(*overrides(files, **ours, edges=files / "white.png"))
    assert "if it is inverted, pass lines=black" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "{}/gone.png"}, r"image=.*gone\.png: no such file"),
        ({"output": "{}/photo.png"}, "would overwrite an input"),
        ({"output": "{}/o.gif"}, r"output=.*o\.gif: unknown suffix: use .*; end a directory's name with /"),
        ({"model": "null"}, "no method: pass ckpt=.*model="),
        ({"ckpt": "{}/gone.ckpt"}, r"gone\.ckpt"),
        ({"model": "lbam"}, "model=lbam is not a classical method \\(biharmonic, mean_colour"),
        ({"hole": "grey"}, "hole"),
        ({"device": "cuda"}, "device=cuda is unavailable"),
        ({"output": "/proc/none/o.png"}, "can't be written"),
        ({"edges": "{}/mask.png"}, r"edges=.*mask\.png: mean_colour takes no edges: omit edges=, or use edge_lbam"),
        ({"edges": "{}/gone.png"}, r"edges=.*gone\.png: no such file"),
        ({"mask": "{}/small.png"}, r"small\.png is 7x5 but .*photo\.png is 70x50"),
    ],
)
def test_error_messages_name_the_file_or_option(files, changes, message):
    Image.new("L", (7, 5), 255).save(files / "small.png")
    with pytest.raises(InputError, match=message):
        run(*overrides(files, **{key: value.format(files) for key, value in changes.items()}))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_names_the_image(files, monkeypatch, error):
    def too_large(*_, **__):
        raise error

    monkeypatch.setattr("src.networks.classical.MeanColour.forward", too_large)
    with pytest.raises(InputError, match=r"photo\.png: an image of 70x50 pixels .* does not fit into the memory"):
        run(*overrides(files))


def test_other_runtime_errors_are_raised_unchanged(files, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr("src.networks.classical.MeanColour.forward", broken)
    with pytest.raises(RuntimeError, match="something else"):
        run(*overrides(files))


def test_an_input_error_is_printed_without_a_traceback(commands, files):
    ended = commands("predict", *overrides(files, image=files / "gone.png"), cwd=files)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert ended.err.strip().splitlines()[-1].startswith("error: image=")


# Sizes


@pytest.mark.parametrize("size", ["whole", "tiled", "reduced"])
def test_every_size_option_keeps_known_pixels(files, size):
    smaller = [] if size == "whole" else ["size.side_px=40", *(["size.overlap_px=8"] if size == "tiled" else [])]
    model = "telea" if size == "reduced" else "mean_colour"
    run(*overrides(files, model=model, size=size), *smaller)
    run(*overrides(files, model=model, output=files / "whole.png"))
    before, after, whole = (pixels(files / name) for name in ("photo.png", "o.png", "whole.png"))
    hole = np.zeros((50, 70), bool)
    hole[:25, :35] = True
    assert (after[~hole] == before[~hole]).all()
    assert (after[hole] == whole[hole]).all() == (size == "whole")


def test_an_invalid_overlap_is_an_input_error(commands, files):
    ended = commands("predict", *overrides(files), "device=cpu", "size=tiled", "size.overlap_px=400", cwd=files)
    assert ended.code == 1
    assert ended.err.strip().startswith("error: ")
    assert "overlap_px must be between 0 and half of side_px=512, got 400" in ended.err


# Names and formats


def test_a_directory_keeps_names_formats_transparency_exif_and_profile(commands, files):
    """tests/image_files/test_source_pixels.py tests what each format preserves."""
    images = files / "in"
    images.mkdir()
    photo = Image.open(files / "photo.png")
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[ExifTags.Base.Make] = "Maker"
    transparent = photo.copy()
    transparent.putalpha(Image.fromarray(np.tile(np.arange(70, dtype=np.uint8), (50, 1))))
    photo.save(images / "a.JPG", quality=80, exif=exif, icc_profile=profile)
    transparent.save(images / "b.webp", lossless=True, exact=True, exif=exif, icc_profile=profile)
    transparent.save(images / "c.tif", exif=exif, icc_profile=profile)
    photo.convert("L").save(images / "d.bmp")
    options = overrides(files, image=images, one_mask_for_all=True, output="out", device="cpu")
    ended = commands("predict", *options, cwd=files)
    assert ended.code == 0, ended.err
    assert "wrote 4 images to out" in ended.out
    assert "JPEG is lossy, so known pixels change slightly; pass format=png to keep them exactly" in ended.out
    for before in sorted(images.iterdir()):
        read, written = Image.open(before), Image.open(files / "out" / before.name)
        read.load(), written.load()
        assert (written.format, written.mode, written.size) == (read.format, read.mode, read.size)
        if before.name != "d.bmp":
            assert written.getexif()[ExifTags.Base.Make] == "Maker"
            assert written.info["icc_profile"] == profile
        if before.name != "a.JPG":
            known = np.ones((50, 70), bool)
            known[:25, :35] = False
            assert np.array_equal(np.asarray(written)[known], np.asarray(read)[known])


def test_the_command_and_the_python_call_return_the_same(files, edge_lbam):
    photo, mask = Image.open(files / "photo.png"), Image.open(files / "mask.png")
    transparent = photo.copy()
    transparent.putalpha(120)
    transparent.getexif()[ExifTags.Base.Orientation] = 3
    transparent.save(files / "turned.png", exif=transparent.getexif())
    for name in ("photo.png", "turned.png"):
        run(*overrides(files, model="null", ckpt=edge_lbam, image=files / name))
        model = load(edge_lbam, device="cpu")
        assert np.array_equal(
            np.asarray(Image.open(files / "o.png")), np.asarray(model(Image.open(files / name), mask))
        )
    run(*overrides(files, model="null", ckpt=edge_lbam))
    filled = load(edge_lbam, device="cpu")(np.asarray(photo), np.asarray(mask) < 128)
    assert np.array_equal(np.asarray(Image.open(files / "o.png")), filled)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "gif"}, "format=gif: must be one of png, jpeg, webp, bmp, tiff, or null"),
        ({"format": "jpeg"}, r"output=.*o\.png and format=jpeg are different formats"),
        (
            {"image": "{}/photo.text", "output": "{}/out"},
            r"photo\.text: unknown suffix: use \.png, .*format=png",
        ),
        ({"sheet": "{}/s.jpg"}, r"sheet=.*s\.jpg: a comparison sheet must be a PNG file, or a directory"),
        ({"sheet": "{}/photo.png"}, r"sheet=.*photo\.png would overwrite an input"),
        (
            {"image": "{}/*.*", "mask": "{}/mask.png", "one_mask_for_all": "true"},
            r"o\.png is one file but there are 2 images",
        ),
        ({"model": "null", "methods": "[telea,mean_colour]"}, r"o\.png is one file but there are 2 methods"),
        ({"model": "null", "methods": "[telea,telea]"}, "telea is passed twice"),
    ],
)
def test_invalid_outputs_are_errors(files, changes, message):
    for name in ("photo.text", "photo2.png"):
        shutil.copy(files / "photo.png", files / name)
    with pytest.raises(InputError, match=message):
        run(*overrides(files, **{key: value.format(files) for key, value in changes.items()}))
    assert not (files / "o.png").exists()


@pytest.mark.parametrize("output", ["run1.0/", "run1.0", "run.png/"])
def test_a_directory_may_have_a_dot(files, output):
    assert run(*overrides(files, output=f"{files}/{output}")) == [files / output / "photo.png"]


def test_formats_that_are_only_read_are_written_as_png(files):
    Image.open(files / "photo.png").quantize(8).save(files / "photo.gif")
    assert run(*overrides(files, image=files / "photo.gif", output=files / "out")) == [files / "out" / "photo.png"]


def test_an_erased_hole_is_its_own_mask_and_becomes_opaque(files):
    erased = Image.open(files / "photo.png").convert("RGBA")
    erased.paste((0, 0, 0, 0), (5, 5, 20, 20))
    erased.save(files / "erased.png")
    run(*overrides(files, image=files / "erased.png", mask=files / "erased.png", hole="transparent"))
    written = np.asarray(Image.open(files / "o.png"))
    assert (written[..., 3] == 255).all()
    assert (written[..., :3] != np.asarray(erased)[..., :3]).any(-1).sum() == 15 * 15


def test_the_size_limit_is_an_option(files):
    with pytest.raises(InputError, match=r"photo\.png: is too large: .* raise max_megapixels"):
        run(*overrides(files, max_megapixels=0.001))
    assert run(*overrides(files, max_megapixels=0.0035))


def test_images_with_the_same_output_file_are_an_error(files):
    images = files / "in"
    (images / "more").mkdir(parents=True)
    for name in ("a.png", "a.bmp", "more/a.png"):
        Image.open(files / "photo.png").save(images / name)
    options = {"image": images, "one_mask_for_all": True, "output": files / "out"}
    written = run(*overrides(files, **options, figures=files / "inside", sheet=files / "sheets"))
    assert [path.name for path in written] == ["a.bmp", "a.png"]
    assert sorted(path.name for path in (files / "sheets").iterdir()) == ["a.bmp.png", "a.png.png"]
    with pytest.raises(InputError, match="would be written to the same file in"):
        run(*overrides(files, **options, format="png"))
    written = run(*overrides(files, **options | {"image": f"{images}/**/*.png"}))
    assert written == [files / "out" / "a.png", files / "out" / "more" / "a.png"]


def test_a_corrupt_image_is_skipped_and_listed_at_the_end(files, capsys):
    images = files / "in"
    images.mkdir()
    for name in "abc":
        shutil.copy(files / "photo.png", images / f"{name}.png")
    (images / "b.png").write_bytes((images / "b.png").read_bytes()[:1000])
    options = {"image": images, "one_mask_for_all": True, "output": files / "out", "sheet": files / "sheet.png"}
    with pytest.raises(SystemExit) as ended:
        report_input_errors(run)(*overrides(files, **options))
    assert ended.value.code == 3
    assert sorted(path.name for path in (files / "out").iterdir()) == ["a.png", "c.png"]
    assert (files / "sheet.png").exists()
    assert re.match(r"filled 2 of 3; skipped:\n  .*b\.png: is corrupt or truncated", capsys.readouterr().err)


def test_images_and_masks_may_share_a_directory(files):
    shared = files / "shared"
    shared.mkdir()
    for name in ("a", "b"):
        shutil.copy(files / "photo.png", shared / f"{name}.png")
        shutil.copy(files / "mask.png", shared / f"{name}_mask001.png")
    written = run(*overrides(files, image=shared, mask=shared, output=files / "out"))
    assert [path.name for path in written] == ["a.png", "b.png"]
    with pytest.raises(InputError, match=r"a\.png would overwrite an input"):
        run(*overrides(files, image=shared, mask=shared, output=shared))


# Several methods


def test_several_methods_write_subdirectories_and_a_sheet(files, edge_lbam):
    for name in ("e.ckpt", "f.ckpt"):
        shutil.copy(edge_lbam, files / name)
    drawn = np.zeros((50, 70), np.uint8)
    drawn[:, 10:14] = 255
    Image.fromarray(drawn).save(files / "edges.png")
    out, sheet = files / "out", files / "sheet.png"
    more = {"edges": files / "edges.png", "sheet": sheet, "output": out, "figures": files / "inside"}
    written = run(
        *overrides(
            files, model="null", methods="[telea,mean_colour]", ckpt=f"[{files / 'e.ckpt'},{files / 'f.ckpt'}]", **more
        )
    )
    names = ["telea", "mean_colour", "EdgeLBAM_e", "EdgeLBAM_f"]
    assert written == [out / name / "photo.png" for name in names]
    assert {path.name for path in (files / "inside").iterdir()} == set(names[2:])  # the others have no figures
    alone = run(*overrides(files, model="null", ckpt=edge_lbam, edges=files / "edges.png"))
    assert np.array_equal(pixels(alone[0]), pixels(written[2]))
    shown = pixels(sheet)
    width = shown.shape[1] // 5  # one column for the input
    top = 8 + 21  # below the gap and the column titles; 70x50 images are shown at three times their size
    for i, path in enumerate(written, start=1):
        middle = shown[top + 10 : top + 70 : 3, i * width + 40 : (i + 1) * width - 40]
        assert len(np.unique(middle.reshape(-1, 3), axis=0)) > 1 or path.parent.name == "mean_colour"


def test_methods_have_the_passed_names_and_a_sheet_has_one_row_per_image(files, edge_lbam):
    images = files / "in"
    images.mkdir()
    for name in "ab":
        shutil.copy(files / "photo.png", images / f"{name}.png")
    options = {"model": "null", "ckpt": f"{{ours: {edge_lbam}, theirs: {edge_lbam}}}", "image": images}
    with pytest.raises(InputError, match=r"e\.ckpt is passed twice"):
        run(*overrides(files, **options, one_mask_for_all=True, output=files / "out"))
    options |= {"ckpt": f"{{ours: {edge_lbam}}}", "model": "telea"}
    written = run(*overrides(files, **options, one_mask_for_all=True, output=files / "out", sheet=files / "s.png"))
    parts = [path.relative_to(files / "out").as_posix() for path in written]
    assert parts == ["telea/a.png", "ours/a.png", "telea/b.png", "ours/b.png"]
    rows = pixels(files / "s.png").shape[0]
    run(*overrides(files, output=files / "one", sheet=files / "sheets"))
    assert rows > 1.8 * pixels(files / "sheets" / "photo.png").shape[0]
