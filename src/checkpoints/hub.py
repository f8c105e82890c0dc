"""Downloads from the Hugging Face Hub: `hf://user/name` wherever a checkpoint is read. Needs the extra `export`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from httpx import HTTPError
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from src.checkpoints.export_directory import CARD, CONFIG, HUB, WEIGHTS
from src.common.errors import InputError


def download(address: str) -> Path:
    """Download weights, config and model card of `hf://user/name`, or `hf://user/name@revision`, into the Hub's cache.

    Returns:
        The export directory in the cache.
    Raises:
        InputError: the repository or revision does not exist, or the Hub is unreachable.
    """
    name, _, revision = address.removeprefix(HUB).partition("@")
    with hub_errors(name):
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG, CARD]))


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn the Hub's exceptions into an InputError that names the repository and says what to do."""
    try:
        yield
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is neither a directory nor a Hub repository: expected user/name") from error
    except RevisionNotFoundError as error:
        raise InputError(f"{repo_id} has no such revision on the Hub") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{repo_id} does not exist on the Hub or is private: check the name, or log in with `hf auth login`"
        ) from error
    except LocalTokenNotFoundError as error:
        raise InputError(f"{repo_id} needs a token with write access: log in with `hf auth login`") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise InputError(f"{repo_id} needs a token with access to it: log in with `hf auth login`") from error
        raise InputError(f"the Hub rejected the request for {repo_id}: {str(error).strip().splitlines()[0]}") from error
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise InputError(
            f"{repo_id} is unavailable: the Hub is unreachable and the local cache does not hold it"
        ) from error
