"""Requests of the page, and error messages for invalid ones."""

import base64
import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from src.checkpoints.reading import TrainedOn
from src.common.errors import InputError
from src.networks.edge_lbam import EdgeLBAM
from src.networks.picnet import PICNet
from src.prediction import Inpainter, Reduced, load
from src.webapp.api import Api
from src.webapp.encoding import Limits, decode_image
from src.webapp.examples import EXAMPLES
from src.webapp.methods import MethodPool, find_methods


@pytest.fixture
def api(untrained):
    methods = MethodPool(find_methods([str(untrained)], []), "cpu", cache_size=1)
    return Api(
        methods, Limits(megabytes=0.5, megapixels=0.1, hole_megapixels=0.001), ("auto", 32, None), figure_side_px=48
    )


def encode(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return base64.b64encode(buffer.getvalue()).decode()


def decode(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))


@pytest.fixture
def mask():
    mask = Image.new("L", (70, 50))
    mask.paste(255, (10, 10, 30, 40))
    return mask


def make_request(image, mask, method="telea", **changes):
    return {"image": encode(image), "mask": encode(mask), "method": method, "side": None, **changes}


@pytest.mark.parametrize("method", ["telea", "demo/lbam", "edge_lbam"])
def test_fill_returns_the_same_pixels_as_prediction(api, untrained, image, mask, method):
    response = api.fill(make_request(image, mask, method))
    source = {"demo/lbam": untrained / "demo/lbam/checkpoints/best.ckpt", "edge_lbam": untrained / "edge_lbam"}
    expected = load(source.get(method, method), device="cpu")(image, mask)
    assert np.array_equal(decode(response["image"]), expected)
    assert response["takes_edges"] is (method == "edge_lbam")
    assert response["seconds"] > 0
    assert not response["figures"]


def test_a_stochastic_method_gives_a_result_for_each_seed(api, image, mask, monkeypatch):
    torch.manual_seed(0)
    picnet = Inpainter("picnet", PICNet(0.02, levels=3, infer_blocks=1), torch.device("cpu"))
    monkeypatch.setattr("src.webapp.methods.load", lambda *_, **__: picnet)
    results = {}
    for seed, inpainter in ((None, picnet), (0, picnet.with_seed(0)), (1, picnet.with_seed(1))):
        response = api.fill(make_request(image, mask, "telea", seed=seed))
        results[seed] = decode(response["image"]).tobytes()
        assert results[seed] == inpainter(image, mask).tobytes()
        assert response["stochastic"]
    assert len(set(results.values())) == 3


def test_working_size_is_passed_to_the_method(api, image, mask):
    whole, small = (api.fill(make_request(image, mask, "demo/lbam", side=side))["image"] for side in (None, 32))
    hole = np.asarray(mask) > 0
    assert not np.array_equal(np.asarray(decode(whole))[hole], np.asarray(decode(small))[hole])
    assert np.array_equal(np.asarray(decode(small))[~hole], np.asarray(image)[~hole])


def test_automatic_size_is_that_of_predict_for_networks_and_a_limit_for_other_methods(api, untrained, monkeypatch):
    monkeypatch.setattr("src.webapp.api.CLASSICAL_SIDE_PX", 100)
    monkeypatch.setattr("src.checkpoints.reading.Checkpoint.trained_on", TrainedOn(64, 0.6))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (260, 300, 3), np.uint8))
    mask = Image.new("L", image.size)
    mask.paste(255, (10, 10, 30, 40))
    response = api.fill(make_request(image, mask, "demo/lbam", side="auto"))
    expected = load(untrained / "demo/lbam/checkpoints/best.ckpt", device="cpu")(image, mask)
    assert np.array_equal(decode(response["image"]), expected)
    assert response["warning"] == ""
    telea = api.fill(make_request(image, mask, side="auto"))["image"]
    assert np.array_equal(decode(telea), load("telea", device="cpu", size=Reduced(100))(image, mask))
    mask.paste(255, (0, 0, 300, 250))
    warning = api.fill(make_request(image, mask, "demo/lbam", side="auto"))["warning"]
    assert re.fullmatch(r"lbam was trained on holes .* sees a hole of \d+%: the result may be poor\.", warning)


def test_figures_are_returned_on_request(api, image, mask):
    figures = api.fill(make_request(image, mask, "edge_lbam", figures=True))["figures"]
    assert {"updated masks", "edges", "attention maps"} <= {figure["title"] for figure in figures}
    (edges,) = (figure for figure in figures if figure["title"] == "edges")
    assert [part["title"] for part in edges["images"]][-1] == "known edges and edges in the hole"
    assert all(decode(part["png"]).mode == "RGB" for part in edges["images"])
    assert api.fill(make_request(image, mask, figures=True))["figures"] == []  # telea has no layers


def test_edited_edges_are_used_and_unedited_ones_unchanged(api, image, mask, monkeypatch):
    seen, original = [], EdgeLBAM.forward

    def spy(self, image, mask, edges=None, **options):
        seen.append((edges, output := original(self, image, mask, edges, **options)))
        return output

    monkeypatch.setattr(EdgeLBAM, "forward", spy)
    request = make_request(image, mask, "edge_lbam")
    response = api.predict_edges(request)
    assert decode(response["edges"]).size == image.size
    for edges in (None, response["edges"], encode(Image.new("L", image.size, 255))):
        assert api.fill({**request, "edges": edges})["used_edges"] is (edges is not None)
    assert api.fill({**request, "edges": response["edges"], "method": "demo/lbam"})["used_edges"] is False
    (_, predicted), (own, _), (same, _), (drawn, _) = seen
    hole = torch.from_numpy(np.asarray(mask) > 0)[None, None]
    assert own is None
    assert (same - predicted.edges)[hole].abs().max() <= 0.5 / 255  # grey, not thresholded
    assert (drawn[hole] == 1).all()


def test_opened_image_is_upright_and_transparency_is_white(api):
    image = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    response = api.open_image({"image": encode(image, exif=exif)})
    assert (response["width"], response["height"]) == (20, 40)
    assert decode(response["preview"]).getpixel((0, 0)) == (255, 255, 255)


def test_transparency_and_profile_are_kept(api, mask, image):
    image = image.convert("RGBA")
    image.putalpha(77)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    request = {**make_request(image, mask), "image": encode(image, icc_profile=profile)}
    filled = decode(api.fill(request)["image"])
    assert filled.mode == "RGBA"
    assert filled.info["icc_profile"] == profile
    assert filled.getpixel((0, 0)) == image.getpixel((0, 0))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_mask_has_a_small_hole_and_the_image_size(number):
    example = EXAMPLES[number]
    assert example.draw_mask().size == example.load_image().size
    assert 0.01 < (np.asarray(example.draw_mask()) > 0).mean() < 0.2
    assert max(example.make_thumbnail().shape) == 200


def test_example_is_returned_with_its_mask(untrained):
    api = Api(MethodPool([], "cpu", cache_size=1), Limits(9, 9, 9), (None,), 48)
    response = api.open_example({"example": 1})
    assert np.array_equal(decode(response["image"]), EXAMPLES[1].load_image())
    assert np.array_equal(decode(response["mask"]), EXAMPLES[1].draw_mask())
    for number in (-1, 99, "1", None, True):
        with pytest.raises(InputError, match="there is no example"):
            api.open_example({"example": number})


def bomb(width, height):
    """A PNG of many pixels in few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the image is empty"),
        (b"not an image", "the image is not a PNG, JPEG, WebP, BMP, TIFF, GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "the image is not a PNG"),
        (b"GIF89a" + bytes(100), "the image is (not a PNG|corrupt)"),
        (b"II*\0" + bytes(100), "the image is"),
        (
            bomb(60_000, 60_000),
            r"the image is too large: it has 3600.0 megapixels \(60000x60000\), above the limit of 0.1",
        ),
        (bomb(1000, 1000), r"the image is too large: it has 1.0 megapixels \(1000x1000\), above the limit of 0.1"),
        (bomb(10, 10)[:45], "the image is corrupt or truncated"),
        (bytes(600_000), "the image has 0.6 MB, the limit is 0.5 MB"),
    ],
    ids=["empty", "text", "svg", "gif", "tiff", "bomb", "many pixels", "cut", "large"],
)
def test_rejects_invalid_file_with_a_message(api, content, message):
    with pytest.raises(InputError, match=message):
        api.open_image({"image": base64.b64encode(content).decode()})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_rejects_large_tiff_before_decoding(api, dtype, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it is decoded"))
    deflate = 8
    _, content = cv2.imencode(".tif", np.zeros((1000, 1000, 3), dtype), [cv2.IMWRITE_TIFF_COMPRESSION, deflate])
    with pytest.raises(
        InputError, match=r"the image is too large: it has 1.0 megapixels \(1000x1000\), above the limit of 0.1"
    ):
        api.open_image({"image": base64.b64encode(content.tobytes()).decode()})


@pytest.mark.parametrize("kind", [4, 1, 17], ids=["twice", "of bytes", "unknown to Pillow"])
def test_rejects_tiff_with_a_false_size_before_decoding(api, kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it is decoded"))
    _, encoded = cv2.imencode(".tif", np.zeros((100, 100, 3), np.float32))
    content, width, entry = encoded.tobytes(), 256, 12
    (at,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[at : at + 2])
    entries = [content[at + 2 + i * entry :][:entry] for i in range(count)]
    entries = [one for one in entries if kind == 4 or one[:2] != struct.pack("<H", width)]
    entries.append(struct.pack("<HHII", width, kind, 1, 10))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    hiding = content[:4] + struct.pack("<I", len(content)) + content[8:] + directory
    with pytest.raises(InputError, match="the image is corrupt or truncated: its size is"):
        api.open_image({"image": base64.b64encode(hiding).decode()})


def test_decodes_one_image_at_a_time(api, image, mask, monkeypatch):
    held = []

    def spy(*args):
        held.append((api._opening.locked(), bool(api.methods._requests)))
        return decode_image(*args)

    monkeypatch.setattr("src.webapp.api.decode_image", spy)
    api.open_image({"image": encode(image)})
    api.fill(make_request(image, mask))
    api.predict_edges(make_request(image, mask, "edge_lbam"))
    assert held == [(True, False), *[(False, True)] * 4]


def test_method_that_cannot_be_stopped_rejects_large_holes(api):
    image, mask = Image.new("RGB", (128, 64)), Image.new("L", (128, 64))
    mask.paste(255, (10, 10, 60, 40))
    request = make_request(image, mask, "biharmonic")
    with pytest.raises(
        InputError,
        match=r"hole has 0.0015 megapixels, the limit of this method is 0.001",
    ):
        api.fill(request)
    assert decode(api.fill({**request, "side": 32})["image"]).size == image.size
    assert api.fill({**request, "method": "telea"})


PATHS = [
    "/etc/passwd", "../../etc/passwd", {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"url": "file:///etc/passwd"}, ["/etc/passwd"], 7, None,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["image", "mask", "edges", "method", "side"])
def test_does_not_read_paths_in_requests(api, image, mask, key, path):
    request = {**make_request(image, mask, "edge_lbam"), key: path}
    if key in ("edges", "side") and path is None:  # as the page asks
        return
    with pytest.raises(InputError):
        api.fill(request)


@pytest.mark.parametrize("colour", [(0, 255, 0), (255, 255, 255), (1, 1, 1)], ids=str)
def test_mask_files_are_read_as_by_predict(api, mask, colour):
    painted = Image.new("RGB", mask.size)
    painted.paste(colour, mask=mask)
    assert np.array_equal(decode(api.open_mask({"mask": encode(painted)})["mask"]), mask)
    on_white = Image.new("RGB", mask.size, "white")
    on_white.paste((0, 0, 255), mask=mask)
    assert np.array_equal(decode(api.open_mask({"mask": encode(on_white), "hole": "black"})["mask"]), mask)
    painted.putalpha(mask)
    transparent = api.open_mask({"mask": encode(painted), "hole": "transparent"})["mask"]
    assert np.array_equal(decode(transparent), 255 - np.asarray(mask))
    with pytest.raises(InputError, match="hole must be 'white', 'black' or 'transparent', got 'grey'"):
        api.open_mask({"mask": encode(painted), "hole": "grey"})
    for content, message in ((encode(painted), "the mask has transparent pixels"), (None, "the mask is missing")):
        with pytest.raises(InputError, match=message):
            api.open_mask({"mask": content})


def test_rejects_invalid_requests(api, image, mask):
    with pytest.raises(InputError, match="the mask has size"):
        api.fill(make_request(image, mask.resize((20, 20))))
    with pytest.raises(InputError, match="is not a mask"):
        api.fill(make_request(image, image))
    with pytest.raises(InputError, match="unknown working size 33"):
        api.fill(make_request(image, mask, side=33))
    with pytest.raises(InputError, match="unknown working size True"):
        api.fill(make_request(image, mask, side=True))
    with pytest.raises(InputError, match="seed must be an integer from 0 to 2147483647, got -1"):
        api.fill(make_request(image, mask, seed=-1))
    with pytest.raises(InputError, match="telea has one result for an image"):
        api.fill(make_request(image, mask, seed=0))
    with pytest.raises(InputError, match="telea takes no edges: choose"):
        api.predict_edges(make_request(image, mask))


def test_inpainters_are_not_shared_between_sizes(api, image, mask):
    api.fill(make_request(image, mask, "demo/lbam", side=32))
    with api.methods.acquire("demo/lbam") as inpaint:
        assert isinstance(inpaint, Inpainter)
        whole = inpaint(image, mask)
    assert np.array_equal(decode(api.fill(make_request(image, mask, "demo/lbam"))["image"]), whole)
