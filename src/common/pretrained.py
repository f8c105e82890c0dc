"""Published weight files: downloaded to torch.hub's cache, verified, and loaded without running pickled code."""

from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from src.common.errors import InputError
from src.common.provenance import HashedFile
from src.common.tensor_files import read_tensor_file

CONNECT_TIMEOUT_S = 20.0


class MissingWeightsError(InputError):
    """A published weight file is unavailable; the message says which one, where to put it, and the alternatives."""


VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
VGG16_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"


@dataclass(frozen=True)
class PublishedWeights:
    """One published weight file.

    Args:
        network: the network's name in messages.
        url: the download URL.
        sha256: hash of the file; the 8 digits in torch.hub's file names are not secure.
        alternatives: how to proceed without the file; the last sentence of the message if it is unavailable.
    """

    network: str
    url: str
    sha256: str
    alternatives: str

    @property
    def cache_path(self) -> Path:
        """Path of the file in the cache that torchvision also uses."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(self.url).path).name

    def load(self, weights: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Return the tensors named in `shapes`, on the CPU.

        Args:
            weights: "pretrained" for the published file, from torch.hub's cache or downloaded, with its SHA-256
                verified; or the path of a file with the same entries.
            shapes: expected shapes by name.
        Raises:
            MissingWeightsError: the published file is not in the cache and could not be downloaded.
            InputError: a file is missing, corrupt, or lacks one of the entries.
        """
        path = self.fetch() if weights == "pretrained" else Path(weights).expanduser()
        if not path.is_file():
            raise InputError(f"no weights of {self.network} at {path}: set the path of a file, or pretrained")
        state = read_tensor_file(path, f"file of {self.network}")
        for key, shape in shapes.items():
            if not isinstance(state, dict) or not isinstance(state.get(key), Tensor) or state[key].shape != shape:
                raise InputError(f"{path} has no weights of {self.network}: {key} of shape {shape} is missing")
        return {key: state[key].float() for key in shapes}

    def fetch(self) -> Path:
        """Return the path of the published file, downloaded to the cache unless it exists, with its SHA-256 verified.

        Raises:
            MissingWeightsError: the file is not in the cache and could not be downloaded.
            InputError: the file in the cache is another one.
        """
        path = self.cache_path
        if not path.exists():
            try:
                # torch.hub has no timeout for a host that does not answer.
                urlopen(Request(self.url, method="HEAD"), timeout=CONNECT_TIMEOUT_S).close()
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(self.url, str(path), hash_prefix=self.sha256, progress=False)
            except (OSError, HTTPException, RuntimeError) as error:
                raise MissingWeightsError(
                    f"the weights of {self.network} are not at {path} and could not be downloaded ({error}). "
                    f"Download {self.url} (SHA-256 {self.sha256}) to that path. {self.alternatives}"
                ) from error
            return path
        if (found := HashedFile.of(path).sha256) != self.sha256:
            raise InputError(
                f"{path} is corrupt: its SHA-256 is {found}, expected {self.sha256}. Delete it, or download it again "
                f"from {self.url}"
            )
        return path
