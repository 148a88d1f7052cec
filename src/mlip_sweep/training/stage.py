"""A stage: something that begins at a set fraction of a training, with a learning rate of its own."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mlip_sweep.errors import SettingError


class Stage(Callback):
    """Begins at epoch ceil(start · max_epochs), counted from 0.

    The learning rate is set and whatever watches for improvement (plateau scheduler, early stopping) starts afresh,
    since scores from before the stage are of another kind. The epoch is saved, so that a resumed training keeps it.

    Args:
        start: The epoch at which the stage begins, as a fraction of `trainer.max_epochs`, 0 to below 1.
        learning_rate: The learning rate from then on; None leaves it alone.

    Raises:
        SettingError: one of these is out of range, or, when the training begins, the stage would have no epoch.
    """

    def __init__(self, start: float, learning_rate: float | None) -> None:
        if not isinstance(start, int | float) or not 0.0 <= start < 1.0:
            raise SettingError(f"start={start}: give a fraction of the training, 0 to below 1")
        if learning_rate is not None and not (
            isinstance(learning_rate, int | float) and 0.0 < learning_rate < math.inf
        ):
            raise SettingError(f"learning_rate={learning_rate}: give a positive number, or null to leave it alone")
        self.start = start
        self.learning_rate = learning_rate
        self.start_epoch: int | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Fix the epoch."""
        if self.start_epoch is None:
            self.start_epoch = self.first_epoch(trainer.max_epochs or 0)
        if self.start_epoch >= (trainer.max_epochs or 0):  # of a resumed training, which keeps its own
            raise self._without_epoch(self.start_epoch, trainer.max_epochs or 0)

    def first_epoch(self, max_epochs: int) -> int:
        """The epoch at which the stage begins in a training of so many.

        Raises:
            SettingError: that leaves it no epoch.
        """
        epoch = math.ceil(self.start * max_epochs)
        if epoch >= max_epochs:
            raise self._without_epoch(epoch, max_epochs)
        return epoch

    def _without_epoch(self, epoch: int, max_epochs: int) -> SettingError:
        return SettingError(
            f"start={self.start}: that is epoch {epoch} of trainer.max_epochs={max_epochs}, which leaves it none; "
            "train longer or start earlier"
        )

    def begun(self, trainer: pl.Trainer) -> bool:
        """Whether the current epoch belongs to the stage."""
        return self.start_epoch is not None and trainer.current_epoch >= self.start_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the stage at its first epoch; hold its learning rate at the others, where a schedule sets another."""
        first = trainer.current_epoch == self.start_epoch
        plateaus = [c.scheduler for c in trainer.lr_scheduler_configs if isinstance(c.scheduler, ReduceLROnPlateau)]
        if self.learning_rate is not None and (first or (self.begun(trainer) and not plateaus)):
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate
        if not first:
            return
        for plateau in plateaus:
            plateau.best, plateau.num_bad_epochs = math.inf, 0
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.best_score = callback.best_score.new_tensor(math.inf)
                callback.wait_count = 0

    def state_dict(self) -> dict[str, Any]:
        """Where the stage begins."""
        return {"start_epoch": self.start_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin where the interrupted training would have."""
        self.start_epoch = state_dict["start_epoch"]
