"""Last step of a run: measure the trained potential."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mlip_sweep import clock
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.measurement.interface import Measurement, Report
from mlip_sweep.metrics import wall_time
from mlip_sweep.models.committee import Committee
from mlip_sweep.models.interface import Potential

Take = Callable[[str, Measurement, Report], None]
"""Takes the name of an entry, its measurement, and what was measured."""


def measure(
    measurements: Mapping[str, Measurement], dataset: Dataset, take: Take, model: Potential | Committee
) -> None:
    """Measure one thing after the other, and hand each report on.

    Args:
        measurements: by the names of their entries; of a committee, those of force fields alone.
        dataset: that is measured on.
        take: takes each report as soon as it is there.
        model: left as it was found.
    """
    for name, measurement in measurements.items():
        take(name, measurement, timed(name, measurement, model, dataset))


def timed(name: str, measurement: Measurement, model: Potential | Committee, dataset: Dataset) -> Report:
    """The report of a measurement, with its wall time among the metrics."""
    start = clock.now()
    report = measurement(model, dataset)  # type: ignore[arg-type]  # of a committee, one that takes any force field
    return replace(report, metrics={**report.metrics, wall_time(name): clock.now() - start})
