"""Measurements as Lightning callbacks: they act after training, on the weights that the run keeps."""

import time
from collections.abc import Callable
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
    """Do something when the fit ends, with the kept weights in place."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do it."""
        self.action()


class MeasurementCallback(Callback):
    """Call one measurement when the fit ends, and hand its report on.

    Args:
        name: of the measurement, an entry of the config group `measurement`.
        measurement: the function.
        dataset: what it measures on.
        sink: takes name and report, and records them.
    """

    def __init__(
        self, name: str, measurement: Measurement, dataset: Dataset, sink: Callable[[str, Report], None]
    ) -> None:
        self.name = name
        self.measurement = measurement
        self.dataset = dataset
        self.sink = sink

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure."""
        if isinstance(pl_module, TrainingModule):
            self.sink(self.name, timed(self.name, self.measurement, pl_module.model, self.dataset))
