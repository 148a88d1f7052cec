"""Weight cycling: from a loss of forces to a loss of energies (DOI 10.1088/2632-2153/acf115, section 3.3)."""

from dataclasses import replace

import pytorch_lightning as pl

from mlip_sweep.training.loss import weighted_loss
from mlip_sweep.training.module import TrainingModule
from mlip_sweep.training.stage import Stage


class WeightCycle(Stage):
    """Train with other weights of the loss from a set fraction of the run on.

    Args:
        start: The epoch at which the stage begins, as a fraction of `trainer.max_epochs`.
        learning_rate: The learning rate of the stage; None leaves it alone.
        **weights: A weight for each term of the loss, `energy_weight` per (eV/atom)² and `forces_weight` per (eV/Å)².

    Raises:
        InputError: a term has no weight, there is no such term, or a weight is negative.
    """

    def __init__(self, start: float, learning_rate: float | None, **weights: float) -> None:
        super().__init__(start, learning_rate)
        self.loss = weighted_loss(
            {name.removesuffix("_weight"): weight for name, weight in weights.items()}, "loss.cycle"
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the loss of this epoch, which depends on nothing but its number."""
        super().on_train_epoch_start(trainer, pl_module)
        if self.begun(trainer) and isinstance(pl_module, TrainingModule):
            pl_module.loss = replace(self.loss, huber_delta=pl_module.loss.huber_delta)
