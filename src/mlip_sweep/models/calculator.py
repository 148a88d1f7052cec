"""Potentials as ASE calculators."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import graph
from mlip_sweep.models import checkpoint, committee
from mlip_sweep.models.committee import Committee
from mlip_sweep.models.compiled import BACKEND, Compiled
from mlip_sweep.models.interface import Potential, Prediction


class PotentialCalculator(Calculator):
    """An ASE calculator of a potential: energy in eV, forces in eV/Å, and stress in eV/Å³ where there is a cell.

    Args:
        model: The potential; it is put into evaluation mode.

    Raises:
        InputError: At the first calculation of atoms that the model does not know.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, model: Potential | Committee, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model.eval()
        self._device = next(iter(model.state_dict().values())).device

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
        self._take(self.model(batch, stress="stress" in (properties or ())))

    def _take(self, prediction: Prediction) -> None:
        """Fill `results`."""
        energy = prediction.energy.item()
        self.results = {"energy": energy, "free_energy": energy, "forces": prediction.forces.cpu().numpy()}
        if prediction.stress is not None and self.atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress[0].cpu().numpy())


class CommitteeCalculator(PotentialCalculator):
    """An ASE calculator of a committee: its mean energy, forces and stress, and how far its members are apart.

    After every calculation `results` also holds, as standard deviations over the members (`Committee`):

    | key             | what it is                                                                 |
    | --------------- | -------------------------------------------------------------------------- |
    | `energy_spread` | of the total energy, eV                                                    |
    | `forces_spread` | of each atom's force vector, √(mean over members of |F_m − F̄|²), (N,) eV/Å |

    Args:
        model: The committee.

    Raises:
        InputError: At the first calculation of atoms that not all members know.
    """

    implemented_properties = [  # noqa: RUF012 - as ASE declares it
        *PotentialCalculator.implemented_properties,
        "energy_spread",
        "forces_spread",
    ]

    def __init__(self, model: Committee, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)

    def _take(self, prediction: Prediction) -> None:
        super()._take(prediction)
        if prediction.energy_spread is not None and prediction.forces_spread is not None:  # a committee has both
            self.results["energy_spread"] = prediction.energy_spread.item()
            self.results["forces_spread"] = prediction.forces_spread.cpu().numpy()


def calculator(
    path: Path, *, device: str = "cpu", dtype: str | None = None, compiled: bool = False
) -> PotentialCalculator:
    """The calculator of a checkpoint, or of the folder of a committee; arguments as `mlip_sweep.load_calculator`."""
    if committee.member_folders(path):
        backend = BACKEND if compiled else None
        return CommitteeCalculator(committee.load(path, device=device, dtype=dtype, backend=backend))
    model = checkpoint.load(path, device=device, dtype=dtype)
    if compiled:
        model.compiled = Compiled(model)
    return PotentialCalculator(model)
