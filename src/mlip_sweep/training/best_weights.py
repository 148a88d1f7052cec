"""Which weights a run keeps: those of the best validation, among epochs of the last stage."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from mlip_sweep.errors import InputError
from mlip_sweep.training.metrics import VALIDATION_LOSS
from mlip_sweep.training.stage import Stage


class BestWeights(Callback):
    """Remember the weights of the lowest validation loss, and put them into the model when the fit ends.

    What is remembered is what was validated: under EMA or SWA the average. When a stage begins, earlier scores no
    longer count. Stands before the averaging callback, which puts the raw weights back after validation.

    Attributes:
        epoch: the epoch whose weights are kept.
        score: its validation loss.
    """

    def __init__(self) -> None:
        self.score = math.inf
        self.epoch = -1
        self._weights: list[Tensor] = []

    @property
    def state_key(self) -> str:
        """Under which checkpoints hold the state: the name that this class had in earlier ones."""
        return "KeepBest"

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the score at the first epoch of a stage."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(c, Stage) and c.start_epoch == trainer.current_epoch for c in callbacks):
            self.score = math.inf

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if this validation is the best so far."""
        score = float(trainer.callback_metrics.get(VALIDATION_LOSS, math.nan))
        if not trainer.sanity_checking and score < self.score:
            self.score, self.epoch = score, trainer.current_epoch
            self._weights = [p.detach().clone() for p in pl_module.parameters()]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the kept weights into the model.

        Raises:
            InputError: there are none, since no validation loss was finite.
        """
        if not self._weights:
            raise InputError(
                f"training diverged: no validation loss was finite in {trainer.current_epoch} epochs; lower "
                "optimizer.lr or trainer.gradient_clip, or look for outliers in the training data"
            )
        with torch.no_grad():
            for parameter, value in zip(pl_module.parameters(), self._weights, strict=True):
                parameter.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Score, epoch and weights."""
        return {"score": self.score, "epoch": self.epoch, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the interrupted training was."""
        self.score, self.epoch, self._weights = state_dict["score"], state_dict["epoch"], state_dict["weights"]
