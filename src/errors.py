"""The one exception that ends a command with a sentence instead of a traceback, and what makes it do so."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class InputError(ValueError):
    """What the user gave can't be used: the message names the file or key at fault and says what to do."""


def reports_input_errors(task: Callable[P, R]) -> Callable[P, R]:
    """Make a command end with `error: ...` on stderr and exit code 1 where it would raise an `InputError`.

    Hydra wraps what a class it instantiates raises, so causes are searched too. It stands below `hydra.main`, which
    finds the configuration through `functools.wraps`.
    """

    @functools.wraps(task)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return task(*args, **kwargs)
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError):
                cause = cause.__cause__
            if cause is None:
                raise
            sys.exit(f"error: {cause}")

    return reporting
