"""Uploads to the Hugging Face Hub with its own mixin. Needs the extra `export`."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, ModelHubMixin
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented as public

from src.checkpoints.export_directory import CARD, CONFIG, WEIGHTS
from src.checkpoints.hub import download_repository, hub_errors
from src.checkpoints.reading import Checkpoint, load_checkpoint
from src.exporting.directory import WEIGHTS_ONLY, ExportContents, write_export
from src.exporting.formats import FILES


class HubInpainter(ModelHubMixin):
    """A trained network that can be pushed to the Hub or loaded from it.

        HubInpainter(load_checkpoint("best.ckpt")).push_to_hub("user/name")
        network = HubInpainter.from_pretrained("user/name").network

    `load_checkpoint` reads downloads with the same checks as any checkpoint.

    Attributes:
        checkpoint: network, config and step.
        network: the checkpoint's network, in eval mode on the CPU.
    """

    def __new__(cls, checkpoint: Checkpoint) -> "HubInpainter":
        """Create the instance; the mixin's own __new__ would also write the arguments into a config.json."""
        return object.__new__(cls)

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.network = checkpoint, checkpoint.network

    def _save_pretrained(self, save_directory: Path) -> None:
        write_export(save_directory, self.checkpoint)

    @classmethod
    def from_pretrained(  # without the mixin's arguments for a constructor
        cls, pretrained_model_name_or_path: str | Path, *, revision: str | None = None, **options: Any
    ) -> "HubInpainter":
        """Load an export directory, or download a repository, `user/name`.

        Args:
            revision: a branch, tag or commit.
            options: of `huggingface_hub.snapshot_download`: token, cache_dir, force_download, local_files_only.
        Raises:
            InputError: it does not exist, the Hub is unreachable, or it holds no exported network.
        """
        directory = Path(pretrained_model_name_or_path).expanduser()
        if not directory.is_dir():
            directory = download_repository(str(pretrained_model_name_or_path), revision, **options)
        return cls(load_checkpoint(directory))

    def push_to_hub(  # type: ignore[override]  # the mixin's other arguments have fixed values here
        self, repo_id: str, *, private: bool = True, token: str | None = None, options: ExportContents = WEIGHTS_ONLY
    ) -> str:
        """Write an export directory and upload it.

        Args:
            private: whether a repository that this call creates is private.
        Returns:
            The commit's URL.
        Raises:
            InputError: as `push`.
        """
        require_repo_id(repo_id)
        with TemporaryDirectory() as directory:
            write_export(Path(directory), self.checkpoint, options)
            return push(Path(directory), repo_id, private=private, formats=options.formats, token=token)


def push(directory: Path, repo_id: str, *, private: bool, formats: Sequence[str] = (), token: str | None = None) -> str:
    """Upload the files of an export directory; other files in it stay local.

    Args:
        formats: graphs to upload; the repository's graphs in other formats are deleted, as they are of other weights.
    Returns:
        The commit's URL.
    Raises:
        InputError: there is no token with write access, the name is invalid, or the Hub is unreachable.
    """
    with hub_errors(repo_id):
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=directory,
            allow_patterns=[WEIGHTS, CONFIG, CARD, *(FILES[name] for name in formats)],
            delete_patterns=[file for name, file in FILES.items() if name not in formats],
            commit_message="Exported by src.export",
        )
        return str(commit)


def require_repo_id(repo_id: str) -> None:
    """Check the name of a repository.

    Raises:
        InputError: the name is invalid.
    """
    with hub_errors(repo_id):
        validate_repo_id(repo_id)
