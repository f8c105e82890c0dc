"""The one exception that ends a command with a sentence instead of a traceback, and what makes it do so."""

import errno
import functools
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


NOT_WRITABLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO),
    }
)
"""Numbers of an OSError that speak of the disk or of permissions, not of a mistake in the code."""


class InputError(ValueError):
    """What the user gave can't be used: the message names the file or key at fault and says what to do."""


def report_input_errors(task: Callable[P, R]) -> Callable[P, R]:
    """Make a command end with `error: ...` on stderr and exit code 1 where it would raise an `InputError`.

    Hydra wraps what a class it instantiates raises, so causes are searched too; and where such a class refused a value
    with a plain ValueError, the value came from the configuration, so that is the user's to mend as well. So is a full
    disk, or a file that must not be written or read. All other exceptions keep their traceback. It stands below
    `hydra.main`, which finds the configuration through `functools.wraps`.
    """

    @functools.wraps(task)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        # What libraries warn of before they give a damaged file up says less than our sentence, and hides it.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        try:
            return task(*args, **kwargs)
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError) and not _of_the_disk(cause):
                cause = cause.__cause__
            # By name, as networks and losses import this file and must not bring Hydra along.
            hydra_made_it = type(error).__name__ == "InstantiationException"
            if isinstance(cause, OSError):
                sys.exit(f"error: {_named(cause)}: {os.strerror(cause.errno or 0)}")
            if cause is not None:
                sys.exit(f"error: {cause}")
            if hydra_made_it and isinstance(error.__cause__, ValueError):
                key = str(error).rpartition("full_key: ")[2]
                sys.exit(f"error: {key}: {error.__cause__}")
            raise

    return reporting


def _of_the_disk(error: BaseException) -> bool:
    """A full disk in any case; of permissions and kinds of files, only where the file is named, as a mistake may be."""
    if not isinstance(error, OSError) or error.errno not in NOT_WRITABLE:
        return False
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _named(error: OSError) -> str:
    return "a file can't be written" if error.filename is None else os.fsdecode(error.filename)


def require_all_keys(cfg: Any) -> None:
    """Refuse a configuration in which something that has no default is still to be given.

    Raises:
        InputError: it names all of it.
    """
    from omegaconf import OmegaConf  # here, as networks and losses import this file and need torch alone

    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise InputError(f"still to be given: {', '.join(f'{key}=' for key in missing)}")
