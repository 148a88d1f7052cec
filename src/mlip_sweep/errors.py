"""The errors that a user can mend."""


class InputError(ValueError):
    """A value that a user gave, or left in a file, does not serve.

    The message is one line: the value, its place and the remedy. Commands print it without a traceback.
    """
