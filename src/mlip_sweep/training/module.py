"""One step of training and of validation, for any potential."""

import math
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.targets import ENERGY, QUANTITIES, residuals, weighted
from mlip_sweep.training.cohort import Shared
from mlip_sweep.training.energy_shift import EnergyErrors
from mlip_sweep.training.loss import Loss, MeanSquares
from mlip_sweep.training.metrics import LEARNING_RATE, TRAIN_LOSS, VALIDATION_LOSS, validation_rmse

COSINE_END = 0.01  # of the learning rate


def cosine_factor(epoch: int, *, epochs: int, warmup_epochs: int) -> float:
    """What the learning rate is multiplied by at an epoch, from 0: equal steps up to 1, then half a cosine down."""
    if epoch < warmup_epochs:
        return (epoch + 1) / (warmup_epochs + 1)
    progress = (epoch - warmup_epochs) / max(1, epochs - warmup_epochs)
    return COSINE_END + (1.0 - COSINE_END) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


class TrainingModule(pl.LightningModule):
    """Trains a potential.

    Args:
        model: The potential that is trained.
        optimizer: Makes an optimiser of the parameters that it is given.
        loss: The loss of the training; a callback may change `self.loss` on the way.
        validation_loss: The loss of the validation, the same all along, so that checkpoints stay comparable.
        plateau_factor: The learning rate is multiplied by this number where the validation loss stays on a plateau.
        plateau_patience: The number of epochs without a better validation loss that make a plateau.
        cosine: Whether the learning rate follows a cosine down to a hundredth instead, whatever the validation says.
        warmup_epochs: The number of epochs in which it rises in equal steps before that.
        fit_energy_shift: Whether the validation looks at energies without the shift that a fit takes from them.

    Attributes:
        validation_rmse: of the last validation, by name of the quantity, in its unit (eV/atom, eV/Å, eV/Å³).
    """

    def __init__(
        self,
        model: Potential,
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
        *,
        loss: Loss,
        validation_loss: Loss,
        plateau_factor: float,
        plateau_patience: int,
        cosine: bool = False,
        warmup_epochs: int = 0,
        fit_energy_shift: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.validation_loss = validation_loss
        self._optimizer = optimizer
        self._plateau = {"factor": plateau_factor, "patience": plateau_patience}
        self._cosine = cosine
        self._warmup_epochs = warmup_epochs
        self.fit_energy_shift = fit_energy_shift
        self.validation_rmse = {name: math.nan for name, quantity in QUANTITIES.items() if quantity.always}
        self._mean_squares = MeanSquares()
        self._energy_errors = EnergyErrors()
        self._losses: dict[int, Tensor] = {}  # of the epoch, by batch

    def configure_optimizers(self) -> Any:
        """The optimiser, and a learning rate that falls on plateaus of the validation loss, or along a cosine."""
        optimizer = self._optimizer(self.parameters())
        if self._cosine:
            shape = partial(cosine_factor, epochs=self.trainer.max_epochs or 1, warmup_epochs=self._warmup_epochs)
            return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, shape)]
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **self._plateau)  # type: ignore[arg-type]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": VALIDATION_LOSS, "interval": "epoch"},
        }

    @cached_property
    def _trained(self) -> list[Tensor]:
        """Collected once: looking for them at every step takes as long as the update."""
        return [p for p in self.parameters() if p.requires_grad]

    def transfer_batch_to_device(self, batch: GraphBatch, device: torch.device, dataloader_idx: int) -> GraphBatch:
        """Move one batch."""
        return batch.to(device)

    def training_step(self, batch: GraphBatch, batch_idx: int) -> Tensor:
        """The weighted loss of one batch, in which a frame counts by its own weight, too."""
        value = self.loss(weighted(residuals(self.model, batch), batch))
        self._losses.setdefault(batch_idx, value.detach())  # an optimiser may ask for a batch again at other weights
        return value

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gradients of the parameters alone: forces made the positions a leaf too, and theirs would cost more work."""
        if isinstance(self.model.compiled, Shared):
            self.model.compiled.backward(loss, self._trained)
        else:
            loss.backward(inputs=self._trained)
        loss.detach_()  # Lightning keeps the loss until the next step; its graph can go now

    def on_train_epoch_start(self) -> None:
        """Train on with the weights that the optimiser takes its gradients at."""
        self._switch("train")

    def on_validation_start(self) -> None:
        """Validate, keep and store the weights that the optimiser stands for."""
        self._switch("eval")

    def _switch(self, mode: str) -> None:
        """Some optimisers, those of schedulefree, train at other weights than those that are to be used."""
        for optimizer in self.trainer.optimizers:
            if hasattr(optimizer, mode):
                getattr(optimizer, mode)()

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch, once, not at every step."""
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        self._record({TRAIN_LOSS: float(torch.stack(list(self._losses.values())).mean()), LEARNING_RATE: rate})
        self._losses.clear()

    def on_validation_epoch_start(self) -> None:
        """Begin to count errors."""
        self._mean_squares = MeanSquares()
        self._energy_errors = EnergyErrors()

    def validation_step(self, batch: GraphBatch, batch_idx: int) -> None:
        """Count the errors of one batch. The model switches gradients on for the forces itself."""
        missed = residuals(self.model, batch)
        self._mean_squares.add(missed)
        if self.fit_energy_shift:
            self._energy_errors.add(missed[ENERGY.name], batch, self.model)

    def on_validation_epoch_end(self) -> None:
        """Log RMSEs, and the loss at fixed weights, by which Lightning's callbacks go."""
        mean_squares = self._mean_squares.values
        if self.fit_energy_shift:
            left = torch.from_numpy(self._energy_errors.fit().after).square().mean()
            mean_squares[ENERGY.name] = left.to(mean_squares[ENERGY.name])
        self.validation_rmse = {name: math.sqrt(value) for name, value in mean_squares.items()}
        self._record({validation_rmse(name): 1000.0 * value for name, value in self.validation_rmse.items()})
        self.log(VALIDATION_LOSS, self.validation_loss.of_mean_squares(mean_squares))

    def _record(self, metrics: dict[str, float]) -> None:
        """Give the logger what nothing else asks for: `log` would keep books about each name at every epoch."""
        if self.logger is not None:
            self.logger.log_metrics(metrics, step=self.global_step)
