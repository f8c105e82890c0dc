"""Uploads to the Hugging Face Hub. Needs the extra `export`."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented as public

from src.checkpoints.export_directory import CARD, CONFIG, WEIGHTS
from src.checkpoints.hub import hub_errors
from src.exporting.formats import FILES


def push(directory: Path, repo_id: str, *, private: bool, formats: Sequence[str] = ()) -> str:
    """Upload the files of an export directory and return the commit's URL; other files in it stay local.

    Args:
        formats: graphs to upload; the repository's graphs in other formats are deleted, as they are of other weights.
    Raises:
        InputError: there is no token with write access, the name is invalid, or the Hub is unreachable.
    """
    with hub_errors(repo_id):
        api = HfApi()
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
    """Raise InputError if the name of a repository is invalid."""
    with hub_errors(repo_id):
        validate_repo_id(repo_id)
