"""Classes of settings: frozen dataclasses whose types and ranges are checked when they are made.

A field says what it takes by its type, and by pydantic's constraints where that is not enough:

    @settings
    class Smoothing:
        width: PositiveFloat = 0.1                        # Å
        kernel: Literal["gauss", "box"] = "gauss"
        share: Annotated[float, Field(ge=0, le=1)] = 0.5

Numbers must be finite, an int is taken for a float, and nothing else is converted. What one field cannot say by itself
is checked in `__post_init__`, which raises `SettingError`. `checked_arguments` does the same for a function, whose
signature then says what it takes.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, validate_call
from pydantic.dataclasses import dataclass as checked_dataclass

from mlip_sweep.errors import SettingError

Settings = TypeVar("Settings")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _as_tuple(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
"""One word or a list of them, kept as a tuple."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that every generator takes."""


Name = Annotated[str, Field(pattern=r"^[^/\\\x00]+$")]
"""A name that may stand in the name of a file."""


def _as_path(value: Any) -> Any:
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise ValueError("give the path of one file or folder")
    return Path(value)


OnePath = Annotated[Path, BeforeValidator(_as_path)]
"""The path of one file or folder, as text or as a `Path`."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def settings(cls: type[Settings]) -> type[Settings]:
    """Make a class of settings; see the module's description.

    Raises (when an instance is made):
        SettingError: naming the first setting that is unknown, of the wrong type, out of range, or does not go with
            another.
    """
    checked: Any = checked_dataclass(frozen=True, kw_only=True, config=CONFIG)(cls)
    initialise = checked.__init__

    @wraps(initialise)
    def readably(self: Any, **values: Any) -> None:
        try:
            initialise(self, **values)
        except ValidationError as error:
            raise _readable(error, checked.__dataclass_fields__) from None

    checked.__init__ = readably
    return checked


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any], supplied: Iterable[str] = ()) -> None:
    """Check arguments by the types in a signature, as a class of settings checks its fields by theirs.

    Args:
        function: a function or class, whose annotations may carry pydantic's constraints.
        values: arguments by name.
        supplied: names of arguments that are given by somebody else, and are not taken from `values`.

    Raises:
        SettingError: naming the first argument that is unknown, missing, of the wrong type or out of range.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    named = {name: p for name, p in parameters.items() if name not in supplied and p.kind not in VARIADIC}
    types = {name: Any if p.annotation is p.empty else p.annotation for name, p in named.items()}
    optional = {name: field(default_factory=object) for name, p in named.items() if p.default is not p.empty}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    checked: Any = settings(type(function.__name__, (), {"__annotations__": types, **optional}))
    checked(**{str(name): value for name, value in values.items() if name in named or not takes_any})


def checked_arguments(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Check the arguments of a function by the types and constraints of its signature, as those of a class of settings.

    Raises (when the function is called):
        SettingError: naming the first argument that is unknown, missing, of the wrong type or out of range.
    """
    checked: Any = validate_call(config=CONFIG)(function)
    known = inspect.signature(function).parameters

    @wraps(function)
    def readably(*args: Parameters.args, **values: Parameters.kwargs) -> Result:
        try:
            result: Result = checked(*args, **values)
        except ValidationError as error:
            raise _readable(error, known) from None
        return result

    return readably


def nested(cls: type[Settings]) -> BeforeValidator:
    """Lets an argument or a setting be an instance of a class of settings, or the mapping that makes one."""

    def made(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"give a value to each of {', '.join(cls.__dataclass_fields__)}")  # type: ignore[attr-defined]
        return cls(**{str(name): one for name, one in value.items()})

    return BeforeValidator(made)


def _readable(error: ValidationError, known: Iterable[str]) -> SettingError:
    """Pydantic's first complaint as a line: the setting, its value, and what it takes."""
    first: Any = error.errors(include_url=False)[0]
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, SettingError):  # by __post_init__, or by a class of settings in this one
        return SettingError(".".join([*(str(part) for part in first["loc"]), str(raised)]))
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return SettingError(f"{name}={first['input']!r}: there is no such setting; there are {', '.join(known)}")
    if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return SettingError(f"{name}: give it a value")
    return SettingError(f"{name}={first['input']!r}: {_demand(first)}")


def _demand(complaint: Any) -> str:
    """What a setting takes, in words."""
    if complaint["type"] == "value_error":  # by a validator of this house, which says it in words
        return str(complaint["ctx"]["error"])
    if complaint["type"] == "sequence_str" or complaint.get("ctx", {}).get("class") == "Sequence":
        return "give a list"
    demand = (
        str(complaint["msg"])
        .removeprefix("Input should be ")
        .replace("a valid integer", "an integer")
        .replace("a valid tuple", "a list")
    )
    if complaint["type"] == "literal_error":
        return f"choose {demand}"
    if demand.startswith(("a ", "an ")):
        return f"give {demand.replace('a valid', 'a')}"
    return f"give a number {demand}" if demand.startswith(("greater", "less")) else f"{demand[0].lower()}{demand[1:]}"
