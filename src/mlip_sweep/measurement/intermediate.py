"""Values of a training under way: recorded every few epochs, and reported to a search that may give it up early."""

import math
from abc import abstractmethod
from typing import Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from mlip_sweep import keys
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.frames import Dataset
from mlip_sweep.data.graphs import GraphBatch, batches
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.evaluation import device_of
from mlip_sweep.measurement.landscape.loss_entropy import quick_entropy
from mlip_sweep.training.module import TrainingModule


class Search(Protocol):
    """What hears of intermediate values: a trial of a study."""

    def __call__(self, value: float, step: int, *, more_is_better: bool, told: str) -> None:
        """Take a value; raises, with what is told, where the trial is to be given up."""


class Watch(Callback):
    """Every few epochs, record a value of the weights that were validated, and report it.

    Stands before the averaging callback, as `KeepBest` does, so that under EMA or SWA the average is what is watched.

    Args:
        every: epochs between two values; the last epoch needs none.
        search: what hears of them; None outside a search.
    """

    key: str

    def __init__(self, every: int, search: Search | None) -> None:
        if every < 1:
            raise InputError(f"pruning.every={every}: give a number of epochs, at least 1")
        self.every = every
        self.search = search

    @abstractmethod
    def value(self, trainer: pl.Trainer, module: TrainingModule) -> float:
        """The value now."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record and report."""
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or epoch % self.every or epoch == trainer.max_epochs:
            return
        if not isinstance(pl_module, TrainingModule):
            return
        value = self.value(trainer, pl_module)
        if self.key != keys.VALIDATION_LOSS and trainer.logger is not None:
            trainer.logger.log_metrics({self.key: value}, step=trainer.global_step)
        if self.search is not None:
            told = f"at epoch {epoch}, {self.key} = {value:.4g}"
            self.search(value, epoch, more_is_better=keys.more_is_better(self.key), told=told)


class WatchValidationLoss(Watch):
    """The validation loss, which is recorded anyhow."""

    key = keys.VALIDATION_LOSS

    def __init__(self, dataset: Dataset, cutoff: float, *, every: int, search: Search | None = None) -> None:
        super().__init__(every, search)

    def value(self, trainer: pl.Trainer, module: TrainingModule) -> float:
        """Of this epoch."""
        return float(trainer.callback_metrics.get(keys.VALIDATION_LOSS, math.nan))


class WatchLossEntropy(Watch):
    """The loss entropy, from few directions.

    Args:
        dataset: its training frames are what the landscape is of.
        cutoff: of the model, Å.
        every: epochs between two values.
        directions: fewer are cheaper, and less certain.
        max_atoms: of one batch.
        seed: of the directions; the same for all trials, so that their values compare.
        search: what hears of the values.
    """

    key = keys.LOSS_ENTROPY_INTERMEDIATE

    def __init__(
        self,
        dataset: Dataset,
        cutoff: float,
        *,
        every: int,
        directions: int = 3,
        max_atoms: int = 1024,
        seed: int = 0,
        search: Search | None = None,
    ) -> None:
        super().__init__(every, search)
        if directions < 1:
            raise InputError(f"pruning.directions={directions}: give at least 1")
        self.directions = directions
        self.seed = seed
        self._frames = dataset.train
        self._cutoff = cutoff
        self._max_atoms = max_atoms
        self._data: list[GraphBatch] = []

    def value(self, trainer: pl.Trainer, module: TrainingModule) -> float:
        """Of the weights as they stand."""
        if not self._data:
            device = device_of(module.model)
            self._data = [b.to(device) for b in batches(graphs_of(self._frames, self._cutoff), self._max_atoms)]
        return quick_entropy(module.model, self._data, directions=self.directions, seed=self.seed)
