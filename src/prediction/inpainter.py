"""A method that is ready to fill pictures: `load("best.ckpt")(image, mask)`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from src.checkpoints.reading import load_checkpoint
from src.common.devices import select_device
from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork
from src.prediction.filling import WHOLE, edges_taken, fill
from src.prediction.inputs import Colour, Given, Kind, given_edges, given_image, given_mask
from src.prediction.sizes import Size
from src.rendering.grids import Grid
from src.rendering.network_figures import inner_figures

MODELS = Path(__file__).parents[2] / "conf" / "model"

HUB = "hf://"
"""How the address of a network on the Hugging Face Hub begins."""


class Inpainter:
    """One method with its weights, on its device.

    Images are PIL's of any mode, NumPy's (H, W, 3), uint8 or floats in [0, 1], or tensors (3, H, W) or (B, 3, H, W),
    floats in [0, 1]. A mask that is a PIL image is a picture, `hole` says in which colour; one of numbers has 1 =
    known and 0 = hole, (H, W), or (B, 1, H, W) for a batch. A PIL image that EXIF says to turn is taken upright, its
    mask and edges too, as viewers show all three; results are turned back.

    Attributes:
        name: the model's, as conf/model has it.
        network: in eval mode.
        device: on which it is.
        size: how much of a picture it sees at once.
    """

    def __init__(self, name: str, network: InpaintingNetwork, device: torch.device, size: Size = WHOLE) -> None:
        self.name, self.network, self.device, self.size = name, network.eval().to(device), device, size

    def __call__(
        self,
        image: Kind,
        mask: Given,
        edges: Given | None = None,
        *,
        hole: Colour = "white",
        lines: Colour = "white",
    ) -> Kind:
        """Fill the hole; known pixels come back bit for bit, of a PIL image also transparency, EXIF and profile.

        Args:
            edges: what the hole is to have for edges, in place of the model's own; like the mask a picture, drawn in
                `lines`, or numbers, 1 on a line. Where the picture is known its own count.
            hole: of a PIL mask, the colour that is the hole.
        Returns:
            What the image is: a PIL image of its mode (palettes and single bits become RGB and grey, 16 bits 8), an
            array or a tensor of its type.
        Raises:
            InputError: one of them is of another kind, shape or range; the method takes no edges; the picture is too
                large for the memory.
        """
        taken = given_image(image)
        pixels, known, drawn = self._given(taken.tensor, mask, edges, hole, lines)
        with self._enough_memory(pixels):
            return taken.pasted(fill(self.network, pixels, known, drawn, self.size), known)

    def figures(
        self,
        image: Kind,
        mask: Given,
        edges: Given | None = None,
        *,
        hole: Colour = "white",
        lines: Colour = "white",
    ) -> dict[str, Grid]:
        """What the network does inside, by name: `inner_figures` of the whole picture, as small as `size` shows it."""
        tensors = self._given(given_image(image).tensor, mask, edges, hole, lines)
        with self._enough_memory(tensors[0]):
            pixels, known, drawn = self.size.overview(*tensors)
            return inner_figures(self.network, pixels, known, edges_taken(self.network, pixels, known, drawn))

    def edges(self, image: Kind, mask: Given, *, hole: Colour = "white") -> Image.Image | None:
        """What the network takes for edges, to be changed and given back: white on black, predicted ones in grey.

        They are the known pixels' own and, in the hole, the predicted ones. None of a method without edges.
        """
        if not self.network.takes_edges:
            return None
        tensors = self._given(given_image(image).tensor, mask, None, hole, "white")
        with torch.inference_mode(), self._enough_memory(tensors[0]):
            edges = self.network(*self.size.overview(*tensors)).edges
        whole = F.interpolate(edges, size=tensors[0].shape[-2:], mode="nearest")
        return Image.fromarray((whole[0, 0] * 255).round().byte().cpu().numpy())

    def _given(
        self, pixels: Tensor, mask: Given, edges: Given | None, hole: Colour, lines: Colour
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if edges is not None and not self.network.takes_edges:
            raise InputError(f"edges= is given, but {self.name} takes none; edge_lbam does")
        known = given_mask(mask, pixels, hole)
        drawn = None if edges is None else given_edges(edges, pixels, lines).to(self.device)
        return pixels.to(self.device), known.to(self.device), drawn

    @contextmanager
    def _enough_memory(self, image: Tensor) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            # The CPU's allocator raises a plain RuntimeError, a GPU's a kind of its own, numpy's a MemoryError.
            if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
                height, width = image.shape[-2:]
                raise InputError(
                    f"{width}x{height} is too large for the memory of this {self.device.type}: fill it in tiles or "
                    "reduced (size=), or take another model"
                ) from error
            raise


def load(method: str | Path, *, device: str = "auto", size: Size = WHOLE) -> Inpainter:
    """Get a method ready.

    Args:
        method: a checkpoint of `src.train`, a folder of `src.export`, hf://user/name of the Hugging Face Hub, or the
            name of a method without weights.
        device: auto (a GPU where there is one), cpu, cuda.
        size: how much of a picture it sees at once.
    Raises:
        InputError: there is no such method, its file is damaged, or there is no such device.
    """
    on = select_device(device)
    if method in methods_without_weights():
        network: InpaintingNetwork = instantiate(OmegaConf.load(MODELS / f"{method}.yaml").network)
        return Inpainter(str(method), network, on, size)
    if isinstance(method, str) and method.startswith(HUB):
        method = _downloaded(method)
    if isinstance(method, str) and not Path(method).expanduser().exists():
        raise InputError(
            f"{method}: there is no such checkpoint, and methods without weights are "
            f"{', '.join(methods_without_weights())}"
        )
    checkpoint = load_checkpoint(method)
    name = str(checkpoint.config["model"].get("name") or type(checkpoint.network).__name__)
    return Inpainter(name, checkpoint.network, on, size)


def _downloaded(address: str) -> Path:
    try:
        from src.checkpoints.hub import download  # needs the extra `export`
    except ModuleNotFoundError as error:
        raise InputError(f"{address} needs huggingface-hub: pip install -c constraints.txt -e '.[export]'") from error
    return download(address)


def methods_without_weights() -> tuple[str, ...]:
    """Their names, as conf/model has them."""
    configs = {file.stem: OmegaConf.load(file) for file in sorted(MODELS.glob("*.yaml"))}
    # A release builds on its paper's model, and trains as that does.
    return tuple(name for name, config in configs.items() if not {"training", "defaults"} & config.keys())
