"""How much of its training labels a model explains where it stands: S speaks of a minimum, and needs one to speak of.

S = log Σ_i exp(−ℓ̄(t_i) / T) falls with the loss at t = 0 as well as with the narrowness of the valley around it. For a
model that has hardly learnt, the first is all there is to see: its losses are those of any other set of weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.measurement.evaluation import evaluating
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.targets import ENERGY, FORCES, residuals
from mlip_sweep.training.energy_shift import EnergyErrors
from mlip_sweep.training.loss import MeanSquares

UNLEARNT_ABOVE: Final = 0.5  # RMSE over RMS of the forces: a quarter of their variance is not explained then


@dataclass(frozen=True)
class AtMinimum:
    """Losses at t = 0, and what a model that knows nothing would have.

    Attributes:
        energy: RMSE, eV/atom.
        forces: RMSE, eV/Å.
        energy_spread: what a fit of energies on compositions alone leaves, eV/atom.
        forces_spread: root mean square of the forces, eV/Å.
    """

    energy: float
    forces: float
    energy_spread: float
    forces_spread: float

    @property
    def unexplained_energy(self) -> float:
        """RMSE over spread: 0 for a perfect model, about 1 for one that knows nothing; NaN without a spread."""
        return self.energy / self.energy_spread if self.energy_spread > 0 else float("nan")

    @property
    def unexplained_forces(self) -> float:
        """As of the energy."""
        return self.forces / self.forces_spread if self.forces_spread > 0 else float("nan")

    @property
    def learnt(self) -> bool:
        """Whether the model has learnt the forces to a degree that makes its landscape one of a minimum."""
        return self.unexplained_forces <= UNLEARNT_ABOVE


def at_minimum(model: Potential, batches: Sequence[GraphBatch]) -> AtMinimum:
    """Evaluate a model where it stands.

    Args:
        model: left as it was found.
        batches: labelled, on the model's device.
    """
    losses, labels, spread = MeanSquares(), EnergyErrors(), MeanSquares()
    with evaluating(model), torch.no_grad():
        for batch in batches:
            losses.add(residuals(model, batch))
            energy, forces = batch.labels
            labels.add(energy / batch.atoms_per_system, batch, model)
            spread.add({FORCES.name: forces.flatten()})
    roots = losses.roots
    left = labels.fit().after
    return AtMinimum(
        energy=float(roots[ENERGY.name]),
        forces=float(roots[FORCES.name]),
        energy_spread=float(np.sqrt(np.mean(left**2))),
        forces_spread=float(spread.roots[FORCES.name]),
    )
