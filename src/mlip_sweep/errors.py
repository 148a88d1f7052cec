"""The errors that a user can mend, and what must not stand in them or in any record."""

import re

# Up to the last @ of a host: libraries take passwords that hold one. Drivers of databases take them as options, too.
_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s]+(?=@)")
_OPTION = re.compile(r"(?i)([?&](?:password|passwd|pwd)=)[^&\s'\"]+")


def without_passwords(text: str) -> str:
    """A text whose URLs have `***` in the place of each password, as in `postgresql://ada:***@host/runs`."""
    return _OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***", text))


def in_a_line(error: BaseException) -> str:
    """What an error says, with single blanks in the place of line breaks and indents."""
    return " ".join(str(error).split())


def conceal_passwords(error: BaseException) -> None:
    """Take the passwords of URLs out of the messages of an error and of those that it comes from, for its traceback."""
    told: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in told:
            told.add(id(one))
            one.args = tuple(without_passwords(part) if isinstance(part, str) else part for part in one.args)
            todo += [one.__cause__, one.__context__]


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
