"""Inpainting with any method: `load(...)`, then `model(image, mask)`."""

from src.checkpoints.weights import list_classical_methods
from src.prediction.inpainter import Inpainter
from src.prediction.loading import load
from src.prediction.sizes import Reduced, SizeStrategy, Whole
from src.prediction.tiles import Tiled
from src.prediction.windows import AroundHoles

__all__ = ["AroundHoles", "Inpainter", "Reduced", "SizeStrategy", "Tiled", "Whole", "list_classical_methods", "load"]
