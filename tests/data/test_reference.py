import builtins
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.fd import calculate_numerical_forces

from mlip_sweep.data import reference
from mlip_sweep.data.reference import isolated_atom_labels, one_thread, reference_calculator, reference_versions
from mlip_sweep.errors import InputError

GFN2 = {"method": "GFN2-xTB"}
HARTREE = 27.211386


@pytest.fixture
def xtb():
    pytest.importorskip("tblite")


def test_forces_are_minus_the_gradient_of_the_energy(xtb):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    atoms.calc = reference_calculator(GFN2)
    with one_thread(GFN2):
        forces = atoms.get_forces()
        numerical = calculate_numerical_forces(atoms, eps=1e-3)
    assert np.abs(forces).max() > 1.0
    np.testing.assert_allclose(forces, numerical, atol=2e-3)


def test_isolated_atoms(xtb):
    energies = isolated_atom_labels([1, 6, 8, 1], "GFN2-xTB")
    assert list(energies) == [1, 6, 8]
    assert energies[1] == pytest.approx(-0.393482764 * HARTREE, abs=1e-4)  # as the xtb program prints it
    atoms = molecule("CH3CH2OH")
    atoms.calc = reference_calculator(GFN2)
    binding = sum(energies[z] for z in atoms.numbers) - atoms.get_potential_energy()
    assert 3.0 < binding / len(atoms) < 6.0  # measured: 33.5 eV for 9 atoms; GFN2 binds too strongly


def test_charge_and_multiplicity_reach_the_method(xtb):
    def energy(**reference):
        atoms = molecule("OH")
        atoms.calc = reference_calculator({**GFN2, **reference})
        return atoms.get_potential_energy()

    doublet, quartet, anion = energy(multiplicity=2), energy(multiplicity=4), energy(charge=-1)
    assert quartet - doublet > 5.0  # eV: the radical's ground state is the doublet
    assert doublet - anion > 1.0  # the radical binds another electron


def test_an_unknown_method_is_named():
    with pytest.raises(InputError, match=r"method 'DFT' is unknown; choose one of GFN2-xTB"):
        reference_calculator({"method": "DFT"})


def test_without_tblite_the_remedy_is_named(monkeypatch):
    imported = builtins.__import__

    def without_tblite(name, *args, **kwargs):
        if name.startswith("tblite"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(builtins, "__import__", without_tblite)
    with pytest.raises(InputError, match=r"pip install 'mlip-sweep\[xtb\]'"):
        reference_calculator(GFN2)
    monkeypatch.setattr(reference, "version", missing)
    with pytest.raises(InputError, match=r"pip install 'mlip-sweep\[xtb\]'"):
        reference_versions(GFN2)
