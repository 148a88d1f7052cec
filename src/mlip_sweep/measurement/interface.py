"""The contract that every measurement keeps: a function of a model and a data set that returns a report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip_sweep.data.frames import Dataset
from mlip_sweep.models.interface import Potential


@dataclass(frozen=True)
class Report:
    """What one measurement found.

    Attributes:
        metrics: name (from `mlip_sweep.keys`) to finite or NaN number; units are in the names.
        arrays: raw curves, stored together as one npz file.
        tables: name to table, each stored as a csv file.
        figures: name to figure, each stored as a png file. Made with `matplotlib.figure.Figure`, never pyplot.
        files: name, with a folder before it if need be, to what writes the file at a path.
        notes: one line each, what a reader must know ("window saturated: …").
    """

    metrics: dict[str, float] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    files: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


Measurement = Callable[[Potential, Dataset], Report]
"""Leaves the model as it found it. A config entry names one: `_target_: …`, `_partial_: true`, and its settings."""

Check = Callable[..., None]
"""check(dataset, **settings): raises InputError where the measurement cannot work, before a model is trained for it."""


def checked_by(check: Check) -> Callable[[Callable[..., Report]], Callable[..., Report]]:
    """Give a measurement function a check of its settings; `check_measurement` calls it."""

    def mark(measure: Callable[..., Report]) -> Callable[..., Report]:
        measure.check = check  # type: ignore[attr-defined]
        return measure

    return mark


def check_measurement(measurement: Measurement, dataset: Dataset) -> None:
    """Call the check of a measurement that a config made, if it has one.

    Raises:
        InputError: the measurement cannot work on this data set, with these settings.
    """
    if isinstance(measurement, partial):
        check: Any = getattr(measurement.func, "check", None)
        if check is not None:
            check(dataset, **measurement.keywords)
