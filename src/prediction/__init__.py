"""Filling the holes of pictures with any method: `load(...)`, then `model(image, mask)`."""

from src.prediction.inpainter import Inpainter, load, methods_without_weights
from src.prediction.sizes import Size, Whole

__all__ = ["Inpainter", "Size", "Whole", "load", "methods_without_weights"]
