"""The errors that a user can mend, and what must not stand in them or in any record."""

import re

_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)")


def without_passwords(text: str) -> str:
    """A text whose URLs have `***` in the place of each password, as in `postgresql://ada:***@host/runs`."""
    return _PASSWORD.sub(r"\1:***", text)


class InputError(ValueError):
    """A value that a user gave, or left in a file, does not serve.

    The message is one line: the value, its place and the remedy. Commands print it without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_passwords(message))


class SettingError(InputError):
    """A setting does not serve. The message begins with the setting's own name, as in "alpha=2: …".

    A class of settings does not know where in a config it stands; whoever knows says so by `at`.
    """

    def at(self, place: str) -> InputError:
        """The same error with its place in the config, such as "measurement.landscape", before it."""
        return InputError(f"{place}.{self}")
