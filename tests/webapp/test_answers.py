"""Requests that are answered, and those that are refused with a sentence."""

import base64
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from src.common.errors import InputError
from src.networks.edge_lbam import EdgeLBAM
from src.prediction import Inpainter, load
from src.webapp.answers import Answers
from src.webapp.examples import EXAMPLES
from src.webapp.methods import Methods, methods_found
from src.webapp.pictures import Limits, sent_picture


@pytest.fixture
def answers(untrained):
    methods = Methods(methods_found([str(untrained)], []), "cpu", keep=1)
    return Answers(methods, Limits(megabytes=0.5, megapixels=0.1, hole_megapixels=0.001), (32, None), inside_side_px=48)


def sent(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def got(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))


@pytest.fixture
def mask():
    mask = Image.new("L", (70, 50))
    mask.paste(255, (10, 10, 30, 40))
    return mask


def request(photo, mask, method="telea", **changes):
    return {"photo": sent(photo), "mask": sent(mask), "method": method, "side": None, "user": "me", **changes}


@pytest.mark.parametrize("method", ["telea", "demo/lbam", "edge_lbam"])
def test_a_photo_is_filled_as_load_fills_it(answers, untrained, photo, mask, method):
    answer = answers.fill(request(photo, mask, method))
    source = {"demo/lbam": untrained / "demo/lbam/checkpoints/best.ckpt", "edge_lbam": untrained / "edge_lbam"}
    expected = load(source.get(method, method), device="cpu")(photo, mask)
    assert np.array_equal(got(answer["picture"]), expected)
    assert answer["takes_edges"] is (method == "edge_lbam")
    assert answer["seconds"] > 0
    assert not answer["inside"]


def test_a_working_size_reaches_the_method(answers, photo, mask):
    whole, small = (answers.fill(request(photo, mask, "demo/lbam", side=side))["picture"] for side in (None, 32))
    hole = np.asarray(mask) > 0
    assert not np.array_equal(np.asarray(got(whole))[hole], np.asarray(got(small))[hole])
    assert np.array_equal(np.asarray(got(small))[~hole], np.asarray(photo)[~hole])


def test_figures_are_shown_when_asked_for(answers, photo, mask):
    inside = answers.fill(request(photo, mask, "edge_lbam", inside=True))["inside"]
    assert {"updated masks", "edges", "attention maps"} <= {figure["title"] for figure in inside}
    (edges,) = (figure for figure in inside if figure["title"] == "edges")
    assert [part["head"] for part in edges["pictures"]][-1] == "known edges, and those in the hole"
    assert all(got(part["png"]).mode == "RGB" for part in edges["pictures"])
    assert answers.fill(request(photo, mask, inside=True))["inside"] == []  # telea has nothing inside


def test_drawn_edges_reach_the_network_and_those_left_alone_stay_as_they_were(answers, photo, mask, monkeypatch):
    seen, original = [], EdgeLBAM.forward

    def spied(self, image, mask, edges=None, **options):
        seen.append((edges, output := original(self, image, mask, edges, **options)))
        return output

    monkeypatch.setattr(EdgeLBAM, "forward", spied)
    asked = request(photo, mask, "edge_lbam")
    answer = answers.find_edges(asked)
    assert got(answer["edges"]).size == photo.size
    for edges in (None, answer["edges"], sent(Image.new("L", photo.size, 255))):
        assert answers.fill({**asked, "edges": edges})["drawn"] is (edges is not None)
    assert answers.fill({**asked, "edges": answer["edges"], "method": "demo/lbam"})["drawn"] is False
    (_, predicted), (own, _), (same, _), (drawn, _) = seen
    hole = torch.from_numpy(np.asarray(mask) > 0)[None, None]
    assert own is None
    assert (same - predicted.edges)[hole].abs().max() <= 0.5 / 255  # greys, not lines or none
    assert (drawn[hole] == 1).all()


def test_opening_a_photo_turns_it_upright_and_shows_transparency_on_white(answers):
    photo = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = answers.open_photo({"photo": sent(photo, exif=exif)})
    assert (answer["width"], answer["height"]) == (20, 40)
    assert got(answer["preview"]).getpixel((0, 0)) == (255, 255, 255)


def test_transparency_and_profile_are_kept(answers, mask, photo):
    photo = photo.convert("RGBA")
    photo.putalpha(77)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    asked = {**request(photo, mask), "photo": sent(photo, icc_profile=profile)}
    filled = got(answers.fill(asked)["picture"])
    assert filled.mode == "RGBA"
    assert filled.info["icc_profile"] == profile
    assert filled.getpixel((0, 0)) == photo.getpixel((0, 0))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_has_a_small_hole_where_its_photo_is(number):
    example = EXAMPLES[number]
    assert example.mask().size == example.picture().size
    assert 0.01 < (np.asarray(example.mask()) > 0).mean() < 0.2
    assert max(example.thumbnail().shape) == 200


def test_an_example_is_sent_whole(untrained):
    answers = Answers(Methods([], "cpu", keep=1), Limits(9, 9, 9), (None,), 48)
    answer = answers.open_example({"example": 1})
    assert np.array_equal(got(answer["photo"]), EXAMPLES[1].picture())
    assert np.array_equal(got(answer["mask"]), EXAMPLES[1].mask())
    for number in (-1, 99, "1", None, True):
        with pytest.raises(InputError, match="there is no example"):
            answers.open_example({"example": number})


def bomb(width, height):
    """A PNG of many pixels in few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the photo is empty"),
        (b"not a picture", "the photo is not a PNG, JPEG, WebP, BMP or TIFF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "the photo is not a PNG"),
        (b"GIF89a" + bytes(100), "the photo is not a PNG"),
        (b"II*\0" + bytes(100), "the photo is"),
        (bomb(60_000, 60_000), "the photo is far above the limit of 0.1 megapixels"),
        (bomb(1000, 1000), r"the photo has 1.0 megapixels \(1000x1000\), above the limit of 0.1"),
        (bomb(10, 10)[:45], "the photo is corrupt or truncated"),
        (bytes(600_000), "the photo has 0.6 MB, and at most 0.5 are taken"),
    ],
    ids=["empty", "text", "svg", "gif", "tiff", "bomb", "many pixels", "cut", "large"],
)
def test_a_file_that_is_no_photo_is_refused_by_a_sentence(answers, content, sentence):
    with pytest.raises(InputError, match=sentence):
        answers.open_photo({"photo": base64.b64encode(content).decode()})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_of_many_pixels_is_refused_before_it_is_decoded(answers, dtype, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it is decoded"))
    deflate = 8
    _, content = cv2.imencode(".tif", np.zeros((1000, 1000, 3), dtype), [cv2.IMWRITE_TIFF_COMPRESSION, deflate])
    with pytest.raises(InputError, match=r"the photo has 1.0 megapixels \(1000x1000\), above the limit of 0.1"):
        answers.open_photo({"photo": base64.b64encode(content.tobytes()).decode()})


@pytest.mark.parametrize("kind", [4, 1, 17], ids=["twice", "of bytes", "unknown to Pillow"])
def test_a_tiff_that_hides_its_pixels_is_refused_before_it_is_decoded(answers, kind, monkeypatch):
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
    with pytest.raises(InputError, match="the photo is corrupt or truncated: its size is"):
        answers.open_photo({"photo": base64.b64encode(hiding).decode()})


def test_no_two_pictures_are_decoded_at_once(answers, photo, mask, monkeypatch):
    held = []

    def spied(*given):
        held.append((answers._opening.locked(), answers.methods._lock.locked()))
        return sent_picture(*given)

    monkeypatch.setattr("src.webapp.answers.sent_picture", spied)
    answers.open_photo({"photo": sent(photo)})
    answers.fill(request(photo, mask))
    answers.find_edges(request(photo, mask, "edge_lbam"))
    assert held == [(True, False), *[(False, True)] * 4]


def test_what_can_not_be_stopped_takes_small_holes_at_the_working_size(answers):
    photo, mask = Image.new("RGB", (128, 64)), Image.new("L", (128, 64))
    mask.paste(255, (10, 10, 60, 40))
    asked = request(photo, mask, "biharmonic")
    with pytest.raises(InputError, match=r"hole has 0.0015 megapixels.* at most 0.001: choose a smaller working size"):
        answers.fill(asked)
    assert got(answers.fill({**asked, "side": 32})["picture"]).size == photo.size
    assert answers.fill({**asked, "method": "telea"})


PATHS = [
    "/etc/passwd", "../../etc/passwd", {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"url": "file:///etc/passwd"}, ["/etc/passwd"], 7, None,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["photo", "mask", "edges", "method", "side", "user"])
def test_a_path_is_read_from_nowhere(answers, photo, mask, key, path):
    asked = {**request(photo, mask, "edge_lbam"), key: path}
    if (key in ("edges", "side") and path is None) or (key == "user" and isinstance(path, str)):  # as the page asks
        return
    with pytest.raises(InputError):
        answers.fill(asked)


def test_what_does_not_fit_is_refused(answers, photo, mask):
    with pytest.raises(InputError, match="the mask is"):
        answers.fill(request(photo, mask.resize((20, 20))))
    with pytest.raises(InputError, match="is not a mask"):
        answers.fill(request(photo, photo))
    with pytest.raises(InputError, match="there is no working size 33"):
        answers.fill(request(photo, mask, side=33))
    with pytest.raises(InputError, match="there is no working size True"):
        answers.fill(request(photo, mask, side=True))
    with pytest.raises(InputError, match="telea takes no edges"):
        answers.find_edges(request(photo, mask))


def test_inpainters_are_not_shared_between_sizes(answers, photo, mask):
    answers.fill(request(photo, mask, "demo/lbam", side=32))
    with answers.methods.using("demo/lbam", "me") as inpaint:
        assert isinstance(inpaint, Inpainter)
        whole = inpaint(photo, mask)
    assert np.array_equal(got(answers.fill(request(photo, mask, "demo/lbam"))["picture"]), whole)
