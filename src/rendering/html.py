"""HTML templates, which escape their values, and images embedded in pages."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),  # this file's directory, in a checkout or when installed
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def png_url(pixels: NDArray[np.uint8]) -> str:
    """Return an image (H, W, 3) as a URL that contains its pixels and no metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return data_url("image/png", buffer.getvalue())


def data_url(kind: str, content: bytes) -> str:
    """Return a URL that contains a file of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
