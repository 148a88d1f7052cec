"""Which runs are compared, as a person types it: ids of runs and sweeps, and conditions such as `model=mace`."""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from mlip_sweep.errors import InputError
from mlip_sweep.tracking.read import StoredRun, run_of_id, stored_runs

CONDITION = re.compile(r"(?P<name>[^<>=!]+)(?P<operator><=|>=|!=|==?|<|>)(?P<value>.*)")
ORDERINGS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NONE = ("none", "null")  # Hydra's word, and Python's in a stored parameter
NAMES_TOLD = 5  # in an error


@dataclass(frozen=True)
class Condition:
    """A parameter or a metric compared with a value.

    Attributes:
        text: as it was typed.
        name: of the parameter or metric.
        sign: "=", "!=", "<", "<=", ">" or ">=".
        value: that it is compared with.
    """

    text: str
    name: str
    sign: str
    value: str

    def holds(self, run: StoredRun) -> bool:
        """Whether a run fulfils it. A run without the name is unlike every value, and neither below nor above any."""
        stored: str | float | None = run.params.get(self.name, run.metrics.get(self.name))
        if self.sign in ORDERINGS:
            number = as_number(stored)
            return number is not None and ORDERINGS[self.sign](number, float(self.value))
        same = stored is not None and _same(stored, self.value)
        return same if self.sign == "=" else not same


def condition(text: str) -> Condition:
    """A condition as it is typed.

    Raises:
        InputError: it is none, or compares sizes with something that is no number.
    """
    match = CONDITION.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"--where {text!r}: give NAME=VALUE, NAME!=VALUE, or NAME<NUMBER, in quotation marks, such as "
            "'model=mace' or 'loss_entropy>1'"
        )
    sign = "=" if match["operator"] == "==" else match["operator"]
    value = match["value"].strip()
    if sign in ORDERINGS and as_number(value) is None:
        raise InputError(f"--where {text!r}: {value!r} is no number; {sign} compares numbers, = and != compare words")
    return Condition(text, match["name"].strip(), sign, value)


def fulfilling(runs: Sequence[StoredRun], texts: Sequence[str]) -> list[StoredRun]:
    """The runs that fulfil every condition.

    Args:
        runs: of which to choose.
        texts: conditions as they are typed.

    Raises:
        InputError: a condition is none, no run has its name, or no run is left.
    """
    known = sorted({name for run in runs for name in (*run.params, *run.metrics)})
    left = list(runs)
    for one in map(condition, texts):
        check_name(one.name, known, f"--where {one.text!r}", "parameter or metric")
        before, left = left, [run for run in left if one.holds(run)]
        if not left:
            raise InputError(f"--where {one.text!r} leaves none of {len(before)} runs: {_values(one.name, before)}")
    return left


def runs_of_ids(uri: str, ids: Sequence[str]) -> tuple[list[StoredRun], list[StoredRun]]:
    """The runs of some ids, oldest first, and those of the ids that are sweeps; a sweep stands for all its runs.

    Args:
        uri: the store.
        ids: of runs and of sweeps, in full or their beginnings.

    Raises:
        InputError: an id is none or belongs to no run or to several, or the store does not serve.
    """
    named = [run_of_id(uri, text) for text in ids]
    sweeps = [run for run in named if run.is_sweep]
    single = [run for run in named if not run.is_sweep]
    of_sweeps = [run for sweep in sweeps for run in stored_runs(uri, None, sweep.run_id)]
    chosen = {run.run_id: run for run in [*of_sweeps, *single]}
    return sorted(chosen.values(), key=lambda run: run.started), list({run.run_id: run for run in sweeps}.values())


def check_name(name: str, known: Collection[str], place: str, kind: str) -> None:
    """See that runs have a name.

    Args:
        name: as it is typed.
        known: the names that runs have.
        place: where it is typed.
        kind: of what it is the name.

    Raises:
        InputError: none has it; it tells the nearest names.
    """
    if name in known:
        return
    ends = [one for one in known if one.rpartition(".")[2] == name]  # lr for optimizer.lr
    near = list(dict.fromkeys([*ends, *get_close_matches(name, known, n=NAMES_TOLD, cutoff=0.6)]))[:NAMES_TOLD]
    remedy = f"choose {' or '.join(near)}" if near else f"there are {_few(sorted(known))}"
    raise InputError(f"{place}: no run has a {kind} {name!r}; {remedy}")


def _values(name: str, runs: Iterable[StoredRun]) -> str:
    """What a parameter or metric is instead."""
    stored = [run.params.get(name, run.metrics.get(name)) for run in runs]
    words = sorted({str(value) for value in stored if isinstance(value, str)})
    numbers = [value for value in stored if isinstance(value, float)]
    if words:
        return f"{name} is {_few(words)}"
    return f"{name} goes from {min(numbers):.4g} to {max(numbers):.4g}" if numbers else f"they have no {name}"


def _few(words: Sequence[str]) -> str:
    more = f" and {len(words) - NAMES_TOLD} more" if len(words) > NAMES_TOLD else ""
    return ", ".join(words[:NAMES_TOLD]) + more


def as_number(value: str | float | None) -> float | None:
    """A stored parameter or metric as a number; None where it is none."""
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _same(stored: str | float, typed: str) -> bool:
    """Numbers by their value, words without regard to case: `true` is stored as True, `null` as None."""
    a, b = as_number(stored), as_number(typed)
    if a is not None and b is not None:
        return a == b
    words = [str(stored).casefold(), typed.casefold().strip("'\"")]
    return words[0] == words[1] or all(word in NONE for word in words)
