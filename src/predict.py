"""Fill the holes of pictures: `python -m src.predict ckpt=best.ckpt image=photo.jpg mask=mask.png output=out.png`."""

import sys
from pathlib import Path
from typing import Literal

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.progress import track

from src.data.pairs import pair_with_masks, pictures_at
from src.data.readers import PICTURE_SUFFIXES, UInt8Array, read_image, read_mask
from src.devices import chosen_device
from src.errors import InputError, reports_input_errors
from src.modules.checkpoint import load_checkpoint
from src.networks.interface import InpaintingNetwork, composite

MOSTLY_HOLE = 0.6
"""Above this hole share, the last bin of the papers' protocols, the polarity is worth a question."""

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
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise InputError(f"still to be given: {', '.join(f'{key}=' for key in missing)}")
    pairs = pair_with_masks(pictures_at(cfg.image, "image"), pictures_at(cfg.mask, "mask"), cfg.one_mask_for_all)
    outputs = _output_paths([image for image, _ in pairs], Path(cfg.output).expanduser())
    for (image, mask), output in zip(pairs, outputs, strict=True):
        if output.resolve() in (image.resolve(), mask.resolve()):
            raise InputError(f"output={output} would overwrite its own input")
    network = _network(cfg.ckpt, cfg.model)
    device = chosen_device(cfg.device)
    network.to(device)
    for (image, mask), output in track(list(zip(pairs, outputs, strict=True)), description="filling"):
        filled = _fill(network, image, mask, cfg.hole, device)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(filled).save(output, quality=JPEG_QUALITY)  # other formats ignore it
        except OSError as error:
            raise InputError(f"output={output} can't be written: {error.strerror or error}") from error
    return outputs


def _network(ckpt: str | None, method: str | None) -> InpaintingNetwork:
    if (ckpt is None) == (method is None):
        raise InputError("give ckpt=<a checkpoint of src.train> or model=<a method without weights>, one of them")
    if ckpt is not None:
        return load_checkpoint(ckpt).network
    configs = {file.stem: OmegaConf.load(file) for file in sorted(MODELS.glob("*.yaml"))}
    without_weights = [name for name, config in configs.items() if "training" not in config]
    if method not in without_weights:
        raise InputError(f"model={method}: methods without weights are {', '.join(without_weights)}; others need ckpt=")
    network: InpaintingNetwork = instantiate(configs[method].network)
    return network.eval()


def _output_paths(images: list[Path], output: Path) -> list[Path]:
    if len(images) == 1 and not output.is_dir() and output.suffix:
        if output.suffix.lower() not in PICTURE_SUFFIXES:
            raise InputError(f"output={output}: the suffix must be one of {', '.join(sorted(PICTURE_SUFFIXES))}")
        return [output]
    if output.is_file() or output.suffix.lower() in PICTURE_SUFFIXES:
        raise InputError(f"output={output} is one file for {len(images)} pictures: name a folder")
    paths = [output / f"{image.stem}.png" for image in images]  # PNG keeps the known pixels as they are
    if len(set(paths)) < len(paths):
        raise InputError(
            f"image= holds pictures of one name with several suffixes, which would share a file in {output}"
        )
    return paths


def _fill(
    network: InpaintingNetwork, image_path: Path, mask_path: Path, hole: Literal["white", "black"], device: torch.device
) -> UInt8Array:
    pixels, known = read_image(image_path), read_mask(mask_path, hole)
    if pixels.shape[:2] != known.shape:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (pixels, known)]
        raise InputError(f"{mask_path} is {sizes[1]}, {image_path} is {sizes[0]}: a mask must have its picture's size")
    share = 1 - known.mean()
    if share == 0:
        _warn(f"{mask_path} has no hole ({hole} is the hole): {image_path} stays as it is")
    elif share > MOSTLY_HOLE:
        other = "black" if hole == "white" else "white"
        _warn(f"{mask_path}: {share:.1%} of {image_path} is hole ({hole}); the other way round it is hole={other}")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device).float() / 255
    mask = torch.from_numpy(known)[None, None].to(device).float()
    with torch.inference_mode():
        filled = composite(image, mask, network(image, mask))
    return (filled[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()


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
