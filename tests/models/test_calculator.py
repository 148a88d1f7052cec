"""The ASE calculator says what the model says, and ASE's own finite differences agree."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from samples import architectures, copper_frame, ethanol_dataset, small_model

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import graph
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint
from mlip_sweep.models.calculator import PotentialCalculator, calculator


@pytest.mark.parametrize("architecture", architectures())
def test_agrees_with_the_model_on_a_periodic_cell(architecture):
    frame = copper_frame()
    model = small_model(architecture, Dataset("copper", [frame], [frame], {}, [frame]))
    atoms = Atoms(
        frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=PotentialCalculator(model)
    )
    found = model(graph(frame, model.cutoff))
    assert atoms.get_potential_energy() == found.energy.item()
    np.testing.assert_array_equal(atoms.get_forces(), found.forces.numpy())
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)
    assert "stress" not in PotentialCalculator(model).results


@pytest.mark.parametrize("architecture", architectures())
def test_a_saved_model_becomes_a_calculator(architecture, tmp_path):
    checkpoint.save(small_model(architecture, ethanol_dataset()), tmp_path / "checkpoint.pt")
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    atoms.calc = calculator(tmp_path)
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)


def test_refuses_other_elements():
    architecture = next((p.values[0] for p in architectures() if not p.marks[0].args[0]), None)
    if architecture is None:
        pytest.skip("neither architecture is installed")
    atoms = molecule("NH3")
    atoms.calc = PotentialCalculator(small_model(architecture, ethanol_dataset()))
    with pytest.raises(InputError, match=r"\[7\]"):
        atoms.get_potential_energy()
