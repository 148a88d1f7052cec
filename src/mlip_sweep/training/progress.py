"""How far a training is, with its validation errors and the time left."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from mlip_sweep.bars import Bar, bar
from mlip_sweep.models.targets import QUANTITIES
from mlip_sweep.training.module import TrainingModule


class EpochBar(Callback):
    """One bar for a whole training."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar, where the training begins or resumes."""
        self._bar = bar(trainer.max_epochs or 0, "training", "epochs", done=trainer.current_epoch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the validation errors."""
        if self._bar is not None and isinstance(pl_module, TrainingModule):
            errors = [
                f"{1000.0 * error:.3g} {QUANTITIES[name].milli_unit}"
                for name, error in pl_module.validation_rmse.items()
            ]
            self._bar.say(f"validation {', '.join(errors)}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One epoch more."""
        if self._bar is not None:
            self._bar.update()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make room for the measurements' bars."""
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar, also after an error."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
