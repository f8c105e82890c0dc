"""InputError, which ends a command with a message instead of a traceback."""

import errno
import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_DENIED = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO}
NOT_WRITABLE = frozenset(_FULL | _DENIED)
"""Values of `OSError.errno` caused by the disk or by permissions, not by a bug."""


INTERRUPTED = 130
"""Exit code after Ctrl-C, as of a shell: 128 + SIGINT."""


class InputError(ValueError):
    """Invalid user input; the message names the file or key and says what to do."""


def printable(text: str) -> str:
    """Escape what a terminal would obey or can't show, such as escape sequences in file names; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class IncompleteError(InputError):
    """A command did a part of its work; the message says which, and what it skipped and why."""

    exit_code = 3

    def __init__(self, done: str, skipped: Sequence[str]) -> None:
        super().__init__("\n  ".join([f"{done}; skipped:", *skipped]))


def report_input_errors(task: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command to end with `error: ...` on stderr and exit code 1 on an `InputError`, 3 if it is incomplete.

    Hydra wraps exceptions of the classes that it instantiates, so their causes are searched as well. An exception of
    such a class is also reported, as its arguments came from the config, and so are keys that the config lacks, what
    Lightning rejects, a full disk, missing permissions, a killed loader process and Ctrl-C. All other exceptions keep
    their traceback, and with the environment variable HYDRA_FULL_ERROR=1 these do, too.
    """

    @functools.wraps(task)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        # Warnings of libraries about corrupt files would only obscure our message.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        try:
            return task(*args, **kwargs)
        except (KeyboardInterrupt, SystemExit) as error:
            # Lightning ends a test with SystemExit(1) on Ctrl-C.
            if not any(isinstance(one, KeyboardInterrupt) for one in (error, error.__context__)):
                raise
            print("error: interrupted by Ctrl-C; files that are complete are kept", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError) and not _is_disk_error(cause):
                cause = cause.__cause__
            if isinstance(cause, OSError):
                name = "a file can't be written" if cause.filename is None else os.fsdecode(cause.filename)
                sys.exit(printable(f"error: {name}: {os.strerror(cause.errno or 0)}"))
            if isinstance(cause, IncompleteError):
                print("\n".join(printable(line) for line in str(cause).splitlines()), file=sys.stderr)
                sys.exit(cause.exit_code)
            if cause is not None:
                sys.exit(printable(f"error: {cause}"))
            if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid"):
                sys.exit(
                    f"error: {str(error).splitlines()[0].rstrip('.')}: if the memory is exhausted, use fewer workers "
                    "(workers=0 for none), or give a container more shared memory (docker run --shm-size=4g)"
                )
            problem = _config_problem(error)
            if problem is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            sys.exit(printable(f"error: {problem}"))

    return reporting


def _config_problem(error: Exception) -> str | None:
    """Describe an exception of Hydra, OmegaConf or Lightning that a value of the config caused; None for others."""
    # By name, as networks and losses import this file and must not import these packages.
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if "hydra.InstantiationException" in kinds:
        return f"{str(error).rpartition('full_key: ')[2]}: {error.__cause__ or str(error).splitlines()[0]}"
    if "omegaconf.OmegaConfBaseException" in kinds:
        key, reason = getattr(error, "full_key", None) or "config", str(error).splitlines()[0]
        if reason.endswith("is not in struct"):
            return f"the config lacks {key}, which this command needs: leave out what removes it, such as {key}=null"
        return f"{key}: {reason}"
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    composing = "hydra/_internal" in raised_in and isinstance(error, ValueError)
    return str(error) if composing or "lightning.MisconfigurationException" in kinds else None


def _is_disk_error(error: BaseException) -> bool:
    """Return whether the disk is full or the error names a file that can't be accessed."""
    number = error.errno if isinstance(error, OSError) else None
    return number in _FULL or (number in _DENIED and getattr(error, "filename", None) is not None)


def require_all_keys(cfg: Any) -> None:
    """Raise InputError if mandatory keys of a config have no values; the message names them."""
    from omegaconf import OmegaConf  # here, as networks and losses import this file and only need torch

    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise InputError(f"missing values, set {', '.join(f'{key}=' for key in missing)}")
