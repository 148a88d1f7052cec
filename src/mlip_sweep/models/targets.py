"""What potentials are trained on and judged by: quantities that have a label, and what a prediction misses of them.

One quantity is one entry here. Training, validation, accuracy and landscape all ask `residuals`, so that they mean the
same thing by an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.models.interface import Prediction


@dataclass(frozen=True)
class Quantity:
    """Something that a potential predicts and that frames carry a label of.

    Attributes:
        name: as in the names of settings ("energy_weight") and of metrics ("rmse_energy_300K_meV_atom").
        unit: of a residual.
        milli_unit: a thousandth of it, in which errors are shown.
        suffix: the same as it stands in the names of metrics.
        shape: of the residuals of a batch of S systems, of which L have a stress, and N atoms.
        residual: prediction minus label.
        systems: of a batch, which system each residual belongs to, int64, of that shape.
        always: whether every frame has a label of it.
    """

    name: str
    unit: str
    milli_unit: str
    suffix: str
    shape: str
    residual: Callable[[Prediction, GraphBatch], Tensor]
    systems: Callable[[GraphBatch], Tensor]
    always: bool = True

    def metric(self, kind: str, label: str) -> str:
        """Name of an error of one set of frames, such as "rmse_forces_300K_meV_A"."""
        return f"{kind}_{self.name}_{label}_{self.suffix}"


def _energy_per_atom(prediction: Prediction, batch: GraphBatch) -> Tensor:
    energy, _ = batch.labels
    return (prediction.energy - energy) / batch.atoms_per_system


def _force_components(prediction: Prediction, batch: GraphBatch) -> Tensor:
    _, forces = batch.labels
    return (prediction.forces - forces).flatten()


def _stress_components(prediction: Prediction, batch: GraphBatch) -> Tensor:
    if batch.stress is None or prediction.stress is None:
        raise ValueError("this batch has no stress, or none was predicted")
    difference = prediction.stress - batch.stress
    return (difference if batch.stressed is None else difference[batch.stressed]).flatten()


def _systems(batch: GraphBatch) -> Tensor:
    return torch.arange(batch.n_systems, device=batch.system.device)


def _systems_of_forces(batch: GraphBatch) -> Tensor:
    return batch.system.repeat_interleave(3)


def _systems_of_stresses(batch: GraphBatch) -> Tensor:
    return (_systems(batch) if batch.stressed is None else batch.stressed).repeat_interleave(9)


ENERGY: Final = Quantity("energy", "eV/atom", "meV/atom", "meV_atom", "(S,)", _energy_per_atom, _systems)
FORCES: Final = Quantity("forces", "eV/Å", "meV/Å", "meV_A", "(3N,)", _force_components, _systems_of_forces)
STRESS: Final = Quantity(
    "stress", "eV/Å³", "meV/Å³", "meV_A3", "(9L,)", _stress_components, _systems_of_stresses, always=False
)
QUANTITIES: Final = {quantity.name: quantity for quantity in (ENERGY, FORCES, STRESS)}

Residuals = dict[str, Tensor]
"""By name of the quantity: energy (S,) eV/atom, forces (3N,) eV/Å, and stress (9L,) eV/Å³ where systems have one."""


def residuals(model: Callable[[GraphBatch], Prediction], batch: GraphBatch) -> Residuals:
    """What a model misses of the labels of a batch, for every quantity that has one.

    Raises:
        ValueError: the batch has no labels.
    """
    return residuals_of(model(batch), batch)


def residuals_of(prediction: Prediction, batch: GraphBatch) -> Residuals:
    """The same for a prediction that is at hand, also against other labels of the same structures."""
    return {
        name: quantity.residual(prediction, batch)
        for name, quantity in QUANTITIES.items()
        if quantity.always or batch.stress is not None
    }


def weighted(residuals: Residuals, batch: GraphBatch) -> Residuals:
    """Residuals times the square root of their frame's weight, so that its squared errors count as often as that says.

    The training loss alone takes these: errors, validation and landscapes count every frame once.
    """
    if batch.weight is None:
        return residuals
    roots = batch.weight.sqrt()
    return {name: values * roots[QUANTITIES[name].systems(batch)] for name, values in residuals.items()}
