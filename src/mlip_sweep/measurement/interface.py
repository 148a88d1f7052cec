"""The contract that every measurement keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.measurement.evaluation import ForceField
from mlip_sweep.metrics import Metric, declaration_of
from mlip_sweep.models.interface import Potential


@dataclass(frozen=True)
class Report:
    """What one measurement found.

    Attributes:
        metrics: name, which the measurement declares, to finite or NaN number; units are in the names.
        arrays: raw curves, stored together as one npz file.
        tables: name to table, each stored as a csv file.
        figures: name to figure, each stored as a png file. Made with `matplotlib.figure.Figure`, never pyplot.
        files: name, with a folder before it if need be, to what writes the file at a path.
        notes: one line each, what a reader must know ("window saturated: …").
        summary: a table that is shown at the end of the run, and on its page; None for none.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    files: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    summary: pd.DataFrame | None = None


class Measurement(ABC):
    """Something that is measured of a trained potential; a subclass is a class of `mlip_sweep.settings.settings`.

    Its fields are its settings, checked when it is made; an entry of the config group `measurement` names it by
    `_target_` and gives them values.

    Attributes:
        metrics: what it records. Tables, searches and comparisons know the metrics by these declarations alone.
    """

    metrics: ClassVar[tuple[Metric, ...]]

    def check(self, dataset: Dataset) -> None:  # noqa: B027 (nothing to check is an answer)
        """Refuse a data set on which this cannot be measured, before a model is trained for it.

        Raises:
            SettingError: naming the setting that does not go with the data set.
        """

    def records(self, name: str, dataset: Dataset) -> bool:
        """Whether a metric of this name is recorded on a data set; told anew where that depends on the data set."""
        return declaration_of(name, self.metrics) is not None

    @abstractmethod
    def __call__(self, model: Potential, dataset: Dataset) -> Report:
        """Measure a model, which is left as it was found.

        Raises:
            SettingError: as `check`.
        """


class ForceFieldMeasurement(Measurement):
    """A measurement that asks a model for energies and forces alone, so that a committee can be measured as well."""

    @abstractmethod
    def __call__(self, model: ForceField, dataset: Dataset) -> Report:
        """Measure a model, which is left as it was found.

        Raises:
            SettingError: as `check`.
        """
