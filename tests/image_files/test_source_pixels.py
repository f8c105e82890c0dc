"""Images of any mode and orientation are filled in their own pixels and written to files that look the same."""

import re
import struct
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, JpegImagePlugin

from src.common.errors import InputError
from src.image_files.reading import read_image, read_stored, to_rgb_array
from src.image_files.source_pixels import fill_hole, to_eight_bits, upright_size
from src.image_files.writing import file_format, write_filled

RNG = np.random.default_rng(0)
Y, X = np.mgrid[:48, :64]
SMOOTH = np.stack([128 + 100 * np.sin((X + c * Y) / 9) for c in range(3)], -1).astype(np.uint8)
KNOWN = np.ones((48, 64), bool)
KNOWN[9:21, 30:50] = False
PAINTED = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MOVES = {b"rXYZ": b"gXYZ", b"gXYZ": b"bXYZ", b"bXYZ": b"rXYZ", b"s\0R\0G\0B": b"m\0o\0v\0e"}
MOVED = re.sub(b"|".join(MOVES), lambda found: MOVES[found[0]], SRGB)  # permutes the colours
WHITE = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
LINEAR = struct.pack(">4s4xIHxx", b"curv", 1, 256)
GREY_TAGS = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 16) + WHITE + LINEAR
GREY = struct.pack(">I4sI4s4s4s12x4s28x3i48x", 192, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ", b"acsp",
                   63190, 65536, 54061) + GREY_TAGS  # fmt: skip
MODES = {"RGB": "RGB", "RGBA": "RGBA", "L": "L", "LA": "LA", "CMYK": "CMYK", "P": "RGB", "1": "L", "YCbCr": "RGB"}


def make_image(mode="RGB", alpha=None):
    image = Image.fromarray(SMOOTH)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray((4 * X).astype(np.uint8)) if alpha is None else alpha)  # 0 at the left
    return image.convert(mode)


def exif(**tags):
    tags_of_image = Image.Exif()
    tags_of_image[ExifTags.Base.Make] = "Maker"
    tags_of_image.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:01:01 00:00:00"
    tags_of_image.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    for name, value in tags.items():
        tags_of_image[ExifTags.Base[name]] = value
    return tags_of_image


def reopened(path):
    image = Image.open(path)
    image.load()
    return image


# Filling


@pytest.mark.parametrize("mode", MODES)
def test_fill_keeps_known_pixels_and_transparency(mode):
    before = make_image(mode, alpha=255)
    filled = fill_hole(before, PAINTED, KNOWN)
    assert filled.mode == MODES[mode]
    assert np.array_equal(np.asarray(filled)[KNOWN], np.asarray(before.convert(filled.mode))[KNOWN])
    painted = np.asarray(Image.fromarray(PAINTED).convert(filled.mode))
    assert np.array_equal(np.asarray(filled)[~KNOWN], painted[~KNOWN])
    assert np.array_equal(np.asarray(make_image(mode, alpha=255)), np.asarray(before))  # the input is unchanged


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_semi_transparent_pixels_look_like_the_fill_over_white(mode):
    before = make_image(mode)
    before.putalpha(Image.fromarray((55 + 3 * X).astype(np.uint8)))
    light = (PAINTED // 8 + 223).astype(np.uint8) if mode == "RGBA" else np.full_like(PAINTED, 230)
    filled = fill_hole(before, light, KNOWN)
    assert np.array_equal(np.asarray(filled)[..., -1], np.asarray(before)[..., -1])
    assert np.array_equal(np.asarray(filled)[KNOWN], np.asarray(before)[KNOWN])
    assert abs(to_rgb_array(filled).astype(int) - light)[~KNOWN].max() <= 1
    before.putalpha(0)  # fully transparent pixels may have any colour
    assert np.array_equal(np.asarray(fill_hole(before, light, KNOWN))[KNOWN], np.asarray(before)[KNOWN])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_erased_hole_becomes_opaque(mode):
    before = make_image(mode, alpha=Image.fromarray(np.where(KNOWN, 100, X // 3 - 10).clip(0, 255).astype(np.uint8)))
    filled = fill_hole(before, PAINTED, KNOWN)
    assert np.array_equal(np.asarray(filled)[KNOWN], np.asarray(before)[KNOWN])
    painted = Image.fromarray(PAINTED).convert(mode)
    assert np.array_equal(np.asarray(filled)[~KNOWN], np.asarray(painted)[~KNOWN])  # with an alpha of 255


def test_transparent_palette_colour_stays_transparent():
    before = make_image().quantize(16)
    stream = BytesIO()
    before.save(stream, "PNG", transparency=3)
    stored = Image.open(stream)
    filled = fill_hole(stored, PAINTED, KNOWN)
    assert filled.mode == "RGBA"
    assert np.array_equal(np.asarray(filled)[KNOWN], np.asarray(stored.convert("RGBA"))[KNOWN])


def test_fill_is_converted_to_the_images_colour_space():
    before = make_image()
    before.info["icc_profile"] = MOVED
    filled = fill_hole(before, PAINTED, KNOWN)
    assert np.array_equal(np.asarray(filled)[KNOWN], SMOOTH[KNOWN])
    assert abs(to_rgb_array(filled)[~KNOWN].astype(int) - PAINTED[~KNOWN]).max() <= 2
    assert abs(np.asarray(filled)[~KNOWN].astype(int) - PAINTED[~KNOWN]).max() > 99  # the colour space differs
    assert filled.info["icc_profile"] == MOVED
    for unusable in (b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()):
        before.info["icc_profile"] = unusable
        assert np.array_equal(np.asarray(fill_hole(before, PAINTED, KNOWN))[~KNOWN], PAINTED[~KNOWN])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_fill_respects_the_exif_orientation(tmp_path, orientation):
    stored = Image.fromarray(SMOOTH if orientation < 5 else SMOOTH.transpose(1, 0, 2))
    stored.save(tmp_path / "a.png", exif=exif(Orientation=orientation))
    stored = read_stored(tmp_path / "a.png")
    shown = read_image(tmp_path / "a.png")
    assert upright_size(stored) == shown.shape[:2] == (48, 64)
    wanted = np.where(KNOWN[..., None], shown, PAINTED)
    filled = fill_hole(stored, PAINTED, KNOWN)
    assert np.array_equal(to_rgb_array(filled), wanted)
    for name, tag in {"same.png": orientation, "other.webp": None, "other.tif": None, "other.bmp": None}.items():
        messages = write_filled(filled, stored, tmp_path / name)
        dropped = f"{tmp_path / name}: EXIF data dropped, as BMP does not support it"
        assert messages == ([dropped] if name == "other.bmp" else [])
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(reopened(tmp_path / name))), wanted)
        assert reopened(tmp_path / name).getexif().get(ExifTags.Base.Orientation) == tag


def test_16_bit_grey_is_rounded_and_modes_without_white_are_errors():
    deep = RNG.integers(0, 65536, (48, 64)).astype(np.uint16)
    assert np.array_equal(np.asarray(to_eight_bits(Image.fromarray(deep))), np.rint(deep / 257).astype(np.uint8))
    for mode in ("I", "F"):
        with pytest.raises(InputError, match=f"mode {mode} does not define the value of white"):
            to_eight_bits(Image.new(mode, (3, 4)))


# Writing


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.png", "RGBA", {}),
        ("a.png", "LA", {}),
        ("a.png", "L", {}),
        ("a.webp", "RGBA", {"lossless": True, "exact": True}),
        ("a.webp", "RGB", {"quality": 80}),
        ("a.tif", "CMYK", {}),
        ("a.tif", "RGBA", {"compression": "tiff_lzw"}),
        ("a.tif", "L", {"compression": "jpeg"}),
        ("a.bmp", "RGB", {}),
    ],
)
def test_written_file_keeps_format_pixels_exif_and_profile(tmp_path, name, mode, options):
    kept = {"exif": exif(), "icc_profile": MOVED, "dpi": (300, 300)} if not name.endswith("bmp") else {}
    (tmp_path / "in").mkdir()
    make_image(mode).save(tmp_path / "in" / name, **kept, **options)
    stored = read_stored(tmp_path / "in" / name)
    filled = fill_hole(stored, PAINTED, KNOWN)
    assert write_filled(filled, stored, tmp_path / name) == []
    before, after = reopened(tmp_path / "in" / name), reopened(tmp_path / name)
    assert (after.format, after.mode) == (before.format, before.mode)
    assert np.array_equal(np.asarray(after), np.asarray(filled))
    assert np.array_equal(np.asarray(after)[KNOWN], np.asarray(before)[KNOWN])
    if kept:
        assert after.info["icc_profile"] == MOVED
        assert after.getexif()[ExifTags.Base.Make] == "Maker"
        for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            assert after.getexif().get_ifd(part) == before.getexif().get_ifd(part)
        assert name.endswith("webp") or after.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    lossless = {"tiff_lzw": "tiff_lzw", "jpeg": "tiff_adobe_deflate"}.get(options.get("compression"))
    assert lossless is None or after.info["compression"] == lossless


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_keeps_its_tables_and_most_known_pixels(tmp_path, mode):
    options = {"subsampling": 1} if mode == "RGB" else {}
    saved = make_image(mode)
    saved.save(tmp_path / "in.jpg", quality=70, progressive=True, exif=exif(Orientation=6), icc_profile=SRGB, **options)
    stored = read_stored(tmp_path / "in.jpg")
    filled = fill_hole(stored, np.ascontiguousarray(PAINTED.transpose(1, 0, 2)), KNOWN.T)
    assert write_filled(filled, stored, tmp_path / "out.jpg") == []
    before, after = reopened(tmp_path / "in.jpg"), reopened(tmp_path / "out.jpg")
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)
    assert (after.mode, after.info["progressive"], after.info["icc_profile"]) == (mode, 1, SRGB)
    assert after.getexif()[ExifTags.Base.Orientation] == 6
    difference = abs(np.asarray(after).astype(int) - np.asarray(before))
    assert (difference[:, :16] == 0).mean() > 0.9  # in blocks without a hole
    assert file_format(tmp_path / "a.JPEG") == "JPEG" != file_format(tmp_path / "a.tiff")


def test_thumbnail_is_removed(tmp_path):
    thumbnail = BytesIO()
    Image.new("RGB", (16, 12), "red").save(thumbnail, "JPEG")
    head = exif().tobytes()
    ifd = head.index(b"MM") if b"MM" in head[:10] else head.index(b"II")
    order = "big" if head[ifd : ifd + 2] == b"MM" else "little"
    tiff = bytearray(head[ifd:])
    count = int.from_bytes(tiff[8:10], order)
    link, start = 10 + 12 * count, len(tiff) + len(tiff) % 2
    tiff += bytes(start - len(tiff))
    tiff[link : link + 4] = start.to_bytes(4, order)
    entries = ((0x0201, 4, start + 30), (0x0202, 4, len(thumbnail.getvalue())))
    tiff += (2).to_bytes(2, order)
    for tag, kind, value in entries:
        tiff += tag.to_bytes(2, order) + kind.to_bytes(2, order) + (1).to_bytes(4, order) + value.to_bytes(4, order)
    tiff += bytes(4) + thumbnail.getvalue()
    make_image().save(tmp_path / "in.jpg", exif=b"Exif\0\0" + bytes(tiff))
    stored = read_stored(tmp_path / "in.jpg")
    assert stored.getexif().get_ifd(ExifTags.IFD.IFD1)  # the original has a thumbnail
    write_filled(fill_hole(stored, PAINTED, KNOWN), stored, tmp_path / "out.jpg")
    written = reopened(tmp_path / "out.jpg").getexif()
    assert not written.get_ifd(ExifTags.IFD.IFD1)
    assert written[ExifTags.Base.Make] == "Maker"


def test_unsupported_features_of_a_format_are_reported(tmp_path):
    stored = make_image("RGBA")
    stored.info["icc_profile"] = MOVED
    filled = fill_hole(stored, PAINTED, KNOWN)
    for name in ("a.jpg", "a.bmp"):
        *more, message = write_filled(filled, stored, tmp_path / name)
        assert [text.partition(": ")[2] for text in more] == (
            ["converted to sRGB, as BMP does not support colour profiles"] if name == "a.bmp" else []
        )
        assert "composited over white, as" in message
        assert reopened(tmp_path / name).mode == "RGB"
        assert "icc_profile" not in reopened(tmp_path / name).info  # converted to sRGB
    assert np.array_equal(np.asarray(reopened(tmp_path / "a.bmp")), to_rgb_array(filled))
    assert reopened(tmp_path / "a.jpg").layer[0][1:3] == (1, 1)  # no chroma subsampling
    cmyk = make_image("CMYK")
    assert write_filled(fill_hole(cmyk, PAINTED, KNOWN), cmyk, tmp_path / "b.png") == []
    assert reopened(tmp_path / "b.png").mode == "RGB"
    cv2.imwrite(str(tmp_path / "deep.png"), SMOOTH.astype(np.uint16) * 257)
    deep = read_stored(tmp_path / "deep.png")
    (message,) = write_filled(fill_hole(deep, PAINTED, KNOWN), deep, tmp_path / "c.png")
    assert message.endswith("c.png: reduced from 16 to 8 bits per channel")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_colours_are_converted_for_formats_without_profiles(tmp_path, mode):
    stored = make_image(mode)
    stored.info["icc_profile"] = MOVED if mode == "RGB" else GREY
    filled = fill_hole(stored, PAINTED, KNOWN)
    (message,) = write_filled(filled, stored, tmp_path / "a.bmp")
    assert message == f"{tmp_path / 'a.bmp'}: converted to sRGB, as BMP does not support colour profiles"
    assert reopened(tmp_path / "a.bmp").mode == mode
    assert abs(read_image(tmp_path / "a.bmp").astype(int) - to_rgb_array(filled)).max() <= 1
    assert abs(to_rgb_array(filled).astype(int) - np.asarray(filled.convert("RGB"))).max() > 9  # not the stored values


def test_corrupt_exif_is_dropped_with_a_message(tmp_path, monkeypatch):
    make_image().save(tmp_path / "in.png", exif=exif())
    stored = read_stored(tmp_path / "in.png")
    filled = fill_hole(stored, PAINTED, KNOWN)

    def corrupt(*_):
        raise ValueError("broken")

    monkeypatch.setattr(Image.Exif, "tobytes", corrupt)
    (message,) = write_filled(filled, stored, tmp_path / "out.png")
    assert "EXIF data dropped, as it is corrupt: broken" in message
    assert len(reopened(tmp_path / "out.png").getexif()) == 0


@pytest.mark.parametrize("name", ["a.gif", "a.txt", "a"])
def test_rejects_other_formats(tmp_path, name):
    with pytest.raises(InputError, match=r"unknown suffix: use \.png, \.jpg, \.webp, \.bmp or \.tif"):
        write_filled(make_image(), make_image(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
