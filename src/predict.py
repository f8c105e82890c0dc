"""Fill the holes of pictures: `python -m src.predict ckpt=best.ckpt image=photo.jpg mask=mask.png output=out.png`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.progress import track
from torch import Tensor

from src.data.pairs import paired, pictures_at
from src.data.readers import PICTURE_SUFFIXES, UInt8Array, read_edges, read_image, read_mask
from src.devices import chosen_device
from src.errors import InputError, reports_input_errors, require_all_keys
from src.files import written_whole
from src.modules.checkpoint import load_checkpoint
from src.networks.interface import InpaintingNetwork, composite
from src.networks.layers.canny import Canny
from src.reporting.figures import inner_figures
from src.reporting.pictures import save_grid

MOSTLY_HOLE = 0.6
"""Above this hole share, the last bin of the papers' protocols, the polarity is worth a question."""

MOSTLY_LINES = 0.5
"""Above this share of lines, the colour of a sketch's lines is worth a question."""

JPEG_QUALITY = 95
"""Pillow's own 75 would be seen in the known pixels."""

MODELS = Path(__file__).parents[1] / "conf" / "model"


def predict(cfg: DictConfig) -> list[Path]:
    """Fill as conf/predict/config.yaml composes.

    Returns:
        The files written, one a picture.

    Raises:
        InputError: a file is missing, unreadable or would be overwritten; a mask does not fit its picture.
    """
    require_all_keys(cfg)
    images = pictures_at(cfg.image, "image")
    masks = dict(paired(images, pictures_at(cfg.mask, "mask"), "mask", cfg.one_mask_for_all))
    edges = {} if cfg.edges is None else dict(paired(images, pictures_at(cfg.edges, "edges"), "edges"))
    outputs = _output_paths(images, Path(cfg.output).expanduser())
    inputs = {path.resolve() for path in (*images, *masks.values(), *edges.values())}
    for output in outputs:
        if output.resolve() in inputs:
            raise InputError(f"output={output} would overwrite its own input")
    network = _network(cfg.ckpt, cfg.model)
    if edges and not network.takes_edges:
        raise InputError(f"edges={cfg.edges}: {type(network).__name__} takes none; edge_lbam does")
    device = chosen_device(cfg.device)
    network.to(device)
    for path, output in track(list(zip(images, outputs, strict=True)), description="filling"):
        image, mask = _read(path, masks[path], cfg.hole, device)
        drawn = _read_edges(edges[path], cfg.lines, path, image, mask, network.canny) if edges else None
        try:
            filled = _eight_bit(fill(network, image, mask, drawn))
            figures = {} if cfg.figures is None else inner_figures(network, image, mask, drawn)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (RuntimeError, MemoryError) as error:
            _refuse_for_lack_of_memory(error, path, image, device)
            raise
        for name, figure in figures.items():
            save_grid(figure, Path(cfg.figures).expanduser() / f"{path.stem}_{name}.png")
        _write(filled, output)
    return outputs


def fill(network: InpaintingNetwork, image: Tensor, mask: Tensor, edges: Tensor | None = None) -> Tensor:
    """Fill the holes of a batch; known pixels stay as they are.

    It looks at values, as a network's `forward` does not: that is called in every step of a training, whose data were
    looked at when they were read.

    Shapes:
        as of `InpaintingNetwork.forward`; returns (B, 3, H, W) in [0, 1].
    Raises:
        InputError: a known pixel is no number in [0, 1], the mask has values between 0 and 1, or the network answers
            with something other than numbers, as one does whose weights are none.
        ValueError: a shape is another.
    """
    if not ((mask == 0) | (mask == 1)).all():
        raise InputError("the mask must hold 0 (hole) and 1 (known), and nothing else")
    if not ((mask == 0) | ((image >= 0) & (image <= 1))).all():  # NaN is neither
        raise InputError("the known pixels of the image must be numbers in [0, 1]")
    with torch.inference_mode():
        filled = composite(image, mask, network(image, mask, edges))
    if not filled.isfinite().all():
        raise InputError(f"{type(network).__name__} fills in NaN or infinity: its weights are not those of a good run")
    return filled


def _write(picture: UInt8Array, output: Path) -> None:
    file_format = Image.registered_extensions()[output.suffix.lower()]
    with written_whole(output) as unfinished:
        try:
            Image.fromarray(picture).save(unfinished, format=file_format, quality=JPEG_QUALITY)  # others ignore it
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(
                f"output={output} can't be written as {file_format}: {error}"
            ) from error  # a side too long


def _network(ckpt: str | None, method: str | None) -> InpaintingNetwork:
    if (ckpt is None) == (method is None):
        raise InputError("give ckpt=<a checkpoint of src.train> or model=<a method without weights>, one of them")
    if ckpt is not None:
        return load_checkpoint(ckpt).network
    configs = {file.stem: OmegaConf.load(file) for file in sorted(MODELS.glob("*.yaml"))}
    # A release builds on its paper's model, and trains as that does.
    without_weights = [name for name, config in configs.items() if not {"training", "defaults"} & config.keys()]
    if method not in without_weights:
        raise InputError(f"model={method}: methods without weights are {', '.join(without_weights)}; others need ckpt=")
    network: InpaintingNetwork = instantiate(configs[method].network)
    return network.eval()


def _output_paths(images: list[Path], output: Path) -> list[Path]:
    if len(images) == 1 and not output.is_dir() and output.suffix:
        if output.suffix.lower() not in PICTURE_SUFFIXES:
            raise InputError(f"output={output}: the suffix must be one of {', '.join(sorted(PICTURE_SUFFIXES))}")
        return [output]
    if output.is_file() or (output.suffix.lower() in PICTURE_SUFFIXES and not output.is_dir()):
        raise InputError(f"output={output} is one file for {len(images)} pictures: name a folder")
    paths = [output / f"{image.stem}.png" for image in images]  # PNG keeps the known pixels as they are
    if len(set(paths)) < len(paths):
        raise InputError(
            f"image= holds pictures of one name with several suffixes, which would share a file in {output}"
        )
    return paths


def _read(
    image_path: Path, mask_path: Path, hole: Literal["white", "black"], device: torch.device
) -> tuple[Tensor, Tensor]:
    pixels, known = read_image(image_path), read_mask(mask_path, hole)
    _refuse_another_size(mask_path, known, image_path, pixels.shape[:2])
    share = 1 - known.mean()
    if share == 0:
        _warn(f"{mask_path} has no hole ({hole} is the hole): {image_path} stays as it is")
    elif share > MOSTLY_HOLE:
        other = "black" if hole == "white" else "white"
        _warn(f"{mask_path}: {share:.1%} of {image_path} is hole ({hole}); the other way round it is hole={other}")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device).float() / 255
    return image, torch.from_numpy(known)[None, None].to(device).float()


def _read_edges(
    path: Path, lines: Literal["white", "black"], image_path: Path, image: Tensor, mask: Tensor, canny: Canny
) -> Tensor:
    """The drawing in the hole; where the picture is known, its own edges."""
    drawn = read_edges(path, lines)
    _refuse_another_size(path, drawn, image_path, image.shape[-2:])
    if drawn.mean() > MOSTLY_LINES:
        other = "black" if lines == "white" else "white"
        _warn(f"{path}: {drawn.mean():.1%} of it is line ({lines}); the other way round it is lines={other}")
    return torch.where(mask > 0, canny.known_edges(image, mask), torch.from_numpy(drawn).to(mask))


def _refuse_another_size(path: Path, read: UInt8Array, image_path: Path, size: Sequence[int]) -> None:
    if read.shape != tuple(size):
        sizes = [f"{width}x{height}" for height, width in (read.shape, size)]
        raise InputError(f"{path} is {sizes[0]}, {image_path} is {sizes[1]}: both must have the same size")


def _refuse_for_lack_of_memory(error: Exception, path: Path, image: Tensor, device: torch.device) -> None:
    # The CPU's allocator raises a plain RuntimeError, a GPU's a kind of its own, numpy's a MemoryError.
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        height, width = image.shape[-2:]
        raise InputError(
            f"{path}, {width}x{height}: too large for the memory of this {device.type}: shrink it and its mask, or "
            "take another model"
        ) from error


def _eight_bit(picture: Tensor) -> UInt8Array:
    return (picture[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


@hydra.main(version_base="1.3", config_path="../conf/predict", config_name="config")
@reports_input_errors
def main(cfg: DictConfig) -> None:
    """Fill, and say what was written."""
    outputs = predict(cfg)
    print(f"wrote {outputs[0]}" if len(outputs) == 1 else f"wrote {len(outputs)} pictures to {outputs[0].parent}")


if __name__ == "__main__":
    main()
