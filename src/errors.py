"""The one exception that ends a command with a sentence instead of a traceback."""


class InputError(ValueError):
    """What the user gave can't be used: the message names the file or key at fault and says what to do."""
