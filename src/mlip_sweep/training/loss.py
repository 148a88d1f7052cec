"""The training loss: E_w · MSE of energies per atom + F_w · MSE of force components."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.models.interface import Prediction


@dataclass(frozen=True)
class LossWeights:
    """E_w (per (eV/atom)²) and F_w (per (eV/Å)²)."""

    energy: float
    forces: float


def squared_errors(found: Prediction, batch: GraphBatch) -> tuple[Tensor, Tensor]:
    """Squared errors of the energies per atom, (S,) (eV/atom)², and of the forces, (N, 3) (eV/Å)²."""
    energy, forces = batch.labels
    return ((found.energy - energy) / batch.atoms_per_system).square(), (found.forces - forces).square()


def loss(found: Prediction, batch: GraphBatch, weights: LossWeights) -> Tensor:
    """The weighted loss of one batch, a scalar."""
    energy, forces = squared_errors(found, batch)
    return weights.energy * energy.mean() + weights.forces * forces.mean()


@dataclass
class ErrorSums:
    """Sums of squared errors over batches, so that an RMSE is over systems and components, not over batches."""

    energy: Tensor
    forces: Tensor
    systems: int = 0
    components: int = 0

    @classmethod
    def empty(cls, device: torch.device | str = "cpu") -> "ErrorSums":
        """No batches yet."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        return cls(zero, zero.clone())

    def add(self, found: Prediction, batch: GraphBatch) -> None:
        """Count one batch. Nothing leaves the device."""
        energy, forces = squared_errors(found, batch)
        self.energy += energy.sum()
        self.forces += forces.sum()
        self.systems += batch.n_systems
        self.components += forces.numel()

    def mse(self) -> tuple[Tensor, Tensor]:
        """Mean squared errors: energy (eV/atom)², forces (eV/Å)²."""
        return self.energy / self.systems, self.forces / self.components
