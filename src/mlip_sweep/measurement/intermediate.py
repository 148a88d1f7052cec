"""Values of a training under way: recorded every few epochs, and reported to a search that may give it up early."""

import math
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import replace
from typing import ClassVar, Final, Protocol

import pytorch_lightning as pl
from pydantic import PositiveInt
from pytorch_lightning.callbacks import Callback

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import batches
from mlip_sweep.measurement.evaluation import device_of, evaluating
from mlip_sweep.measurement.landscape.learnt import at_minimum
from mlip_sweep.measurement.landscape.loss_entropy import LossEntropy
from mlip_sweep.metrics import Metric
from mlip_sweep.settings import Seed, settings
from mlip_sweep.training.energy_shift import shifted
from mlip_sweep.training.metrics import METRICS, VALIDATION_LOSS
from mlip_sweep.training.module import TrainingModule

INTERMEDIATE_LOSS_ENTROPY: Final = "intermediate/loss_entropy"
TOLERANCE: Final = 0.03  # of an intermediate S: less certain than the final one, and cheaper


class Trial(Protocol):
    """What hears of intermediate values: a trial of a study."""

    def __call__(self, value: float, step: int, *, more_is_better: bool, told: str) -> None:
        """Take a value; raises, with the text `told`, where the trial is to be given up."""


@settings
class IntermediateValue(ABC):
    """What is followed while a model trains; an entry of the config group `pruning`.

    Args:
        every: epochs between two values; the last epoch needs none.
    """

    every: PositiveInt

    metric: ClassVar[Metric]

    @abstractmethod
    def of(self, trainer: pl.Trainer, module: TrainingModule, dataset: Dataset) -> float:
        """The value of the weights as they stand; NaN where it says nothing yet.

        Args:
            trainer: of the training under way.
            module: holds the model, under EMA or SWA with the averaged weights.
            dataset: that it trains on.
        """


@settings
class IntermediateValidationLoss(IntermediateValue):
    """The validation loss, which is recorded anyhow.

    Args:
        every: epochs between two values.
    """

    metric = next(metric for metric in METRICS if metric.name == VALIDATION_LOSS)

    def of(self, trainer: pl.Trainer, module: TrainingModule, dataset: Dataset) -> float:
        """Of this epoch."""
        return float(trainer.callback_metrics.get(VALIDATION_LOSS, math.nan))


@settings
class IntermediateLossEntropy(IntermediateValue):
    """The loss entropy on the training frames, from few directions, once the model has learnt (`landscape.learnt`).

    Args:
        every: epochs between two values.
        directions: fewer are cheaper, and less certain.
        max_atoms: of one batch.
        seed: of the directions; the same for all trials, so that their values compare.
    """

    directions: PositiveInt = 3
    max_atoms: PositiveInt = 1024
    seed: Seed = 0

    metric = replace(LossEntropy.metrics[0], name=INTERMEDIATE_LOSS_ENTROPY, column=None, headline="")

    def of(self, trainer: pl.Trainer, module: TrainingModule, dataset: Dataset) -> float:
        """Of the weights as they stand."""
        device = device_of(module.model)
        data = batches(dataset.graphs("train", module.model.cutoff), self.max_atoms, device)
        measurement = LossEntropy(
            directions=self.directions, tolerance=TOLERANCE, seed=self.seed, plane_points=0, progress=False
        )
        with evaluating(module.model), shifted(module.model, data) if module.fit_energy_shift else nullcontext():
            if not at_minimum(module.model, data).learnt:
                return math.nan
            return measurement.entropy(module.model, data)


class FollowTraining(Callback):
    """Every few epochs, record a value of the weights that were validated, and report it to a search.

    Stands before the averaging callback, as `BestWeights` does, so that under EMA or SWA the average is what is seen.

    Args:
        value: what is followed.
        dataset: that the model trains on.
        trial: what hears of the values; None outside a search.
    """

    def __init__(self, value: IntermediateValue, dataset: Dataset, trial: Trial | None = None) -> None:
        self.value = value
        self.dataset = dataset
        self.trial = trial

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record and report."""
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or epoch % self.value.every or epoch == trainer.max_epochs:
            return
        if not isinstance(pl_module, TrainingModule):
            return
        metric = self.value.metric
        value = self.value.of(trainer, pl_module, self.dataset)
        if math.isnan(value):
            return
        if metric.name != VALIDATION_LOSS and trainer.logger is not None:
            trainer.logger.log_metrics({metric.name: value}, step=trainer.global_step)
        if self.trial is not None:
            told = f"at epoch {epoch}, {metric.name} = {value:.4g}"
            self.trial(value, epoch, more_is_better=metric.better == "higher", told=told)
