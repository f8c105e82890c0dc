"""Images that another program wrote for the samples of a test, scored as the output of a method."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.common.errors import InputError
from src.common.provenance import ResultsFacts
from src.image_files.matching import FoundFiles, find_files, group_by_name
from src.image_files.reading import UInt8Array, read_image
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.training.module import Batch, InpaintingModule

MAX_NAMED = 10
"""Number of files that a message names."""

SUSPECT_PERCENT = 10.0
"""Mean difference of the known pixels, in % of the range, above which the files may belong to other images. Ours."""

_KNOWN = "known_difference"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResultFile:
    """A file for one sample of a test, and the SHA-256 of its content."""

    path: Path
    sha256: str


class StoredResults(InpaintingNetwork):
    """The image files of another program for the samples of one test; they fill no other image.

    Args:
        directory: where they are, as the user wrote it.
        files: one file for each sample of the test, in order.
    """

    def __init__(self, directory: str, files: Sequence[ResultFile]) -> None:
        super().__init__()
        self.directory, self.files = directory, files

    @classmethod
    def find(cls, name: str, directory: str, samples: Sequence[str], size: tuple[int, int]) -> "StoredResults":
        """Find and read the file of every sample.

        Args:
            name: of the method, for messages.
            samples: names of the samples, as `sample_names` returns them; a file is matched as `predict` matches masks.
            size: (H, W) of the test's crops.
        Raises:
            InputError: files are missing, ambiguous, unreadable or of another size; up to ten are named.
        """
        key = f"results.{name}"
        if not Path(directory).expanduser().is_dir():
            raise InputError(f"{key}={directory}: no such directory")
        found = find_files(directory, key)
        images = [Path(f"{sample}.png") for sample in samples]
        flat = FoundFiles(Path(), tuple(images))
        matches = group_by_name(flat, found, "mask")
        if missing := [sample for sample, image in zip(samples, images, strict=True) if not matches[image]]:
            raise InputError(
                f"{key}={directory} lacks the results of {_listed(missing)}, {len(missing)} of the {len(samples)} "
                "samples of this test: export_inputs=<directory> writes the inputs with the names that are expected"
            )
        if several := [f"{', '.join(map(str, paths))}" for paths in matches.values() if len(paths) > 1]:
            raise InputError(
                f"{key}={directory} has several files for one sample: {_listed(several)}: keep one of each"
            )
        files, problems = [], []
        for image in images:
            path = matches[image][0]
            try:
                height, width = read_image(path).shape[:2]
            except InputError as error:
                problems.append(str(error))
                continue
            if (height, width) != size:
                problems.append(f"{path} is {width}x{height}")
            files.append(ResultFile(path, hashlib.sha256(path.read_bytes()).hexdigest()))
        if problems:
            raise InputError(
                f"{key}={directory}: {len(problems)} of {len(images)} files can't be scored, as crops are "
                f"{size[1]}x{size[0]} px (width x height) and nothing is resized: {_listed(problems)}"
            )
        return cls(directory, files)

    @property
    def sha256(self) -> str:
        """SHA-256 of the contents of all files, in order."""
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()

    def read(self, indices: Sequence[int]) -> Tensor:
        """Return the images of some samples by index: (B, 3, H, W) in [0, 1]."""
        # As crops are converted, so that equal pixels are equal numbers.
        pixels: list[UInt8Array] = [read_image(self.files[index].path) for index in indices]
        return torch.from_numpy(np.divide(np.stack(pixels).transpose(0, 3, 1, 2), 255, dtype=np.float32, order="C"))

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        """Raise InputError, as there is no program to fill an image with."""
        raise InputError(f"{self.directory} holds results for one test only and can't fill other images")

    def facts(self, rows: Sequence[dict[str, Any]]) -> ResultsFacts:
        """Summarise the difference at known pixels that a `ResultsModule` has left in its rows, and remove it there."""
        differences = np.array([row.pop(_KNOWN) for row in rows])
        raw = differences[differences > 0]
        percent = 100 * float(raw.mean()) if len(raw) else 0.0
        if percent > SUSPECT_PERCENT:
            worst = self.files[rows[int(differences.argmax())]["index"]].path
            log.warning(
                "%s: known pixels differ from the inputs' by %.0f %% of the range on average, most in %s: check that "
                "the files are named after their inputs, and neither scaled nor shifted",
                self.directory, percent, worst,
            )  # fmt: skip
        composites = int((differences == 0).sum())
        return ResultsFacts(self.directory, self.sha256, len(rows), composites, percent)


class ResultsModule(InpaintingModule):
    """Scores `StoredResults`; the rows also have the mean difference from the input at known pixels."""

    network: StoredResults

    def test_outputs(self, batch: Batch) -> list[InpaintingOutput]:
        """Return the files' pixels."""
        image, mask = batch["image"], batch["mask"]
        prediction = self.network.read(batch["index"].tolist()).to(image.device)
        difference = ((prediction - image).abs() * mask).double().sum((1, 2, 3))
        self._differences = (difference / (3 * mask.double().sum((1, 2, 3))).clamp_min(1)).tolist()
        return [InpaintingOutput(prediction)]

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the files as they are and with known pixels pasted back."""
        super().test_step(batch, batch_idx)
        for row, mean in zip(self.rows[-len(self._differences) :], self._differences, strict=True):
            row[_KNOWN] = mean


def results_note(method: str, facts: ResultsFacts) -> str:
    """Return what a table says about the images of another program."""
    raw = facts.files - facts.composites
    counted = [
        *([f"{facts.composites} composites, whose known pixels equal the input's"] if facts.composites else []),
        *([f"{raw} raw outputs, whose known pixels differ by {facts.known_percent:.2f} % on average"] if raw else []),
    ]
    return (
        f"{method}: {facts.files} images of another program in {facts.path}: {' and '.join(counted)}. Tables show them "
        "with known pixels pasted back."
    )


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
    return ", ".join(items[:MAX_NAMED]) + more
