"""What a metric is: a number that a run records, with its unit, its better direction, and the tables that show it.

Whatever brings a metric declares it: the training in `training/metrics.py`, each measurement in its own file. Tables,
searches and comparisons ask the declarations, and each run stores those of its measurements beside the numbers, so that
a comparison knows what it has never heard of.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Literal

SET: Final = "{set}"  # stands in a name for the label of a set of frames, or for another word that varies


@dataclass(frozen=True)
class Column:
    """How a table shows a metric.

    Attributes:
        heading: of the column; a line break in it stands.
        form: of the number, such as "{:.2f}".
        priority: columns of low priority are left out first where the terminal is narrow.
        error: name of the metric that holds the standard error, or "".
        low: name of the metric that holds the lower end of a confidence interval, or "".
        high: likewise of the upper end.
    """

    heading: str
    form: str = "{:.3g}"
    priority: int = 1
    error: str = ""
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Metric:
    """A metric as it is declared.

    Attributes:
        name: under which it is recorded; it carries the unit where the number leaves the program. `{set}` in it stands
            for any word: "rmse_forces_{set}_meV_A" declares one metric for each set of frames.
        unit: in words, "" where there is none.
        better: which of two runs is the better by it; None where neither is.
        column: how the comparison of runs shows it; None where it does not.
        headline: how a single run's summary says it, with `{…}` for the value and those of `headline_with`, and ": " or
            " = " between what it is and the numbers; "" where it does not.
        headline_with: names of the metrics that the headline needs beside this one.
    """

    name: str
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    column: Column | None = None
    headline: str = ""
    headline_with: tuple[str, ...] = ()

    def declares(self, name: str) -> bool:
        """Whether a recorded metric is this one."""
        pattern = ".+".join(re.escape(part) for part in self.name.split(SET))
        return re.fullmatch(pattern, name) is not None


def declaration_of(name: str, metrics: Iterable[Metric]) -> Metric | None:
    """The declaration of a recorded metric, its exact name before any that names a whole family; None without one."""
    fitting = [metric for metric in metrics if metric.declares(name)]
    return min(fitting, key=lambda metric: (SET in metric.name, -len(metric.name)), default=None)


def more_is_better(name: str, metrics: Iterable[Metric]) -> bool:
    """Whether of two runs the one with more of a metric is the better; of a metric without a declaration, less is."""
    metric = declaration_of(name, metrics)
    return metric is not None and metric.better == "higher"


def wall_time(phase: str) -> str:
    """Name of the wall time of one phase of a run, in seconds."""
    return f"wall_time/{phase}_s"


def objective_metric(name: str) -> str:
    """Name of the value that a run returned to a search: the last one logged under the metric's own name may differ."""
    return f"objective/{name}"


def to_json(metrics: Iterable[Metric]) -> str:
    """Declarations as text, to be stored with a run."""
    plain = [{key: value for key, value in asdict(metric).items() if value} for metric in metrics]
    return json.dumps(plain, ensure_ascii=False)


def from_json(text: str) -> tuple[Metric, ...]:
    """The declarations that `to_json` wrote."""
    return tuple(
        Metric(
            **entry
            | {"column": Column(**entry["column"]) if "column" in entry else None}
            | {"headline_with": tuple(entry.get("headline_with", ()))}
        )
        for entry in json.loads(text)
    )
