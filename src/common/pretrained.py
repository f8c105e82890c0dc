"""Published weight files: found in torch.hub's cache or at a path, checked, and read without running pickled code."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from src.common.errors import InputError
from src.common.tensor_files import read_tensor_file

ANSWER_WITHIN_S = 20.0


class MissingWeightsError(InputError):
    """A published weight file is neither here nor to be had: the message says which, where it goes, what else to do."""


@dataclass(frozen=True)
class PublishedWeights:
    """One published weight file.

    Args:
        network: what the weights are of, for messages.
        url: whence.
        sha256: of the file, all 64 digits; torch.hub's names hold the first 8, which a forger can match.
        otherwise: the last sentence of the message where the file can't be had: how to go on without it.
    """

    network: str
    url: str
    sha256: str
    otherwise: str

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return Path(urlparse(self.url).path).name

    @property
    def cache_path(self) -> Path:
        """Where torchvision keeps the file too, so that one copy serves both."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file_name

    def load(self, weights: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """The tensors named in `shapes`, on the CPU; what else the file holds is left out.

        Args:
            weights: "pretrained" for the published file, from torch.hub's cache or the network, its SHA-256 checked;
                else the path of a file with the same entries, which is taken as it is.
        Raises:
            MissingWeightsError: the published file is not in the cache and could not be fetched.
            InputError: a file is damaged, can't be read, or lacks one of the entries.
        """
        path = self.cache_path if weights == "pretrained" else Path(weights).expanduser()
        if weights == "pretrained":
            self._fetch(path)
        elif not path.is_file():
            raise InputError(f"no weights of {self.network} at {path}: give a file's path, or pretrained")
        state = read_tensor_file(path, f"file of {self.network}")
        for key, shape in shapes.items():
            if not isinstance(state, dict) or not isinstance(state.get(key), Tensor) or state[key].shape != shape:
                raise InputError(f"{path} holds no weights of {self.network}: it lacks {key} of shape {shape}")
        return {key: state[key].float() for key in shapes}

    def _fetch(self, path: Path) -> None:
        """Leave the published file at `path`, its SHA-256 checked whether it is fetched now or was there before."""
        if not path.exists():
            try:
                # torch.hub waits without limit for a host that never answers.
                urlopen(Request(self.url, method="HEAD"), timeout=ANSWER_WITHIN_S).close()
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(self.url, str(path), hash_prefix=self.sha256, progress=False)
            except (OSError, HTTPException, RuntimeError) as error:
                raise MissingWeightsError(
                    f"the weights of {self.network} are not at {path} and could not be fetched ({error}). "
                    f"Download {self.url} (its SHA-256 is {self.sha256}) and put it there. "
                    f"{self.otherwise}"
                ) from error
            return
        sha256 = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha256.update(block)
        if sha256.hexdigest() != self.sha256:
            raise InputError(
                f"{path} is damaged: its SHA-256 is {sha256.hexdigest()}, not {self.sha256}. Delete it, or fetch it "
                f"again from {self.url}"
            )
