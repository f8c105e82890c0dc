"""Logging handler for the terminal."""

import logging
import sys

from tqdm import tqdm  # type: ignore[import-untyped]

from src.common.errors import printable


class StderrHandler(logging.Handler):
    """Write to the current `sys.stderr`, above a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            tqdm.write(printable(self.format(record)), file=sys.stderr)
        except Exception:  # as all of Python's handlers
            self.handleError(record)
