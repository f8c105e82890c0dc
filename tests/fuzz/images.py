"""Fuzzed images, masks and edges: valid files, and checks of what their readers return."""

import shutil
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

from src.image_files.binary_images import read_edges, read_mask
from src.image_files.reading import read_image
from src.masks.folder import MaskFolder


def image_files() -> dict[str, bytes]:
    """Return images, masks and edges of all formats, by name."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :40]
    rgb = np.stack([128 + 100 * np.sin((x + c * y) / 9) for c in range(3)], -1).astype(np.uint8)
    mask = np.zeros((24, 40), np.uint8)
    mask[4:12, 8:20] = 255
    deep = rng.integers(0, 65536, (24, 40, 3), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo, palette = Image.fromarray(rgb), Image.fromarray(rgb).quantize(16)
    see_through = Image.fromarray(np.dstack([rgb, mask]))

    def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
        stream = BytesIO()
        image.save(stream, format=file_format, **options)
        return stream.getvalue()

    def by_opencv(samples: np.ndarray, suffix: str, *options: int) -> bytes:
        return cv2.imencode(suffix, samples, options)[1].tobytes()

    return {
        "photo.png": saved(photo, "PNG", exif=exif, icc_profile=srgb),
        "mask.png": saved(Image.fromarray(mask), "PNG"),
        "palette.png": saved(palette, "PNG", transparency=1),
        "alpha.png": saved(see_through, "PNG"),
        "one_bit.png": saved(Image.fromarray(mask > 0), "PNG"),
        "deep.png": by_opencv(deep, ".png"),
        "deep_grey.png": by_opencv(deep[..., 0], ".png"),
        "photo.jpg": saved(photo, "JPEG", exif=exif, icc_profile=srgb),
        "progressive.jpg": saved(photo, "JPEG", progressive=True),
        "grey.jpg": saved(Image.fromarray(mask), "JPEG"),
        "cmyk.jpg": saved(photo.convert("CMYK"), "JPEG"),
        "phone.jpg": saved(photo, "MPO", save_all=True, append_images=[photo]),
        "lossy.webp": saved(photo, "WEBP", exif=exif, icc_profile=srgb),
        "lossless.webp": saved(see_through, "WEBP", lossless=True),
        "photo.bmp": saved(photo, "BMP"),
        "palette.bmp": saved(palette, "BMP"),
        "one_bit.bmp": saved(Image.fromarray(mask > 0), "BMP"),
        "photo.tif": saved(photo, "TIFF", exif=exif, icc_profile=srgb),
        "lzw.tif": saved(photo, "TIFF", compression="tiff_lzw"),
        "deflate.tif": saved(see_through, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": saved(photo, "TIFF", compression="jpeg"),
        "fax.tif": saved(Image.fromarray(mask > 0), "TIFF", compression="group4"),
        "palette.tif": saved(palette, "TIFF"),
        "deep.tif": by_opencv(deep, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1),
        "deep_lzw.tif": by_opencv(deep, ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 5),
        "float.tif": by_opencv((deep / 65535).astype(np.float32), ".tif"),
        "double.tif": by_opencv(deep[..., 0] / 65535, ".tif"),
    }


def read_any_image(path: Path, rng: Random) -> None:
    """Read a file as an image, a mask or edges, or as a directory of masks."""
    kind = rng.randrange(3)
    if kind == 0:
        read = read_image(path, rng.choice((None, None, 1, 10, 5000)))
        assert read.ndim == 3, read.shape
        assert read.shape[2] == 3, read.shape
    elif kind == 1:
        read = read_mask(path, rng.choice(("white", "black")))
    else:
        read = read_edges(path, rng.choice(("white", "black")))
    if kind:
        assert read.ndim == 2, read.shape
        assert read.max() <= 1
    assert read.dtype == np.uint8
    assert read.size > 0
    if kind == 1 and rng.random() < 0.1:
        folder = path.with_name("masks")
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / path.name)
        try:
            mask = MaskFolder(str(folder))((16, 24), np.random.default_rng(0), (0.0, 1.0))
            assert mask.shape == (16, 24)
        finally:
            (folder / path.name).unlink()
