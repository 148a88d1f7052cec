"""Potentials as ASE calculators."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import graph
from mlip_sweep.models.checkpoint import load
from mlip_sweep.models.compiled import Compiled
from mlip_sweep.models.interface import Potential


class PotentialCalculator(Calculator):
    """An ASE calculator of a potential: energy in eV, forces in eV/Å.

    Args:
        model: The potential; it is put into evaluation mode.

    Raises:
        InputError: At the first calculation of atoms that the model does not know.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, model: Potential, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model.eval()
        self._device = next(model.parameters()).device

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill `results` with the energy, eV, and the forces, eV/Å."""
        super().calculate(atoms, properties, system_changes)
        numbers = self.atoms.numbers.astype(np.int64)
        self.model.check_elements(numbers, "atoms")
        frame = Frame(
            atomic_numbers=numbers,
            positions=self.atoms.positions,
            cell=np.asarray(self.atoms.cell),
            pbc=self.atoms.pbc,
            energy=float("nan"),
            forces=np.full((len(self.atoms), 3), np.nan),
        )
        prediction = self.model(graph(frame, self.model.cutoff).to(self._device))
        self.results = {"energy": prediction.energy.item(), "forces": prediction.forces.cpu().numpy()}


def calculator(
    path: Path, *, device: str = "cpu", dtype: str | None = None, compiled: bool = False
) -> PotentialCalculator:
    """The calculator of a checkpoint; arguments as `mlip_sweep.load_calculator`."""
    model = load(path, device=device, dtype=dtype)
    if compiled:
        model.compiled = Compiled(model)
    return PotentialCalculator(model)
