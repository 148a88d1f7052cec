"""Potentials as ASE calculators."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import graph
from mlip_sweep.models.checkpoint import load
from mlip_sweep.models.compiled import Compiled
from mlip_sweep.models.interface import Potential


class PotentialCalculator(Calculator):
    """An ASE calculator of a potential: energy in eV, forces in eV/Å, and stress in eV/Å³ where there is a cell.

    Args:
        model: The potential; it is put into evaluation mode.

    Raises:
        InputError: At the first calculation of atoms that the model does not know.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as ASE declares it

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
        """Fill `results` with the energy, eV, the forces, eV/Å, and the stress in Voigt order, eV/Å³."""
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
        batch = graph(frame, self.model.cutoff).to(self._device)
        prediction = self.model.predict(self.model.states(), batch, stress="stress" in (properties or ()))
        energy = prediction.energy.item()
        self.results = {"energy": energy, "free_energy": energy, "forces": prediction.forces.cpu().numpy()}
        if prediction.stress is not None and self.atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress[0].cpu().numpy())


def calculator(
    path: Path, *, device: str = "cpu", dtype: str | None = None, compiled: bool = False
) -> PotentialCalculator:
    """The calculator of a checkpoint; arguments as `mlip_sweep.load_calculator`."""
    model = load(path, device=device, dtype=dtype)
    if compiled:
        model.compiled = Compiled(model)
    return PotentialCalculator(model)
