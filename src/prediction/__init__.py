"""Inpainting with any method: `load(...)`, then `model(image, mask)`."""

from src.prediction.inpainter import Inpainter
from src.prediction.loading import list_classical_methods, load
from src.prediction.sizes import Reduced, SizeStrategy, Whole
from src.prediction.tiles import Tiled
from src.prediction.windows import AroundHoles

__all__ = ["AroundHoles", "Inpainter", "Reduced", "SizeStrategy", "Tiled", "Whole", "list_classical_methods", "load"]
