"""A committee answers by the mean of its members, and says how far they are apart."""

import io

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_forces
from ase.io import write
from samples import TINY, ethanol_dataset, installed_architectures, small_model
from toys import Springs, frame_of

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint, committee
from mlip_sweep.models.calculator import CommitteeCalculator, PotentialCalculator, calculator
from mlip_sweep.models.committee import MEMBERS, Committee
from mlip_sweep.models.interface import Potential


def springs(*lengths: float) -> list[Springs]:
    return [Springs(stiffness=3.0, length=length).eval() for length in lengths]


@pytest.fixture
def tiny():
    """A function that makes members of one architecture, as small as it allows."""
    if not installed_architectures():
        pytest.skip("no architecture is installed")
    name = installed_architectures()[0]

    def make(dataset: Dataset, seed: int, **changes) -> Potential:
        return small_model(name, dataset, seed=seed, **{**TINY[name], **changes})

    return make


def test_members_of_one_architecture_give_their_mean_and_spread(tiny):
    members = [tiny(ethanol_dataset(), seed) for seed in range(3)]
    batch = collate([graph(frame, members[0].cutoff) for frame in ethanol_dataset().train[:2]])
    alone = [member(batch) for member in members]
    found = Committee(members)(batch)
    for name in ("energy", "forces"):
        mean = torch.stack([getattr(one, name) for one in alone]).mean(0)
        torch.testing.assert_close(getattr(found, name), mean, rtol=1e-9, atol=1e-9)
    energies = np.array([one.energy.numpy() for one in alone])
    apart = np.linalg.norm([(one.forces - found.forces).numpy() for one in alone], axis=-1)  # (M, N)
    np.testing.assert_allclose(found.energy_spread, energies.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.forces_spread, np.sqrt((apart**2).mean(axis=0)), rtol=1e-6)
    assert found.forces_spread.min() > 0


def test_the_stress_is_the_mean_of_the_members():
    argon = bulk("Ar", cubic=True)
    argon.rattle(0.1, seed=0)
    stresses = [PotentialCalculator(one).get_stress(argon) for one in springs(1.0, 3.0)]
    argon.calc = CommitteeCalculator(Committee(springs(1.0, 3.0)))
    np.testing.assert_allclose(argon.get_stress(), np.mean(stresses, axis=0))


def test_members_that_are_not_alike_are_each_asked_within_their_own_cutoff(tiny):
    (frame,) = ethanol_dataset().train[:1]
    members = [tiny(ethanol_dataset(), 0, cutoff=2.0), tiny(ethanol_dataset(), 1, cutoff=4.0)]
    both = Committee(members)
    assert both.cutoff == 4.0
    found = both(graph(frame, 4.0))
    alone = [member(graph(frame, member.cutoff)) for member in members]
    torch.testing.assert_close(found.forces, (alone[0].forces + alone[1].forces) / 2)
    torch.testing.assert_close(found.forces_spread, (alone[0].forces - alone[1].forces).norm(dim=1) / 2)


def test_the_calculator_tells_the_spread_beside_the_mean():
    atoms = molecule("CH4")
    atoms.rattle(0.1, seed=0)
    atoms.calc = CommitteeCalculator(Committee(springs(1.0, 1.1, 1.3)))
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=1e-6)
    energies = [PotentialCalculator(one).get_potential_energy(atoms) for one in springs(1.0, 1.1, 1.3)]
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies))
    assert atoms.calc.results["energy_spread"] == pytest.approx(np.std(energies))
    assert atoms.calc.get_property("forces_spread", atoms).shape == (5,)
    write(io.StringIO(), atoms, format="extxyz")  # ASE's own files take a calculator with results of its own


def test_a_committee_of_equals_does_not_disagree():
    found = Committee(springs(1.2, 1.2))(graph(frame_of(molecule("CH4")), 4.0))
    assert found.energy_spread.item() == found.forces_spread.max().item() == 0.0


def test_a_folder_of_members_becomes_a_calculator(tiny, tmp_path):
    members = [tiny(ethanol_dataset(), seed) for seed in range(2)]
    for seed, member in enumerate(members):
        (tmp_path / MEMBERS / f"seed_{seed}").mkdir(parents=True)
        checkpoint.save(member, tmp_path / MEMBERS / f"seed_{seed}" / "checkpoint.pt")
    atoms = molecule("CH3CH2OH", calculator=calculator(tmp_path))
    forces = [PotentialCalculator(member).get_forces(atoms) for member in members]
    np.testing.assert_allclose(atoms.get_forces(), np.mean(forces, axis=0), atol=1e-9)
    with pytest.raises(InputError, match="unknown to this model"):
        Atoms("N2", calculator=calculator(tmp_path)).get_potential_energy()


def test_a_folder_without_members_is_no_committee(tmp_path):
    with pytest.raises(InputError, match=r"no folder of a member"):
        committee.load(tmp_path)
