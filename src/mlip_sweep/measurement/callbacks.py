"""Measurements as a Lightning callback: they act after training, on the weights that the run keeps."""

from collections.abc import Callable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from mlip_sweep.models.interface import Potential
from mlip_sweep.training.module import TrainingModule


class AfterTraining(Callback):
    """Show the trained potential to some functions, one after the other, when the fit ends.

    The kept weights are in place by then. One callback holds all functions, since Lightning calls each callback at
    every step, whether it has something to do or not.
    """

    def __init__(self, *actions: Callable[[Potential], None]) -> None:
        self.actions = actions

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the functions."""
        if isinstance(pl_module, TrainingModule):
            for action in self.actions:
                action(pl_module.model)
