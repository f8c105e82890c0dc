"""Notes for a report: how our experiment departs from the paper's."""

from collections.abc import Sequence

from omegaconf import DictConfig

from src.evaluation.frozen_test import crop_size
from src.reproduction.papers import PaperFigure, PaperTable
from src.reproduction.planning import command_overrides
from src.reproduction.row_tests import mask_for_testing
from src.reproduction.runs import Run
from src.training.resume.identity import IRRELEVANT_OPTIONS

HIDDEN_KEYS = set().union(*IRRELEVANT_OPTIONS.values()) | {
    *("table", "scale", "study", "rows", "seeds", "data", "mask", "root", "images", "pictures", "overrides"),
    *("checkpoints", "test_masks_per_bin", "test_mask", "test_size", "devices", "num_nodes"),
    *("progress", "health", "references", "attention", "report"),  # callbacks
}
"""Last parts of keys that a report does not list: it shows their effect elsewhere, or they have none on the scores."""

SCALE_CAVEATS = {
    "small": "Values are not comparable with the printed ones: images and networks are smaller, training is shorter.",
    "mini": "Values are not comparable with the printed ones; at most signs and order of the rows' differences are.",
    "smoke": "A few steps of a very narrow network: the numbers are meaningless.",
}
"""What the numbers of a scale below the paper's are worth."""


def describe_departures(cfg: DictConfig, made: PaperTable | PaperFigure, runs: Sequence[Run]) -> list[str]:
    """Return one note for each difference from the paper's experiment."""
    row_cfg = runs[0].config
    notes = []
    if cfg.scale.name in SCALE_CAVEATS:
        notes.append(
            f"Scale {cfg.scale.name} instead of the paper's experiment: {row_cfg.scale.image_size} px, "
            f"{row_cfg.scale.width:g} of the channels, {row_cfg.trainer.max_steps} generator steps. "
            f"{SCALE_CAVEATS[cfg.scale.name]}"
        )
    for what, printed, ours in (("Data", made.data, row_cfg.data.name), ("Masks", made.mask, row_cfg.mask.name)):
        if printed not in (None, ours):
            notes.append(f"{what}: {ours} instead of {printed}.")
    notes += _test_departures(made, row_cfg)
    losses = [run.config.loss for run in runs if "loss" in run.config]  # absent in rows that are not trained
    features = {str(loss.features.weights) for loss in losses if "features" in loss}
    if features - {"pretrained"}:
        state = "off" if features == {"none"} else "computed with other weights"
        notes.append(
            "The perceptual and style losses, which compare features of a pretrained VGG network, are "
            f"{state} (loss.features.weights={', '.join(features)})."
        )
    keys = {override: override.partition("=")[0].split(".") for override in command_overrides(cfg)}
    listed = [override for override, key in keys.items() if key[-1] not in HIDDEN_KEYS and key[0] != "logger"]
    if listed:
        notes.append(f"Overridden on the command line: {' '.join(listed)}.")
    return notes


def _test_departures(made: PaperTable | PaperFigure, row_cfg: DictConfig) -> list[str]:
    """Return notes on test masks and sizes other than the printed ones, unless a note on training covers them."""
    notes = []
    masks, printed = mask_for_testing(row_cfg).name, getattr(made, "test_mask", None) or made.mask
    if masks not in (printed, row_cfg.mask.name):
        notes.append(f"Test masks: {masks} instead of {printed}.")
    size, printed_size = crop_size(row_cfg), getattr(made, "test_size", None)
    if printed_size not in (None, size):
        notes.append(
            f"Test images: {size[0]}x{size[1]} px instead of {printed_size[0]}x{printed_size[1]}; training crops are "
            f"{row_cfg.scale.image_size}x{row_cfg.scale.image_size}."
        )
    return notes
