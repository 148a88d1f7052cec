"""A composed config as plain values: whole, finite, and naming only code that it may name.

Everything here is seen before anything that the config names is imported or made.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlip_sweep.errors import InputError, in_a_line

GROUPS: Final = (
    *("dataset", "model", "rescaling", "optimizer", "averaging", "loss", "pruning"),
    *("trainer", "measurement", "tracking", "seeds"),
)
VALUES: Final = ("objective", "resume", "seed", "packages")
PACKAGES: Final = ("mlip_sweep", "torch.optim", "schedulefree")  # that `_target_` may name in any config
HYDRA_PACKAGES: Final = ("hydra", "hydra_plugins", "optuna", "optuna_async", "optuna_integration")  # and sweepers
TARGET: Final = "_target_"
LARGEST: Final = 2**63  # whole numbers are below it, as torch, NumPy and databases hold them


def normalised_value(text: str) -> str:
    """A value without quotes, numbers written in one way, so that 1e-3 of the shell equals 0.001 of a record."""
    text = text.strip("'\"")
    try:
        return repr(float(text))
    except ValueError:
        return text


def plain_values(cfg: DictConfig) -> dict[str, Any]:
    """The composed config of a run with every interpolation resolved, without its entry `hydra`.

    Raises:
        InputError: a value is missing (`???`) or cannot be resolved, a number is not finite, there is no such key or
            a group is missing, or a `_target_` names code of a package that the config does not name.
    """
    written = {key: value for key, value in _plain(cfg, resolve=False).items() if key != "hydra"}
    for group in GROUPS:
        if not isinstance(written.get(group), dict | str):  # a string may stand for a group that is elsewhere
            raise _ungrouped(group, f"={written[group]}" if group in written else "")
    missing = [f"{place}={value}" for place, value in _leaves(written) if value == MISSING]
    if missing:
        raise InputError(f"{', '.join(missing)}: give a value")
    try:
        values = {str(key): _plain(cfg[key]) for key in cfg if key != "hydra"}
    except OmegaConfBaseException as error:
        raise InputError(f"config: {in_a_line(error)}") from None
    unknown = [key for key in values if key not in (*GROUPS, *VALUES)]
    if unknown:
        raise InputError(
            f"{unknown[0]}={values[unknown[0]]}: there is no such setting; there are {', '.join((*GROUPS, *VALUES))}"
        )
    for group in GROUPS:
        if not isinstance(values[group], dict):
            raise _ungrouped(group, f"={values[group]}")
    for place, value in _leaves(values):
        _check_number(place, value)
    check_targets(values, named_packages(values.get("packages")))
    return values


def named_packages(packages: Any) -> tuple[str, ...]:
    """The user's own packages that the key `packages` of a config names.

    Raises:
        InputError: it is no list of names.
    """
    names = [packages] if isinstance(packages, str) else packages or []
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise InputError(f"packages={packages}: give a list of names that Python can import, as packages=[my_package]")
    return tuple(names)


def check_targets(values: Any, packages: Sequence[str], place: str = "") -> None:
    """See that every `_target_` names code of a package that it may name.

    Args:
        values: plain values, as they stand in a config.
        packages: that may be named beside `PACKAGES`.
        place: of the values in the config.

    Raises:
        InputError: a `_target_` names something else.
    """
    for where, target in targets(values, place):
        if not isinstance(target, str):
            raise InputError(f"{where}={target}: give the dotted name of a class or function")
        if package_of(target, packages) is None:
            own = target.partition(".")[0]
            raise InputError(
                f"{where}={target}: a config may name code of {', '.join((*PACKAGES, *packages))} alone; for a package "
                f"that you trust, add packages=[{own}]"
            )


def package_of(name: str, packages: Sequence[str] = ()) -> str | None:
    """Which of `PACKAGES`, or of further ones, a dotted name lies in; None where it is in none of them."""
    return next((package for package in (*PACKAGES, *packages) if name.startswith(f"{package}.")), None)


def targets(values: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Place and value of every `_target_` in plain values, however deep."""
    for where, value in _leaves(values, place):
        if where.rpartition(".")[2] == TARGET:
            yield where, value


def _plain(node: Any, *, resolve: bool = True) -> Any:
    return _named(OmegaConf.to_container(node, resolve=resolve)) if OmegaConf.is_config(node) else node


def _named(value: Any) -> Any:
    """A value whose keys are text all the way down: YAML has numbers, true and null as keys too."""
    if isinstance(value, dict):
        return {str(key): _named(inner) for key, inner in value.items()}
    return [_named(inner) for inner in value] if isinstance(value, list) else value


def _leaves(values: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted places and values of all that is no list and no mapping; of a `_target_`, whatever it is."""
    items = values.items() if isinstance(values, Mapping) else enumerate(values or ())
    for key, value in items:
        where = f"{place}.{key}" if place else str(key)
        if isinstance(value, Mapping | list | tuple) and key != TARGET:
            yield from _leaves(value, where)
        else:
            yield where, value


def _ungrouped(group: str, given: str) -> InputError:
    return InputError(f"{group}{given}: choose one of conf/{group}, which `mlip-sweep --help` lists")


def _check_number(place: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place}={value}: give a finite number")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise InputError(f"{place}={value}: give a number below 2^63")
