"""How this package's HTML is made: its templates, which escape what is put into them, and pictures inside a page."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),  # beside this file, in a checkout and when installed alike
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def png_url(pixels: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) as a URL that holds its pixels, and nothing else that a file says of itself."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return data_url("image/png", buffer.getvalue())


def data_url(kind: str, content: bytes) -> str:
    """A URL that holds a file of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
