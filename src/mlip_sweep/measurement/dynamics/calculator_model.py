"""An ASE calculator in the place of a model, so that the reference method runs through the same engine."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.models.interface import Prediction


class CalculatorModel:
    """Energies and forces of a batch, one system after another.

    A calculation that fails (a self-consistent field that does not converge) gives NaN for its system; any other
    exception passes through. Gradients are enabled while it works: a trained potential derives its forces by them.

    Args:
        calculator: any ASE calculator of energies and forces.
        cutoff: Å; 0 because a calculator finds its own neighbours.
        pbc: which cell vectors are periodic; a graph does not say.
    """

    def __init__(self, calculator: Calculator, cutoff: float = 0.0, *, pbc: Sequence[bool] = (False, False, False)):
        self.calculator = calculator
        self.cutoff = cutoff
        self.pbc = tuple(bool(periodic) for periodic in pbc)

    @torch.enable_grad()
    def __call__(self, batch: GraphBatch) -> Prediction:
        """Energy (S,) eV and forces (N, 3) eV/Å; not differentiable."""
        energies = np.full(batch.n_systems, np.nan)
        forces = np.full(batch.positions.shape, np.nan)
        system = batch.system.cpu().numpy()
        positions = batch.positions.detach().cpu().numpy()
        numbers = batch.atomic_numbers.cpu().numpy()
        for s, cell in enumerate(batch.cell.cpu().numpy()):
            here = system == s
            atoms = Atoms(numbers[here], positions[here], cell=cell, pbc=self.pbc, calculator=self.calculator)
            try:
                energies[s], forces[here] = atoms.get_potential_energy(), atoms.get_forces()
            except CalculationFailed:
                continue
        return Prediction(energy=torch.from_numpy(energies), forces=torch.from_numpy(forces))
