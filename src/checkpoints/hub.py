"""The Hugging Face Hub: networks pushed there and loaded from there, by its own mixin. Needs the extra `export`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from httpx import HTTPError
from huggingface_hub import HfApi, ModelHubMixin, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, says its documentation

from src.checkpoints.export_directory import CARD, CONFIG, WEIGHTS
from src.checkpoints.reading import Checkpoint, load_checkpoint
from src.common.errors import InputError
from src.exporting.folder import NOTHING_MORE, Wanted, write_folder
from src.exporting.formats import FILES

SCHEME = "hf://"
"""How the address of a repository begins: hf://user/name, or hf://user/name@revision."""


class HubInpainter(ModelHubMixin):
    """A trained network on its way to the Hub, or from there.

        HubInpainter(load_checkpoint("best.ckpt")).push_to_hub("user/name")
        network = HubInpainter.from_pretrained("user/name").network

    What is downloaded is trusted no more than any checkpoint: `load_checkpoint` reads it.

    Attributes:
        checkpoint: network, configuration and step.
        network: its network, in eval mode on the CPU.
    """

    def __new__(cls, checkpoint: Checkpoint) -> "HubInpainter":
        """Make it; the mixin's own would copy the arguments into a config.json, which nothing here reads."""
        return object.__new__(cls)

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.network = checkpoint, checkpoint.network

    def _save_pretrained(self, save_directory: Path) -> None:
        write_folder(save_directory, self.checkpoint)

    @classmethod
    def from_pretrained(  # no arguments for a constructor
        cls, pretrained_model_name_or_path: str | Path, *, revision: str | None = None, **how: Any
    ) -> "HubInpainter":
        """A folder of `src.export` or of `save_pretrained`, or a repository, `user/name`.

        Args:
            revision: a branch, tag or commit.
            how: `huggingface_hub.snapshot_download`'s: token, cache_dir, force_download, local_files_only.
        Raises:
            InputError: it isn't there, the Hub can't be reached, or what is there is no exported network.
        """
        folder = Path(pretrained_model_name_or_path).expanduser()
        if not folder.is_dir():
            folder = _fetched(str(pretrained_model_name_or_path), revision, **how)
        return cls(load_checkpoint(folder))

    def push_to_hub(  # type: ignore[override]  # what the mixin's others choose is fixed here
        self, repo_id: str, *, private: bool = True, token: str | None = None, wanted: Wanted = NOTHING_MORE
    ) -> str:
        """Write and upload; returns the commit's address.

        Args:
            private: whether a repository that is made for it can be seen by nobody else.
            wanted: what to write beside weights, configuration and card.
        Raises:
            InputError: as `push`.
        """
        check_name(repo_id)
        with TemporaryDirectory() as folder:
            write_folder(Path(folder), self.checkpoint, wanted)
            return push(Path(folder), repo_id, private=private, formats=wanted.formats, token=token)


def downloaded(address: str) -> Path:
    """The folder, in the Hub's cache, of what `hf://user/name` or `hf://user/name@revision` holds.

    It stands for a checkpoint, as an exported folder does.

    Raises:
        InputError: there is no such repository or revision, or the Hub can't be reached.
    """
    name, _, revision = address.removeprefix(SCHEME).partition("@")
    return _fetched(name, revision or None)


def push(folder: Path, repo_id: str, *, private: bool, formats: Sequence[str] = (), token: str | None = None) -> str:
    """Upload an exported folder's own files, and no others that lie there; returns the commit's address.

    Args:
        formats: of graphs that are uploaded; older ones of other formats are deleted there.
    Raises:
        InputError: there is no token that may write, the name is wrong, or the Hub can't be reached.
    """
    with _sentences(repo_id):
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=[WEIGHTS, CONFIG, CARD, *(FILES[name] for name in formats)],
            delete_patterns=[file for name, file in FILES.items() if name not in formats],
            commit_message="Exported by src.export",
        )
        return str(commit)


def check_name(repo_id: str) -> None:
    """Refuse what can't be a repository's name.

    Raises:
        InputError: it can't.
    """
    with _sentences(repo_id):
        validate_repo_id(repo_id)


def _fetched(repo_id: str, revision: str | None, **how: Any) -> Path:
    with _sentences(repo_id):
        # no graphs, which nothing here reads, and no file of anybody else's
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=[WEIGHTS, CONFIG, CARD], **how))


@contextmanager
def _sentences(repo_id: str) -> Iterator[None]:
    try:
        yield
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is neither a folder nor a repository of the Hub: give user/name") from error
    except RevisionNotFoundError as error:
        raise InputError(f"{repo_id} has no such revision on the Hub") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"there is no {repo_id} on the Hub that may be seen from here: check the name, or log in by `hf auth login`"
        ) from error
    except LocalTokenNotFoundError as error:
        raise InputError(f"{repo_id} needs a token that may write: log in by `hf auth login`") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise InputError(f"{repo_id} needs a token that may do this: log in by `hf auth login`") from error
        raise InputError(f"the Hub refuses {repo_id}: {str(error).strip().splitlines()[0]}") from error
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise InputError(f"{repo_id} can't be had: the Hub can't be reached, and it is not in its cache") from error
