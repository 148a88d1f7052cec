"""Measurements as Lightning callbacks: they act after training, on the weights that the run keeps.

One callback holds many of them, since Lightning calls each one at every step, whether it has something to do or not.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from mlip_sweep import keys
from mlip_sweep.data.frames import Dataset
from mlip_sweep.measurement.interface import Measurement, Report
from mlip_sweep.models.interface import Potential
from mlip_sweep.training.module import TrainingModule


def timed(name: str, measurement: Measurement, model: Potential, dataset: Dataset) -> Report:
    """The report of a measurement, with its wall time among the metrics."""
    start = time.perf_counter()
    report = measurement(model, dataset)
    return replace(report, metrics={**report.metrics, keys.wall_time(name): time.perf_counter() - start})


class AfterTraining(Callback):
    """Do things, one after the other, when the fit ends, with the kept weights in place."""

    def __init__(self, *actions: Callable[[], None]) -> None:
        self.actions = actions

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do them."""
        for action in self.actions:
            action()


class MeasurementCallback(Callback):
    """Call measurements, one after the other, when the fit ends, and hand each report on.

    Args:
        measurements: name, an entry of the config group `measurement`, to function.
        dataset: what they measure on.
        sink: takes name and report, and records them.
    """

    def __init__(
        self, measurements: Mapping[str, Measurement], dataset: Dataset, sink: Callable[[str, Report], None]
    ) -> None:
        self.measurements = measurements
        self.dataset = dataset
        self.sink = sink

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure."""
        if isinstance(pl_module, TrainingModule):
            for name, measurement in self.measurements.items():
                self.sink(name, timed(name, measurement, pl_module.model, self.dataset))
