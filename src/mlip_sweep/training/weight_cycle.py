"""Weight cycling: from a loss of forces to a loss of energies (the paper's section 3.3)."""

import pytorch_lightning as pl

from mlip_sweep.training.loss import LossWeights
from mlip_sweep.training.module import TrainingModule
from mlip_sweep.training.stage import Stage


class WeightCycle(Stage):
    """Train with other loss weights from a set fraction of the run on.

    Args:
        start: fraction of `trainer.max_epochs`.
        energy_weight: E_w of the stage, per (eV/atom)².
        forces_weight: F_w of the stage, per (eV/Å)².
        learning_rate: of the stage; None leaves it alone.
    """

    def __init__(self, start: float, energy_weight: float, forces_weight: float, learning_rate: float | None) -> None:
        super().__init__(start, learning_rate)
        self.weights = LossWeights(energy_weight, forces_weight)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the weights of this epoch, which depend on nothing but its number."""
        super().on_train_epoch_start(trainer, pl_module)
        if self.begun(trainer) and isinstance(pl_module, TrainingModule):
            pl_module.weights = self.weights
