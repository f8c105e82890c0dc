"""Filling the holes of pictures with any method: `load(...)`, then `model(image, mask)`."""

from src.prediction.inpainter import Inpainter, load, methods_without_weights
from src.prediction.sizes import Reduced, Size, Whole
from src.prediction.tiles import Tiled

__all__ = ["Inpainter", "Reduced", "Size", "Tiled", "Whole", "load", "methods_without_weights"]
