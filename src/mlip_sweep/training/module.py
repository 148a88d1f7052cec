"""One step of training and of validation, for any potential."""

import math
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mlip_sweep import keys
from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.models.interface import Potential
from mlip_sweep.training.loss import ErrorSums, LossWeights, loss


class TrainingModule(pl.LightningModule):
    """Trains a potential.

    Args:
        model: the potential.
        optimizer: from parameters to an optimiser.
        weights: of the training loss; a callback may change `self.weights` during training.
        validation_weights: of the validation loss, the same all along, so that checkpoints stay comparable.
        plateau_factor: the learning rate is multiplied by it …
        plateau_patience: … after so many epochs without a better validation loss.

    Attributes:
        validation_rmse: of the last validation, energy in meV/atom and forces in meV/Å.
    """

    def __init__(
        self,
        model: Potential,
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
        *,
        weights: LossWeights,
        validation_weights: LossWeights,
        plateau_factor: float,
        plateau_patience: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.weights = weights
        self.validation_weights = validation_weights
        self._optimizer = optimizer
        self._plateau = {"factor": plateau_factor, "patience": plateau_patience}
        self.validation_rmse = (math.nan, math.nan)
        self._errors = ErrorSums.empty()
        self._losses: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        """The optimiser, and a learning rate that falls on plateaus of the validation loss."""
        optimizer = self._optimizer(self.parameters())
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **self._plateau)  # type: ignore[arg-type]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": keys.VALIDATION_LOSS, "interval": "epoch"},
        }

    @cached_property
    def _trained(self) -> list[Tensor]:
        """Collected once: looking for them at every step takes as long as the update."""
        return [p for p in self.parameters() if p.requires_grad]

    def transfer_batch_to_device(self, batch: GraphBatch, device: torch.device, dataloader_idx: int) -> GraphBatch:
        """Move one batch."""
        return batch.to(device)

    def training_step(self, batch: GraphBatch, batch_idx: int) -> Tensor:
        """The weighted loss of one batch."""
        value = loss(self.model(batch), batch, self.weights)
        self._losses.append(value.detach())
        return value

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gradients of the parameters alone: forces made the positions a leaf too, and theirs would cost more work."""
        loss.backward(inputs=self._trained)
        loss.detach_()  # Lightning keeps the loss until the next step; its graph can go now

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch, once, not at every step."""
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        self._record({keys.TRAIN_LOSS: float(torch.stack(self._losses).mean()), keys.LEARNING_RATE: rate})
        self._losses.clear()

    def on_validation_epoch_start(self) -> None:
        """Count errors from nothing."""
        self._errors = ErrorSums.empty(self.device)

    def validation_step(self, batch: GraphBatch, batch_idx: int) -> None:
        """Count the errors of one batch. The model switches gradients on for the forces itself."""
        self._errors.add(self.model(batch), batch)

    def on_validation_epoch_end(self) -> None:
        """Log RMSEs, and the loss at fixed weights, by which Lightning's callbacks go."""
        energy, forces = self._errors.mse()
        self.validation_rmse = (1000.0 * math.sqrt(energy), 1000.0 * math.sqrt(forces))
        self._record(dict(zip((keys.VALIDATION_ENERGY, keys.VALIDATION_FORCES), self.validation_rmse, strict=True)))
        weights = self.validation_weights
        self.log(keys.VALIDATION_LOSS, weights.energy * energy + weights.forces * forces)

    def _record(self, metrics: dict[str, float]) -> None:
        """Give the logger what nothing else asks for: `log` would keep books about each name at every epoch."""
        if self.logger is not None:
            self.logger.log_metrics(metrics, step=self.global_step)
