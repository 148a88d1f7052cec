"""Averages of the weights along a training: exponential (EMA) and stochastic (SWA, DOI 10.48550/arXiv.1803.05407).

Lightning's own averaging callbacks are not used: one validates and checkpoints the raw weights, the other averages
buffers, among them the integer ones of MACE, and scores an epoch with the weights of the one before. Here parameters
alone are averaged, before the validation of the epoch, and the average is what is validated, kept and measured.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from mlip_sweep.errors import SettingError
from mlip_sweep.training.stage import Stage


class WeightAverage(Callback):
    """θ̄ ← θ̄ + w · (θ − θ̄). A subclass says when, and with which w."""

    def __init__(self, **stage: Any) -> None:
        super().__init__(**stage)  # a stage's arguments, where a subclass is one too
        self.updates = 0
        self._average: list[Tensor] = []
        self._raw: list[Tensor] = []  # the training's own weights, while the average stands in for them

    def update(self, model: nn.Module, weight: float) -> None:
        """Move the average towards the current weights; the first update takes them as they are."""
        parameters = [p.detach() for p in model.parameters()]
        if not self._average:
            self._average = [p.clone() for p in parameters]
        else:
            self._average = [average.to(p.device) for average, p in zip(self._average, parameters, strict=True)]
            for average, parameter in zip(self._average, parameters, strict=True):
                average.lerp_(parameter, weight)
        self.updates += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average, once there is one."""
        if self._average and not trainer.sanity_checking:
            self._raw = [p.detach().clone() for p in pl_module.parameters()]
            _copy(self._average, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train on with the raw weights."""
        if self._raw:
            _copy(self._raw, pl_module)
            self._raw = []

    def state_dict(self) -> dict[str, Any]:
        """The average and how many updates made it."""
        return {**super().state_dict(), "updates": self.updates, "average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the interrupted training was."""
        super().load_state_dict(state_dict)
        self.updates = state_dict["updates"]
        self._average = state_dict["average"]


class ExponentialAverage(WeightAverage):
    """Update after every optimiser step with w = 1 − min(decay, (1 + n) / (10 + n)), n updates so far.

    Args:
        decay: The largest weight of the average in an update, 0 to 1; 0.99 in DOI 10.1088/2632-2153/acf115.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        if not isinstance(decay, int | float) or not 0.0 < decay < 1.0:
            raise SettingError(f"decay={decay}: give a number between 0 and 1, such as 0.99")
        self.decay = decay

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One optimiser step was taken."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.update(pl_module, 1.0 - decay)


class StochasticAverage(WeightAverage, Stage):
    """The plain mean of the weights at the end of every epoch from `start` on.

    Args:
        start: The epoch from which on weights are averaged, as a fraction of `trainer.max_epochs`.
        learning_rate: The learning rate from then on, constant; None leaves it alone.
    """

    def __init__(self, start: float, learning_rate: float | None) -> None:
        super().__init__(start=start, learning_rate=learning_rate)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """At the last batch of an epoch, before its validation."""
        if trainer.is_last_batch and self.begun(trainer):
            self.update(pl_module, 1.0 / (self.updates + 1))


def _copy(values: list[Tensor], model: nn.Module) -> None:
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)
