"""A potential as torch-sim drives it: the numbers of the ASE calculator, torch-sim's own checks, a trajectory."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from samples import ethanol_dataset, installed, small_model

from mlip_sweep import load_torch_sim_model
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint
from mlip_sweep.models.calculator import PotentialCalculator

torch_sim = pytest.importorskip("torch_sim", reason="torch-sim is not installed (extra torch-sim)")
pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small NequIP of the elements that torch-sim's own checks have too."""
    path = tmp_path_factory.mktemp("model")
    model = small_model("nequip", ethanol_dataset(), dtype="float64")
    values = {**model.hyperparameters, "atomic_numbers": [1, 6, 7, 8, 12, 14, 26]}
    potential = checkpoint.create(values, type(model.rescaling)(0.7, [-10.0 * z for z in values["atomic_numbers"]]))
    checkpoint.save(potential, path / "checkpoint.pt")
    return path


def rattled(atoms):
    atoms.rattle(0.1, seed=0)
    return atoms


@pytest.mark.parametrize(
    "systems",
    [
        [rattled(molecule("CH3CH2OH")), rattled(molecule("C6H6"))],
        [rattled(bulk("Si", cubic=True)), rattled(bulk("Fe", cubic=True) * (2, 2, 1))],
    ],
    ids=["molecules", "crystals"],
)
def test_the_numbers_are_those_of_the_ase_calculator(folder, systems):
    driven = load_torch_sim_model(str(folder))
    found = driven(torch_sim.io.atoms_to_state(systems, driven.device, driven.dtype))
    calculator, forces = PotentialCalculator(checkpoint.load(folder)), []
    for place, atoms in enumerate(systems):
        atoms.calc = calculator
        assert found["energy"][place].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        forces.append(atoms.get_forces())
        stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else np.zeros((3, 3))
        np.testing.assert_allclose(found["stress"][place], stress, atol=1e-10)
    np.testing.assert_allclose(found["forces"], np.concatenate(forces), atol=1e-9)


@pytest.mark.filterwarnings("ignore")  # of torch-sim and what it imports
def test_it_keeps_torch_sims_own_contract(folder):
    from torch_sim.models.interface import validate_model_outputs

    driven = load_torch_sim_model(str(folder))
    validate_model_outputs(driven, driven.device, driven.dtype)


def test_torch_sim_runs_a_trajectory_of_constant_energy(folder):
    driven = load_torch_sim_model(str(folder), compute_stress=False)
    integrator = torch_sim.Integrator.nve if hasattr(torch_sim, "Integrator") else torch_sim.nve
    state = torch_sim.io.atoms_to_state([molecule("CH3CH2OH")] * 2, driven.device, driven.dtype)
    found = torch_sim.integrate(state, driven, integrator=integrator, n_steps=20, temperature=300.0, timestep=0.0002)
    assert not torch.allclose(found.positions, state.positions)
    kinetic = (found.momenta.square() / found.masses[:, None] / 2).sum()
    begun = driven(state)["energy"].sum() + 1.5 * units.kB * 300.0 * len(state.masses)
    assert (found.energy.sum() + kinetic - begun).abs() < 0.5  # eV; momenta of the start are drawn at 300 K


def test_an_unknown_element_is_named(folder):
    driven = load_torch_sim_model(str(folder))
    state = torch_sim.io.atoms_to_state([bulk("Cu")], driven.device, driven.dtype)
    with pytest.raises(InputError, match="29"):
        driven(state)
