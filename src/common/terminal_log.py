"""The handler of log lines on the terminal."""

import logging
import sys
from typing import TextIO


class StderrHandler(logging.StreamHandler[TextIO]):
    """Write to what `sys.stderr` is when a line is logged, not when logging was set up.

    A progress bar replaces `sys.stderr` while it is shown, so that lines appear above it and do not tear it apart.
    """

    @property
    def stream(self) -> TextIO:
        """The current `sys.stderr`."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignore the stream that `logging.StreamHandler` sets."""
