"""The search space, in the language of Hydra's overrides, as Optuna's distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, prod
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Quote, QuotedString, RangeSweep, Transformer
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

MOST_POINTS = 100_000  # of a grid: its points are all written down before the first trial


@dataclass(frozen=True)
class Space:
    """Which parameters vary, and which are fixed."""

    distributions: dict[str, BaseDistribution]  # by the key of an override
    fixed: dict[str, str]  # key of an override -> the override itself
    custom: str | None = None  # a function that suggests more

    def described(self) -> dict[str, str]:
        """For each parameter a text by which two spaces can be compared."""
        texts = {key: distribution_to_json(distribution) for key, distribution in self.distributions.items()}
        return {**texts, **({"custom_search_space": self.custom} if self.custom else {})}

    def grid(self) -> dict[str, list[Any]]:
        """Every value of every parameter.

        Raises:
            ConfigCompositionException: A parameter is continuous, or there are too many combinations.
        """
        size = prod(_size(key, distribution) for key, distribution in self.distributions.items())
        if size > MOST_POINTS:
            raise ConfigCompositionException(
                f"search space: a grid of {size:.3g} combinations, more than {MOST_POINTS:,}; give fewer values, or "
                "another sampler, such as hydra/sweeper/sampler=random"
            )
        return {key: _values(distribution) for key, distribution in self.distributions.items()}

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """A trial's job, as overrides of the config."""
        return [
            *self.fixed.values(),
            *(
                f"{key}={_written(value) if key in self.distributions else _custom_written(value)}"
                for key, value in params.items()
            ),
        ]

    def refuse_fixed(self, params: Mapping[str, Any]) -> None:
        """Refuse what a custom search space suggests where it is fixed already.

        Raises:
            ValueError: A parameter has two values.
        """
        for key, override in self.fixed.items():
            if (name := key.lstrip("+")) in params:
                raise ValueError(
                    f"custom_search_space={self.custom} suggests {name}, which {override} fixes: leave one of them out"
                )


def parse_space(
    params: Mapping[str, Any], arguments: Sequence[str], custom: str | None, loader: ConfigLoader | None = None
) -> Space:
    """Join the `params` of the config and the command line, which takes precedence.

    Args:
        params: Parameter to its sweep, or to a fixed value.
        arguments: The overrides of the command line.
        custom: Dotted name of a function that suggests more parameters.
        loader: Hydra's loader, which knows the choices of a config group, for `glob()`.

    Raises:
        ConfigCompositionException: A parameter cannot be read.
    """
    parser = OverridesParser.create(config_loader=loader)
    distributions: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            raise ConfigCompositionException(
                f"hydra.sweeper.params.{key}={value}: give each parameter by its whole name, such as "
                f"'{key}.{next(iter(value), 'NAME')}: interval(0,1)' in the config, or as a sweep on the command line"
            )
    lines = [f"{key}={_written(value)}" for key, value in params.items()]
    try:
        overrides = parser.parse_overrides([*lines, *arguments])
    except OverrideParseException as error:
        raise ConfigCompositionException(f"search space: {error}") from None
    by_key: dict[tuple[str, str | None], Override] = {}
    for override in overrides:
        by_key[override.key_or_group, override.package] = override  # of one key, the last counts
    for override in by_key.values():
        key = override.get_key_element()
        if override.is_sweep_override():
            distributions[key] = _distribution(key, override)
        else:
            fixed[key] = str(override.input_line)
    if not distributions and not custom:
        raise ConfigCompositionException(
            "search space: nothing varies; give hydra.sweeper.params, or a sweep such as 'x=interval(0,1)'"
        )
    return Space(distributions, fixed, custom)


def differences(stored: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has changed between two descriptions, a line for each parameter."""
    return [
        f"{key}: stored {_readable(stored.get(key))}, now {_readable(now.get(key))}"
        for key in sorted({*stored, *now})
        if stored.get(key) != now.get(key)
    ]


def _readable(described: str | None) -> str:
    try:
        return "nothing" if described is None else str(json_to_distribution(described))
    except ValueError:  # a direction, the name of a function
        return str(described)


def _distribution(key: str, override: Override) -> BaseDistribution:
    sweep = override._value
    try:
        if isinstance(sweep, IntervalSweep):
            return _interval(sweep)
        if isinstance(sweep, RangeSweep) and not sweep.shuffle:
            return _range(sweep)
        if isinstance(sweep, RangeSweep) and _size(key, _range(sweep)) > MOST_POINTS:
            raise ValueError(f"shuffles more than {MOST_POINTS:,} values; leave shuffle() out")
        choices: list[Any] = list(override.sweep_iterator(transformer=_encoded))
        if getattr(sweep, "shuffle", False):
            choices.sort(key=str)  # else every start would have another space
        return CategoricalDistribution([None if choice == "null" else choice for choice in choices])
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigCompositionException(f"search space: {override.input_line}: {error}") from None


def _encoded(value: Any) -> Any:
    """Numbers and booleans as they are, all else as it has to stand in an override."""
    return value if isinstance(value, (int, float)) else Transformer.str(value)


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if low is None or high is None:
        raise ValueError("an interval needs both ends")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _range(sweep: RangeSweep) -> BaseDistribution:
    """As everywhere in Hydra, and in Python, the end does not belong to the range."""
    if sweep.start is None or sweep.stop is None:
        raise ValueError("a range needs both ends")
    whole = all(isinstance(number, int) for number in (sweep.start, sweep.stop, sweep.step))
    start, stop, step = (Decimal(str(number)) for number in (sweep.start, sweep.stop, sweep.step))
    if step == 0 or (count := ceil((stop - start) / step)) < 1:
        raise ValueError("an empty range")
    low, high = sorted((start, start + (count - 1) * step))
    if whole:
        return IntDistribution(int(low), int(high), step=int(abs(step)))
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _size(key: str, distribution: BaseDistribution) -> int:
    """The number of values of a parameter."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return (distribution.high - distribution.low) // distribution.step + 1
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        return round((distribution.high - distribution.low) / distribution.step) + 1
    raise ConfigCompositionException(
        f"search space: {key} is continuous, and a grid needs steps: give choice() or range(), or another sampler"
    )


def _values(distribution: BaseDistribution) -> list[Any]:
    """Every value of a parameter that has a size."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    return [distribution.low + i * distribution.step for i in range(_size("", distribution))]  # type: ignore[attr-defined]


def _written(value: Any) -> str:
    if value is None:
        return "null"
    return str(value)


def _custom_written(value: Any) -> str:
    """A value of a custom search space as an override: as it is where that is one value, else in quotes."""
    if not isinstance(value, str):
        return _written(value)
    try:
        if not OverridesParser.create().parse_override(f"key={value}").is_sweep_override():
            return value
    except HydraException:  # such as for a bracket that is never closed
        pass
    return str(QuotedString(text=value, quote=Quote.single).with_quotes())
