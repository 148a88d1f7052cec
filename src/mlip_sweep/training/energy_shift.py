"""The shift of the energies: one number an element, a linear fit away from any weights.

A network learns the forces long before it has learnt the constant that its energies are off by. That constant moves no
atom, but it hides what the energies have learnt: a validation loss that holds it keeps the weights of the wrong epoch,
and a loss entropy that holds it says how large it is, not how flat the minimum. So the validation looks at energies
without it, and it is taken from the kept weights once they are known: linear regression of the total energies on the
numbers of atoms of each element.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.targets import ENERGY

FRAMES_PER_ELEMENT = 10  # with fewer, one number for all atoms is fitted instead of one an element


@dataclass(frozen=True)
class ShiftFit:
    """A fitted shift.

    Attributes:
        shift: of each element, to be added to the model's own, (Z,) eV.
        before: energy errors without it, (S,) eV/atom.
        after: with it.
    """

    shift: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def offset(self) -> float:
        """What the shift takes from the energies: root mean square over the frames, eV/atom."""
        return float(np.sqrt(np.mean((self.after - self.before) ** 2)))


def fit_shift(errors: NDArray[np.float64], counts: NDArray[np.float64]) -> ShiftFit:
    """Least squares of energy errors on compositions; of equal solutions the smallest.

    Args:
        errors: prediction minus label, (S,) eV/atom; where one is not finite, nothing is shifted.
        counts: atoms of each element, (S, Z).
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    if not np.isfinite(errors).all():
        shift = np.zeros(counts.shape[1])
    elif len(errors) < FRAMES_PER_ELEMENT * np.linalg.matrix_rank(shares):
        shift = np.full(counts.shape[1], -errors.mean())
    else:
        shift = np.linalg.lstsq(shares, -errors, rcond=None)[0]
    return ShiftFit(shift, errors, errors + shares @ shift)


class EnergyErrors:
    """Gathers energy errors of frames, and how many atoms of each element every frame has."""

    def __init__(self) -> None:
        self._errors: list[Tensor] = []
        self._counts: list[Tensor] = []

    def add(self, errors: Tensor, batch: GraphBatch, model: Potential) -> None:
        """Take one batch. Nothing leaves the device.

        Args:
            errors: prediction minus label, (S,) eV/atom.
            batch: of S systems.
            model: knows the elements.
        """
        index: Tensor = model.element_index  # type: ignore[assignment]
        elements = torch.nn.functional.one_hot(index[batch.atomic_numbers], len(model.atomic_numbers))
        counts = elements.new_zeros(batch.n_systems, elements.shape[1]).index_add(0, batch.system, elements)
        self._errors.append(errors.detach().double())
        self._counts.append(counts.double())

    def fit(self) -> ShiftFit:
        """The shift that leaves the least of the errors."""
        return fit_shift(torch.cat(self._errors).cpu().numpy(), torch.cat(self._counts).cpu().numpy())


def shift_of(model: Potential, batches: Iterable[GraphBatch]) -> ShiftFit:
    """The fitted shift of a model on labelled frames; the model, in evaluation mode, is left as it is.

    Args:
        model: that the energies are of.
        batches: on its device.
    """
    found = EnergyErrors()
    with torch.no_grad():
        for batch in batches:
            found.add(ENERGY.residual(model(batch), batch), batch, model)
    return found.fit()


def add_shift(model: Potential, fit: ShiftFit) -> None:
    """Give a model the fitted shift."""
    own = model.rescaling.shift
    own.add_(torch.as_tensor(fit.shift, dtype=own.dtype, device=own.device))


@contextmanager
def shifted(model: Potential, batches: Sequence[GraphBatch]) -> Iterator[None]:
    """For a while, the energies of a model, in evaluation mode, carry the shift that fits them to some frames."""
    own = model.rescaling.shift.clone()
    add_shift(model, shift_of(model, batches))
    try:
        yield
    finally:
        model.rescaling.shift.copy_(own)


class FitEnergyShift(Callback):
    """Fit the shift of the kept weights on the training frames, when the fit ends.

    Stands after `BestWeights`, which puts these weights into the model, and before what measures them. Checkpoints are
    written before, so that a training that goes on is not moved by it.

    Args:
        batches: of the training frames.

    Attributes:
        offset: what the shift has taken from the energies: root mean square over the training frames, eV/atom.
    """

    def __init__(self, batches: Sequence[GraphBatch]) -> None:
        self.offset = 0.0
        self._batches = batches

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit it, and put it into the model."""
        model: Potential = pl_module.model  # type: ignore[assignment]
        model.eval()
        found = shift_of(model, (batch.to(pl_module.device) for batch in self._batches))
        self.offset = found.offset
        add_shift(model, found)
