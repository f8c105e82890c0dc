import os
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms, ImageDraw, ImageFilter, ImageOps

from src.common.errors import InputError
from src.image_files import decoding
from src.image_files import reading as readers
from src.image_files.binary_images import read_edges, read_mask
from src.image_files.reading import read_image, read_stored

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
HOLE = np.zeros((6, 9), bool)
HOLE[1:4, 2:7] = True


def save(path: Path, pixels, mode=None, **options) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def down_to_8(samples):
    return np.rint(samples.astype(np.float64) / 257).astype(np.uint8)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of_16_bit(samples, colour_type: int, extra_chunks: bytes = b"") -> bytes:
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra_chunks
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff", "a.webp", "a.PNG"])
def test_lossless_formats_give_identical_pixels(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    read = read_image(save(tmp_path / name, RGB, **options))
    assert read.dtype == np.uint8
    assert np.array_equal(read, RGB)


def test_strips_cover_tall_images(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_STRIP_PIXELS", 5 * 32 + 1)
    for height in (31, 32, 33, 75):
        tall = RNG.integers(0, 256, (height, 5, 3), dtype=np.uint8)
        read = read_image(save(tmp_path / "a.png", tall))
        assert np.array_equal(read, tall)
        assert read.flags.writeable


def test_jpeg_and_mpo(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], (32, 48, 3)).copy()
    assert abs(read_image(save(tmp_path / "a.jpg", smooth, quality=95)).astype(int) - smooth).max() <= 3
    first, second = Image.fromarray(smooth), Image.fromarray(255 - smooth)
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    assert abs(read_image(tmp_path / "phone.jpg").astype(int) - smooth).max() <= 5


def test_grey_palette_and_one_bit(tmp_path):
    grey = RGB[..., 0]
    assert np.array_equal(read_image(save(tmp_path / "grey.png", grey)), np.stack([grey] * 3, -1))
    few_colours = Image.fromarray(RGB // 128 * 255).quantize(8)
    assert np.array_equal(read_image(save(tmp_path / "palette.png", few_colours)), np.array(few_colours.convert("RGB")))
    one_bit = Image.fromarray(HOLE)
    assert np.array_equal(read_image(save(tmp_path / "bits.png", one_bit))[..., 1], HOLE * np.uint8(255))


def test_transparent_pixels_are_composited_over_white(tmp_path):
    alpha = np.where(HOLE, 0, 255).astype(np.uint8)
    expected = np.where(HOLE[..., None], 255, RGB)
    assert np.array_equal(read_image(save(tmp_path / "rgba.png", np.dstack([RGB, alpha]))), expected)
    grey_alpha = Image.merge("LA", [Image.fromarray(RGB[..., 0]), Image.fromarray(alpha)])
    assert np.array_equal(read_image(save(tmp_path / "la.png", grey_alpha))[..., 2], np.where(HOLE, 255, RGB[..., 0]))
    palette = Image.fromarray(HOLE.astype(np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    read = read_image(save(tmp_path / "palette.png", palette, transparency=1))
    assert np.array_equal(read, np.where(HOLE[..., None], 255, [10, 20, 30]))
    half = np.dstack([np.zeros_like(RGB), np.full(HOLE.shape, 51, np.uint8)])  # black at 20% over white
    assert (read_image(save(tmp_path / "half.png", half)) == 204).all()


def test_16_bit_png_is_rounded(tmp_path):
    (tmp_path / "rgb.png").write_bytes(png_of_16_bit(RGB16, colour_type=2))
    assert np.array_equal(read_image(tmp_path / "rgb.png"), down_to_8(RGB16))
    (tmp_path / "grey.png").write_bytes(png_of_16_bit(RGB16[..., 0], colour_type=0))
    assert np.array_equal(read_image(tmp_path / "grey.png")[..., 2], down_to_8(RGB16[..., 0]))
    opaque = np.full(HOLE.shape, 65535, np.uint16)
    (tmp_path / "rgba.png").write_bytes(png_of_16_bit(np.dstack([RGB16, np.where(HOLE, 0, opaque)]), colour_type=6))
    assert np.array_equal(read_image(tmp_path / "rgba.png"), np.where(HOLE[..., None], 255, down_to_8(RGB16)))
    (tmp_path / "la.png").write_bytes(png_of_16_bit(np.dstack([RGB16[..., 0], opaque]), colour_type=4))
    assert np.array_equal(read_image(tmp_path / "la.png")[..., 0], down_to_8(RGB16[..., 0]))


def test_16_bit_and_float_tiff(tmp_path):
    bgr16, grey16 = RGB16[..., ::-1], RGB16[..., 0]
    for compression in (1, 5, 8):  # none, LZW, deflate
        name = str(tmp_path / f"rgb{compression}.tif")
        cv2.imwrite(name, bgr16, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        assert np.array_equal(read_image(Path(name)), down_to_8(RGB16))
    cv2.imwrite(str(tmp_path / "grey.tif"), grey16)
    assert np.array_equal(read_image(tmp_path / "grey.tif")[..., 1], down_to_8(grey16))
    for dtype in (np.float32, np.float64):
        unit = (RGB16 / 65535).astype(dtype)
        cv2.imwrite(str(tmp_path / "float.tif"), unit[..., ::-1])
        assert np.array_equal(read_image(tmp_path / "float.tif"), np.rint(unit * 255))
    cv2.imwrite(str(tmp_path / "float_grey.tif"), (grey16 / 65535).astype(np.float32))
    assert np.array_equal(read_image(tmp_path / "float_grey.tif")[..., 0], np.rint(grey16 / 65535 * 255))
    for bad in (255.0, -0.1, np.nan):
        cv2.imwrite(str(tmp_path / "range.tif"), np.full((4, 4), bad, np.float32))
        with pytest.raises(InputError, match=r"range\.tif: has floating-point samples outside \[0, 1\]"):
            read_image(tmp_path / "range.tif")


def test_rejects_other_kinds_of_deep_tiffs(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    kinds = {
        "planar": (np.moveaxis(RGB16, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        "white_is_zero": (RGB16[..., 0], {"photometric": "miniswhite"}),
        "signed": (RGB16[..., 0].astype(np.int32), {}),
        "cmyk": (np.dstack([RGB16, RGB16[..., :1]]), {"photometric": "separated"}),
    }
    for name, (samples, options) in kinds.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", samples, **options)
        with pytest.raises(InputError, match=rf"{name}\.tif: is an unsupported \d+-bit TIFF"):
            read_image(tmp_path / f"{name}.tif")


def test_cmyk(tmp_path):
    cmyk = np.full((32, 32, 4), (255, 0, 0, 0), np.uint8)
    for name in ("a.jpg", "a.tif"):
        read = read_image(save(tmp_path / name, Image.fromarray(cmyk, mode="CMYK")))
        assert abs(read.astype(int) - [0, 255, 255]).max() <= 3  # cyan


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    tagged = Image.fromarray(RGB)
    tagged.getexif()[0x0112] = orientation
    upright = np.array(ImageOps.exif_transpose(tagged))
    for name in ("a.png", "a.webp", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        assert np.array_equal(read_image(save(tmp_path / name, RGB, exif=exif, **options)), upright)
    read = read_image(
        save(tmp_path / "a.jpg", np.repeat(np.repeat(RGB, 16, 0), 16, 1), exif=exif, quality=100, subsampling=0)
    )
    assert abs(read[8::16, 8::16].astype(int) - upright).max() <= 4
    payload = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = png_chunk(b"eXIf", payload)
    (tmp_path / "deep.png").write_bytes(png_of_16_bit(RGB.astype(np.uint16) * 257, colour_type=2, extra_chunks=chunk))
    assert np.array_equal(read_image(tmp_path / "deep.png"), upright)
    tifffile = pytest.importorskip("tifffile")
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "deep.tif", RGB.astype(np.uint16) * 257, photometric="rgb", extratags=tags)
    assert np.array_equal(read_image(tmp_path / "deep.tif"), upright)


def test_colour_profiles_are_applied(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(read_image(save(tmp_path / "srgb.png", RGB, icc_profile=srgb)), RGB)
    assert np.array_equal(read_image(save(tmp_path / "broken.png", RGB, icc_profile=b"no profile")), RGB)
    swaps = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ", b"s\0R\0G\0B": b"s\0w\0a\0p"}  # swaps red and green
    swapped = re.sub(b"|".join(swaps), lambda found: swaps[found[0]], srgb)
    read = read_image(save(tmp_path / "swapped.png", RGB, icc_profile=swapped))
    assert abs(read.astype(int) - RGB[..., [1, 0, 2]]).max() <= 1
    chunk = png_chunk(b"iCCP", b"swapped\0\0" + zlib.compress(swapped))
    (tmp_path / "deep.png").write_bytes(png_of_16_bit(RGB.astype(np.uint16) * 257, colour_type=2, extra_chunks=chunk))
    assert np.array_equal(read_image(tmp_path / "deep.png"), read)
    grey = np.full((4, 4), 128, np.uint8)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # not the space of the pixels
    assert (read_image(save(tmp_path / "lab.png", grey, icc_profile=lab)) == 128).all()


def smooth_pixels(height: int, width: int):
    y, x = np.mgrid[:height, :width]
    return np.stack([128 + 100 * np.sin((x + c * y) / 40) for c in range(3)], -1).astype(np.uint8)


@pytest.mark.parametrize("shape", [(320, 400), (401, 320), (319, 500), (80, 90), (39, 41), (640, 650)])
def test_jpeg_is_decoded_as_small_as_the_shorter_side_allows(tmp_path, shape):
    pixels = smooth_pixels(*shape)
    path = save(tmp_path / "a.jpg", pixels, quality=95, subsampling=0)
    for side_px in (1, 40, 80, 81, 160, 161, 1000):
        factor = max(f for f in (1, 2, 4, 8) if f == 1 or min(shape) >= f * side_px)
        read = read_image(path, side_px)
        assert read.shape == (-(-shape[0] // factor), -(-shape[1] // factor), 3)
        assert min(read.shape[:2]) >= min(side_px, *shape)
        height, width = (side // factor * factor for side in shape)
        mean = pixels[:height, :width].reshape(height // factor, factor, width // factor, factor, 3).mean((1, 3))
        assert abs(read[: mean.shape[0], : mean.shape[1]] - mean).max() < 6
    assert np.array_equal(read_image(path), read_image(path, min(shape)))
    assert np.array_equal(read_image(save(tmp_path / "a.png", pixels), 10), pixels)


def test_reduced_jpeg_is_oriented_colour_managed_and_checked(tmp_path):
    pixels = smooth_pixels(96, 160)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swaps = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ", b"s\0R\0G\0B": b"s\0w\0a\0p"}
    swapped = re.sub(b"|".join(swaps), lambda found: swaps[found[0]], srgb)
    saved = [
        save(tmp_path / "turned.jpg", pixels, exif=exif, quality=95),
        save(tmp_path / "swapped.jpg", pixels, icc_profile=swapped, quality=95),
        save(tmp_path / "grey.jpg", pixels[..., 0], quality=95),
        save(tmp_path / "cmyk.jpg", pixels, "CMYK", quality=95),
        save(tmp_path / "progressive.jpg", pixels, progressive=True, quality=95),
        save(
            tmp_path / "phone.jpg", pixels, format="MPO", save_all=True, append_images=[Image.fromarray(255 - pixels)]
        ),
    ]
    for path in saved:
        whole, reduced = read_image(path).astype(int), read_image(path, 20)
        assert reduced.shape == (whole.shape[0] // 4, whole.shape[1] // 4, 3), path.name
        assert abs(whole.reshape(len(reduced), 4, -1, 4, 3).mean((1, 3)) - reduced).max() < 8, path.name
    assert read_image(saved[0], 20).shape == (40, 24, 3)
    (tmp_path / "cut.jpg").write_bytes(saved[4].read_bytes()[:-900])
    with pytest.raises(InputError, match=r"cut\.jpg: is corrupt or truncated"):
        read_image(tmp_path / "cut.jpg", 20)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_unreadable_files_are_named(tmp_path, read):
    whole = save(tmp_path / "whole.png", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).read_bytes()
    save(tmp_path / "whole.jpg", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    cv2.imwrite(str(tmp_path / "deep.tif"), RNG.integers(0, 65536, (64, 64, 3), dtype=np.uint16))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.png").write_bytes(whole[:300] + bytes(100) + whole[400:])
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-900])
    (tmp_path / "cut.tif").write_bytes((tmp_path / "deep.tif").read_bytes()[:5000])
    (tmp_path / "start.tif").write_bytes(b"II*\0")
    (tmp_path / "deep.png").write_bytes(png_of_16_bit(RGB16, colour_type=2)[:-60])
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    reasons = {
        "missing.png": "file not found",
        "folder.png": "can't be read",
        "empty.png": "is empty",
        "text.png": "is not a PNG, JPEG, WebP, BMP, TIFF, GIF",
        "cut.png": "is corrupt or truncated",
        "flipped.png": "is corrupt or truncated",
        "cut.jpg": "is corrupt or truncated",
        "cut.tif": ".*corrupt or truncated",
        "start.tif": "is corrupt or truncated",
        "deep.png": "is corrupt or truncated",
        "moving.png": "is an animation",
    }
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=rf"{name}: {reason}"):
            read(tmp_path / name)


def test_rejects_decompression_bombs(tmp_path, monkeypatch):
    save(tmp_path / "bomb.png", np.zeros((64, 64), np.uint8))
    cv2.imwrite(str(tmp_path / "bomb.tif"), np.zeros((64, 64, 3), np.float32))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    for name in ("bomb.png", "bomb.tif"):
        with pytest.raises(InputError, match=rf"{name}: is too large: .*, or raise max_megapixels"):
            read_image(tmp_path / name)
        assert read_stored(tmp_path / name, max_pixels=64 * 64).size == (64, 64)


def test_texts_and_profiles_of_implausible_size_are_left_out(tmp_path, caplog):
    packed_zeros = zlib.compress(bytes(40 << 20), 9)
    whole = save(tmp_path / "whole.png", RGB).read_bytes()
    deep = png_of_16_bit(RGB16, colour_type=2)
    for name, head in {"zTXt": b"a\0\0", "iCCP": b"a\0\0", "iTXt": b"a\0\1\0\0\0"}.items():
        chunk = png_chunk(name.encode(), head + packed_zeros)
        for data, pixels in ((whole, RGB), (deep, down_to_8(RGB16))):
            for at in (33, -12):  # after the header, and before the end
                path = tmp_path / f"{name}_{len(data)}_{at}.png"
                path.write_bytes(data[:at] + chunk + data[at:])
                assert np.array_equal(read_image(path), pixels)
                lost = "colour profile, which is too large" if name == "iCCP" else "text, which is too long"
                assert f"{path}: its {lost}, is left out" in caplog.text


def test_large_colour_profiles_are_kept(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    padded = (len(srgb) + (2 << 20)).to_bytes(4, "big") + srgb[4:] + bytes(2 << 20)
    whole = save(tmp_path / "a.png", RGB).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:33] + png_chunk(b"iCCP", b"a\0\0" + zlib.compress(padded)) + whole[33:])
    assert read_stored(tmp_path / "a.png").info["icc_profile"] == padded
    assert np.array_equal(read_image(tmp_path / "a.png"), RGB)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_first_full_page_of_a_tiff_is_read_and_others_are_named(tmp_path, caplog, dtype):
    pages = [(RGB16 // 257 * factor).astype(dtype) for factor in (1, 2, 3)]
    cv2.imwritemulti(str(tmp_path / "pages.tif"), [page[..., ::-1] for page in pages])
    shown = readers.to_rgb_array(read_stored(tmp_path / "pages.tif"))
    assert np.array_equal(shown, pages[0] if dtype == np.uint8 else down_to_8(pages[0]))
    assert "pages.tif: has 3 pages, of which only the first is read" in caplog.text
    data = bytearray((tmp_path / "pages.tif").read_bytes())
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    tags = [struct.unpack("<H", data[start + 2 + 12 * i :][:2])[0] for i in range(count)]
    assert tags[0] == 254  # NewSubfileType
    data[start + 2 + 8] |= 1  # the first page is a thumbnail
    (tmp_path / "thumbnail.tif").write_bytes(data)
    shown = read_image(tmp_path / "thumbnail.tif")
    assert np.array_equal(shown, pages[1] if dtype == np.uint8 else down_to_8(pages[1]))
    assert "thumbnail.tif: has 2 pages" in caplog.text


def make_tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """Return a TIFF with these tags: number, type, count and value."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(300)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ([(258, 3, 3_000_000_000, 8)], "is not a PNG"),
        ([(256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1), (258, 3, 1, 8)], "is not a PNG|is too large"),
        ([(256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1), (258, 3, 1, 16)], "is too large: "),
        ([(256, 4, 1, 40000), (257, 4, 1, 4000), (258, 3, 1, 16), (262, 3, 1, 1), (273, 4, 1, 90)], "is corrupt"),
        ([(258, 3, 1, 16), (262, 3, 1, 1)], "is corrupt"),
        ([(256, 4, 1, 0), (257, 4, 1, 0), (258, 3, 1, 16), (262, 3, 1, 1)], "is corrupt"),
    ],
)
def test_rejects_implausible_tiff_tags_quietly(tmp_path, capfd, tags, reason):
    (tmp_path / "absurd.tif").write_bytes(make_tiff(*tags))
    with pytest.raises(InputError, match=rf"absurd\.tif: ({reason})"):
        read_image(tmp_path / "absurd.tif")
    assert capfd.readouterr().err == ""


def test_errors_of_colour_conversion_name_the_file(tmp_path):
    """These files open and load, but their colours can't be converted."""
    few_colours = save(tmp_path / "palette.png", Image.fromarray(RGB).quantize(16)).read_bytes()
    without_palette = few_colours[:33] + few_colours[few_colours.index(b"IDAT") - 4 :]
    (tmp_path / "none.png").write_bytes(without_palette)
    at = few_colours.index(b"IDAT") - 4
    (tmp_path / "many.png").write_bytes(few_colours[:at] + png_chunk(b"tRNS", bytes(300)) + few_colours[at:])
    for name, readers_of_file in {"none.png": (read_image, read_mask), "many.png": (read_image, read_edges)}.items():
        for read in readers_of_file:
            with pytest.raises(InputError, match=rf"{name}: is corrupt or truncated: \S"):
                read(tmp_path / name)


def test_profile_with_an_invalid_colour_space_is_ignored(tmp_path):
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    srgb[16:20] = b"\xff\xfe\xfd\xfc"
    assert np.array_equal(read_image(save(tmp_path / "a.png", RGB, icc_profile=bytes(srgb))), RGB)


def test_mask_polarity(tmp_path):
    path = save(tmp_path / "mask.png", HOLE * np.uint8(255))
    assert read_mask(path).dtype == np.uint8
    assert np.array_equal(read_mask(path), ~HOLE)
    assert np.array_equal(read_mask(path, hole="white"), ~HOLE)
    assert np.array_equal(read_mask(path, hole="black"), HOLE)
    with pytest.raises(InputError, match="hole must be 'white', 'black' or 'transparent', got 'grey'"):
        read_mask(path, hole="grey")


def test_masks_of_every_depth(tmp_path):
    hole = np.kron(HOLE, np.ones((8, 8), bool))
    saved = [
        save(tmp_path / "one_bit.png", hole),
        save(tmp_path / "one_bit.bmp", hole),
        save(tmp_path / "grey.jpg", hole * np.uint8(255), quality=75),
        save(tmp_path / "rgb.webp", np.stack([hole * np.uint8(255)] * 3, -1)),
        save(tmp_path / "opaque.png", np.stack([hole * np.uint8(255)] * 3 + [np.full_like(hole, 255, np.uint8)], -1)),
    ]
    palette = Image.fromarray(hole.astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    saved.append(save(tmp_path / "palette.png", palette))
    for name, samples in {"16.png": hole * np.uint16(65535), "float.tif": hole.astype(np.float32)}.items():
        cv2.imwrite(str(tmp_path / name), samples)
        saved.append(tmp_path / name)
    for path in saved:
        assert np.array_equal(read_mask(path), ~hole), path.name


def test_antialiased_borders_are_thresholded_at_128(tmp_path):
    grey = np.repeat(np.array([0, 127, 128, 255], np.uint8), [30, 1, 1, 30])[None].repeat(4, axis=0)
    assert np.array_equal(read_mask(save(tmp_path / "edge.png", grey))[0], grey[0] < 128)


def test_rejects_images_that_are_not_masks(tmp_path):
    invalid = {
        "photo.png": (RGB, "is not a mask: .* neither black nor white"),
        "see_through.png": (
            np.dstack([np.zeros_like(RGB), HOLE * np.uint8(255)]),
            "has transparent pixels: use hole=t",
        ),
        "on_white.png": (paint([200, 0, 0], on=255), r"has no black pixels, .* the colours 255, rgb\(200, 0, 0\)$"),
        "on_grey.png": (paint([255, 255, 255], on=120), "has no black pixels, .* the colours 120, 255$"),
    }
    for name, (pixels, reason) in invalid.items():
        with pytest.raises(InputError, match=rf"{name}: {reason}"):
            read_mask(save(tmp_path / name, pixels))


LARGE_HOLE = np.kron(HOLE, np.ones((4, 4), bool))
COLOURS = [
    *([255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 255, 255]),
    *([128, 0, 0], [64, 0, 0], [100, 100, 100], [20, 20, 20], [1, 1, 1], [2, 2, 2], [0, 0, 1]),
]


def paint(*colours, on=0, hole=HOLE):
    """Return (H, W, 3): the columns of the hole have these colours in turn."""
    pixels = np.full((*hole.shape, 3), on, np.uint8)
    turn = np.arange(hole.shape[1]) * len(colours) // hole.shape[1]
    return np.where(hole[..., None], np.array(colours, np.uint8)[turn], pixels)


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("thin", [False, True])
def test_every_colour_but_black_is_hole(tmp_path, colour, thin):
    hole = np.zeros((24, 36), bool)
    hole[5] = True
    hole = hole if thin else LARGE_HOLE
    assert np.array_equal(read_mask(save(tmp_path / "mask.png", paint(colour, hole=hole))), ~hole)


@pytest.mark.parametrize("count", [2, 3, 5, len(COLOURS)])
def test_objects_of_several_colours_are_hole(tmp_path, count):
    for first in range(len(COLOURS)):
        colours = [COLOURS[(first + i) % len(COLOURS)] for i in range(count)]
        path = save(tmp_path / "mask.png", paint(*colours, hole=np.kron(HOLE, np.ones((12, 12), bool))))
        assert np.array_equal(read_mask(path), ~np.kron(HOLE, np.ones((12, 12), bool))), colours


def test_colours_on_white_are_hole_if_the_known_region_is_white(tmp_path):
    for colour in ([255, 0, 0], [255, 255, 0], [0, 0, 0], [120, 120, 120], [250, 250, 250]):
        path = save(tmp_path / "mask.png", paint(colour, [0, 0, 0], on=255, hole=LARGE_HOLE))
        assert np.array_equal(read_mask(path, "black"), ~LARGE_HOLE), colour


@pytest.mark.parametrize("label", [1, 2, 200, 300, 65535])
def test_labels_of_16_bits_are_hole(tmp_path, label):
    cv2.imwrite(str(tmp_path / "labels.png"), LARGE_HOLE * np.uint16(label))
    assert np.array_equal(read_mask(tmp_path / "labels.png"), ~LARGE_HOLE)


def test_label_palettes_instances_and_video_levels(tmp_path):
    voc = Image.fromarray(LARGE_HOLE * np.uint8(15), mode="P")
    voc.putpalette([0, 0, 0] * 15 + [192, 128, 128])
    assert np.array_equal(read_mask(save(tmp_path / "voc.png", voc)), ~LARGE_HOLE)
    instances = np.kron(np.arange(60).reshape(6, 10), np.ones((8, 8))).astype(np.uint8)
    instances[::8] = instances[:, ::8] = 0
    assert np.array_equal(read_mask(save(tmp_path / "instances.png", instances)), instances == 0)
    void = np.where(LARGE_HOLE, 7, 0).astype(np.uint8)
    void = np.where(LARGE_HOLE ^ np.roll(LARGE_HOLE, 2, (0, 1)), 255, void).astype(np.uint8)  # VOC's borders
    assert np.array_equal(read_mask(save(tmp_path / "void.png", void)), void == 0)
    video = np.where(LARGE_HOLE, 235, 16).astype(np.uint8)
    assert np.array_equal(read_mask(save(tmp_path / "video.png", video)), ~LARGE_HOLE)


def test_a_grey_object_next_to_a_white_one_is_hole(tmp_path):
    pixels = np.zeros((60, 60), np.uint8)
    pixels[5:20, 5:20], pixels[40:50, 5:50], pixels[30, 5:50] = 255, 90, 60
    assert np.array_equal(read_mask(save(tmp_path / "mask.png", pixels)), pixels == 0)


def test_labels_next_to_antialiased_white_are_hole(tmp_path):
    white = Image.new("L", (120, 60))
    ImageDraw.Draw(white).ellipse((4, 4, 50, 50), fill=255)
    pixels = np.array(white.resize((90, 45), Image.Resampling.LANCZOS))
    pixels[10:40, 50:65], pixels[10:40, 70:85] = 1, 2
    mask = read_mask(save(tmp_path / "mask.png", pixels))
    assert (mask[10:40, 50:65] == 0).all()
    assert (mask[10:40, 70:85] == 0).all()
    assert (mask[:, 85:] == 1).all()


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
@pytest.mark.parametrize("radius", [0, 1, 4, 12])
def test_blur_and_compression_noise_are_thresholded_at_128(tmp_path, suffix, radius):
    size = 40 * max(1, radius)
    sharp = Image.new("L", (size, size))
    sharp.paste(255, (size // 3, size // 4, size // 2, size // 2))
    blurred = sharp.filter(ImageFilter.GaussianBlur(radius / 4))
    blurred.save(tmp_path / f"mask.{suffix}", quality=90)
    decoded = np.asarray(Image.open(tmp_path / f"mask.{suffix}").convert("L"))
    Image.fromarray(decoded).save(tmp_path / "again.png")  # the noise without its format
    for name in (f"mask.{suffix}", "again.png"):
        assert np.array_equal(read_mask(tmp_path / name), decoded < 128), name


@pytest.mark.parametrize("labels", [(2,), (3,), (20,), (31,), (20, 250), (9, 100)], ids=str)
@pytest.mark.parametrize("quality", [75, 95])
def test_small_labels_are_rejected_in_jpegs_which_change_them(tmp_path, labels, quality):
    """Labels next to a brighter one are no tail of its blur."""
    hole = np.kron(HOLE, np.ones((12, 12), bool))
    path = save(tmp_path / "mask.jpg", paint(*([label] * 3 for label in labels), hole=hole), quality=quality)
    with pytest.raises(InputError, match=r"mask\.jpg: is a JPEG with areas that differ .* save the mask as PNG"):
        read_mask(path)


@pytest.mark.parametrize("known", [0, 1, 5, 16])
def test_a_known_region_that_is_almost_black_is_known_in_jpegs(tmp_path, known):
    hole = np.kron(HOLE, np.ones((12, 12), bool))
    path = save(tmp_path / "mask.jpg", np.where(hole, 255, known).astype(np.uint8), quality=75)
    assert np.array_equal(read_mask(path), ~hole)
    assert read_mask(save(tmp_path / "none.jpg", np.full((32, 48), known, np.uint8))).all()


def test_the_hole_may_be_transparent(tmp_path):
    alpha = np.where(HOLE, 0, 255).astype(np.uint8)
    assert np.array_equal(read_mask(save(tmp_path / "rgba.png", np.dstack([RGB, alpha])), "transparent"), ~HOLE)
    palette = Image.fromarray(HOLE.astype(np.uint8), mode="P")
    palette.putpalette([9, 9, 9, 9, 9, 9])
    assert np.array_equal(read_mask(save(tmp_path / "p.png", palette, transparency=1), "transparent"), ~HOLE)
    with pytest.raises(InputError, match=r"opaque\.png: has no transparency, so hole=transparent finds no hole"):
        read_mask(save(tmp_path / "opaque.png", RGB), "transparent")


def test_jpegs_by_other_names_avif_and_gif_are_read(tmp_path):
    few_colours = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(read_image(save(tmp_path / "a.gif", few_colours)), np.asarray(few_colours.convert("RGB")))
    save(tmp_path / "a.jpe", RGB, quality=95, subsampling=0).rename(tmp_path / "a.jfif")
    assert read_image(tmp_path / "a.jfif").shape == RGB.shape
    if ".avif" in readers.IMAGE_SUFFIXES:
        assert read_image(save(tmp_path / "a.avif", RGB, quality=95)).shape == RGB.shape


@pytest.mark.parametrize("read", [read_image, read_stored, read_mask, read_edges])
def test_pipes_and_devices_are_not_opened(tmp_path, read):
    """Opening a pipe without a writer would block forever."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "device.png"):
        with pytest.raises(InputError, match=f"{name}: is a pipe or device, not a file"):
            read(tmp_path / name)


@pytest.mark.parametrize("orientation", [1, 6])
def test_heif_is_read_upright(tmp_path, orientation):
    heif = pytest.importorskip("pillow_heif", reason="HEIF needs the extra heic")
    smooth = np.broadcast_to(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], (32, 48, 3)).copy()
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = heif.from_pillow(Image.fromarray(smooth))
    encoded.save(tmp_path / "a.HEIC", quality=90, exif=exif.tobytes())
    upright = smooth if orientation == 1 else np.rot90(smooth, -1)
    read = read_image(tmp_path / "a.HEIC")
    assert read.shape == upright.shape
    assert abs(read.astype(int) - upright).max() <= 8


@pytest.mark.parametrize("lines", ["white", "black"])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P"])
def test_edges_are_the_lines_of_the_chosen_colour(tmp_path, lines, mode):
    drawn = np.zeros((6, 9), bool)
    drawn[2] = True
    pixels = np.where(drawn == (lines == "white"), 255, 0).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "sketch.png")
    edges = read_edges(tmp_path / "sketch.png", lines)
    assert edges.dtype == np.uint8
    assert (edges == drawn).all()


@pytest.mark.parametrize(("lines", "colour"), [("white", 255), ("black", 0)])
def test_transparent_pixels_of_a_sketch_contain_no_line(tmp_path, lines, colour):
    layer = np.zeros((6, 9, 4), np.uint8)
    layer[2] = (colour, colour, colour, 255)
    Image.fromarray(layer).save(tmp_path / "sketch.png")
    edges = read_edges(tmp_path / "sketch.png", lines)
    assert (edges == (layer[..., 3] > 0)).all()


def test_rejects_other_line_colours(tmp_path):
    with pytest.raises(InputError, match="lines must be 'white' or 'black', got 'red'"):
        read_edges(tmp_path / "sketch.png", "red")


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    suffix=st.sampled_from(["png", "bmp", "tif", "webp"]),
    hole=st.sampled_from(["white", "black"]),
)
def test_written_pixels_are_read_unchanged(tmp_path_factory, pixels, suffix, hole):
    path = tmp_path_factory.getbasetemp() / f"round_trip.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    assert np.array_equal(read_image(save(path, pixels, **options)), pixels)
    known = pixels[..., 0] >= 128
    painted = known if hole == "black" else ~known
    assert np.array_equal(read_mask(save(path, painted * np.uint8(255), **options), hole), known)
    lines = read_edges(path, "white")
    assert np.array_equal(lines, painted)
