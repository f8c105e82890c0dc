"""Logging handler for the terminal."""

import logging
import sys
from typing import TextIO


class StderrHandler(logging.StreamHandler[TextIO]):
    """Write to the current `sys.stderr`, not the one from when logging was set up.

    Progress bars replace `sys.stderr` while they are shown, so that log lines appear above them.
    """

    @property
    def stream(self) -> TextIO:
        """The current `sys.stderr`."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignore the stream that `logging.StreamHandler` sets."""
