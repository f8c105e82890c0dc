"""Build the parts of a training run from its configuration: datamodule, module and callbacks."""

from typing import Any

from hydra.utils import instantiate
from lightning.pytorch import Callback
from omegaconf import DictConfig

from src.checkpoints.reading import Checkpoint, load_checkpoint
from src.checkpoints.weights import load_weights
from src.common.errors import InputError
from src.data.datamodule import InpaintingData
from src.masks.bank import MaskBank, bins_within
from src.masks.paired import PairedMasks
from src.networks.interface import InpaintingNetwork
from src.training.execution import checkpoint_activations, compile_method, compile_network
from src.training.manual_training import ManualTraining
from src.training.resume.checkpoints import ResumePoint, require_same_network


def require_recipe(cfg: DictConfig) -> None:
    """Check that the model can be trained and that its config is complete.

    Raises:
        InputError: the model has no weights, or its batch size, learning rate, length or loss is missing.
    """
    model, scale = cfg.model.name, cfg.scale
    if "training" not in cfg.model:
        raise InputError(f"model={model} has no weights to train: use src.evaluate")
    missing = [f"scale.{key}=" for key in ("batch_size", "learning_rate") if scale[key] is None]
    if all(scale[limit] in (None, -1) for limit in ("max_steps", "max_epochs")):
        missing.append("scale.max_steps= or scale.max_epochs=")
    if missing:
        raise InputError(
            f"conf/model/{model}.yaml does not say how model={model} trains at scale={scale.name}: set "
            f"{', '.join(missing)}, or add batch_size, learning_rate and steps (or epochs) to that file"
        )
    if "loss" not in cfg:
        raise InputError("unknown loss: set loss= to a file of conf/loss, such as lbam or pconv")
    for key in ("start_from", "weights"):
        if cfg.resume not in (None, "auto") and cfg[key] is not None:
            raise InputError(
                f"resume={cfg.resume} and {key}={cfg[key]} exclude each other: resume= continues a run, "
                f"{key}= starts a new one from its weights"
            )


def make_datamodule(cfg: DictConfig) -> InpaintingData:
    """Return the dataset with training masks and a bank of validation masks, or with each image's own masks."""
    data: InpaintingData = instantiate(cfg.data.datamodule)
    generator, hole_ratio = instantiate(cfg.mask.generator), tuple(cfg.mask.hole_ratio)
    if isinstance(generator, PairedMasks):
        return data.with_masks(paired=generator)
    size = (cfg.scale.image_size, cfg.scale.image_size)
    bank = MaskBank.draw(generator, size, cfg.bank_masks_per_bin, cfg.mask_seed, bins_within(hole_ratio))
    return data.with_masks(generator=generator, hole_ratio=hole_ratio, validation_bank=bank)


def make_module(cfg: DictConfig, config: dict[str, Any], start: ResumePoint) -> ManualTraining:
    """Return the module of the model's training procedure, with the weights of `start_from` or `weights`, if set.

    Args:
        config: the resolved `cfg`, which checkpoints keep.
        start: its weights are compared with the module's; Lightning loads them.
    """
    module: ManualTraining = instantiate(cfg.model.training)(
        network=instantiate(cfg.model.network),
        loss=instantiate(cfg.loss),
        accumulate=cfg.accumulate,
        clip_norm=cfg.clip_norm,
        noise_seed=cfg.noise_seed,
    )
    module.run_config = config
    start.check_weights(module.state_dict())
    if cfg.weights is not None:
        found = load_weights(cfg.weights, cfg.model.name, start_from=cfg.start_from)
        _initialise(module.network, f"weights={cfg.weights}", found, config)
    elif cfg.start_from is not None:
        _initialise(module.network, f"start_from={cfg.start_from}", load_checkpoint(cfg.start_from), config)
    if cfg.gradient_checkpointing:
        checkpoint_activations(module.network)
    if cfg.compile:
        compile_network(module.network)
        if module.loss.extractor is not None:
            compile_method(module.loss.extractor)  # not the critics: a gradient penalty is differentiated twice
    return module


def make_callbacks(cfg: DictConfig) -> list[Callback]:
    """Return the callbacks that are not null; the progress bar only if the Trainer shows one.

    There are none without the group, as with callbacks=null.

    Raises:
        InputError: an entry is neither null nor a callback's config.
    """
    callbacks = cfg.get("callbacks") or {}
    for name, callback in callbacks.items():
        if callback is not None and not (isinstance(callback, DictConfig) and "_target_" in callback):
            raise InputError(f"callbacks.{name} must be null or have a _target_, got {callback!r}")
    return [
        instantiate(callback)
        for name, callback in callbacks.items()
        if callback is not None and (name != "progress" or cfg.trainer.enable_progress_bar)
    ]


def _initialise(network: InpaintingNetwork, source: str, checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    require_same_network(source, checkpoint.config, config)
    network.load_state_dict(checkpoint.network.state_dict())
