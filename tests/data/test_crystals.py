from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.fd import calculate_numerical_forces
from ase.io import write

from mlip_sweep.data import trained_methods
from mlip_sweep.data.checksums import data_checksum
from mlip_sweep.data.consistency import check_consistency
from mlip_sweep.data.crystals import Disorder, crystal, disordered_cell
from mlip_sweep.data.reference import METALS, reference_calculator, reference_versions
from mlip_sweep.errors import InputError

SMALL = {
    "name": "al",
    "method": "EMT",
    "structure": "Al",
    "lattice_constant": 4.0,
    "n_pool": 4,
    "n_validation": 2,
    "n_test": 2,
    "repeat": [2, 2, 1],
    "steps": 5,
    "test_temperatures": [300, 1500],
}


@pytest.fixture
def aluminium(tmp_path):
    def make(**options):
        return crystal(**{**SMALL, "seed": 0, "cache": tmp_path / "cache", **options})

    return make


def test_frames_are_periodic_and_labelled_by_emt(aluminium):
    data = aluminium()
    assert (len(data.train), len(data.validation)) == (4, 2)
    assert {label: len(part) for label, part in data.tests.items()} == {"300K": 2, "1500K": 2}
    assert data.training_temperature == 300.0
    assert data.atomic_numbers == (13,)
    for frame in [*data.train, *data.validation, *data.tests["1500K"]]:
        assert frame.pbc.all()
        atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=EMT())
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-6)
        np.testing.assert_allclose(frame.stress, atoms.get_stress(voigt=False), atol=1e-7)


def test_the_reference_makes_the_labels_again(aluminium):
    data = aluminium()
    assert isinstance(reference_calculator(data.reference), EMT)
    assert set(reference_versions(data.reference)) == {"ase"}
    atoms = Atoms("Al", calculator=EMT())
    assert data.isolated_atom_energies == {13: pytest.approx(atoms.get_potential_energy())}


def test_the_cache_gives_what_was_computed(aluminium, tmp_path):
    first = data_checksum(aluminium())
    assert data_checksum(aluminium()) == first
    assert len(list((tmp_path / "cache" / "crystals").glob("*.xyz"))) == 1
    assert data_checksum(aluminium(cache=tmp_path / "elsewhere")) == first
    assert data_checksum(aluminium(seed=1)) != first
    assert len(aluminium(n_train=3, noise={"forces_sigma": 0.1, "energy_sigma": 0.0}).train) == 3
    files = list((tmp_path / "cache" / "crystals").glob("*.xyz"))
    assert len(files) == 2  # neither subset nor noise belongs to the key


def test_cells_are_strained_lack_atoms_and_melt():
    def cells(temperature: float = 300.0, **settings) -> list[Atoms]:
        still = {"strain": 0.0, "vacancy": 0.0, "molten": 0.0, "steps": 40}
        how = Disorder(**{"repeat": (2, 2, 3)} | still | settings)
        start, emt = bulk("Al", a=4.0), {"method": "EMT"}
        return [disordered_cell(start, emt, temperature, how, np.random.default_rng(k)) for k in range(3)]

    whole = cells()
    assert [len(atoms) for atoms in whole] == [12] * 3
    assert [atoms.get_volume() for atoms in whole] == pytest.approx([12 * 4.0**3 / 4] * 3)
    assert [len(atoms) for atoms in cells(vacancy=1.0)] == [11] * 3
    strained = np.array([np.linalg.solve(whole[0].cell, atoms.cell) for atoms in cells(strain=0.05)])
    assert 0.01 < np.abs(strained - np.eye(3)).max() < 0.25
    # More disorder, more energy: of solid, of hot solid, of what was molten.
    energy = [np.mean([a.get_potential_energy() for a in c]) for c in (whole, cells(1500.0), cells(1500.0, molten=1.0))]
    assert energy[0] < energy[1] < energy[2]


def test_cells_of_an_alloy_differ_in_what_they_are_made_of(aluminium):
    data = aluminium(elements=["Cu", "Au"], lattice_constant=3.85, n_pool=8)
    assert data.atomic_numbers == (29, 79)
    shares = [np.mean(frame.atomic_numbers == 79) for frame in data.train]
    assert len(set(shares)) > 2
    assert 0.2 < np.mean(shares) < 0.8
    atoms = [Atoms(symbol, calculator=EMT()) for symbol in ("Cu", "Au")]
    assert list(data.isolated_atom_energies.values()) == pytest.approx([a.get_potential_energy() for a in atoms])
    check_consistency(data.train, "alloy")


def test_a_crystal_of_a_file(aluminium, tmp_path):
    write(tmp_path / "gold.cif", bulk("Au", cubic=True))
    data = aluminium(structure=str(tmp_path / "gold.cif"), lattice_constant=None, repeat=[1, 1, 1], vacancy=0.0)
    assert data.atomic_numbers == (79,)
    assert {len(frame) for frame in data.train} == {4}


@pytest.mark.parametrize("method", trained_methods.PACKAGES)
def test_sodium_chloride_by_a_trained_potential(tmp_path, method):
    package, extra = trained_methods.PACKAGES[method]
    pytest.importorskip(package, reason=f"{package} is not installed (extra {extra})")
    salt = {"method": method, "structure": "NaCl", "lattice": "rocksalt", "lattice_constant": 5.64}
    short = {"name": "salt", "n_pool": 8, "strain": 0.05, "molten": 0.0, "steps": 2}
    data = crystal(**{**SMALL, **salt, **short}, seed=0, cache=tmp_path)
    assert data.atomic_numbers == (11, 17)
    assert data.isolated_atom_energies == {}
    check_consistency(data.train, "salt")
    frame = data.train[0]
    atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=True)
    atoms.calc = reference_calculator(data.reference)
    assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(frame.forces, calculate_numerical_forces(atoms, eps=1e-2), atol=0.02)
    np.testing.assert_allclose(frame.stress, atoms.get_stress(voigt=False), atol=1e-5)


def test_all_of_emts_metals_serve(aluminium):
    data = aluminium(elements=METALS, n_pool=6, steps=1)
    assert set(data.isolated_atom_energies) == {13, 28, 29, 46, 47, 78, 79}
    assert len(data.atomic_numbers) > 3


def test_stress_and_energy_of_strained_cells_belong_together(aluminium):
    data = aluminium(n_pool=30, steps=20)
    check_consistency(data.train, "aluminium")
    for factor, message in ((-1.0, "wrong sign"), (160.2, "another unit")):
        wrong = [replace(frame, stress=factor * frame.stress) for frame in data.train]
        with pytest.raises(InputError, match=f"aluminium: energies of like frames in other cells .*{message}"):
            check_consistency(wrong, "aluminium")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeat": [1, 1, 1]}, r"repeat=\[1, 1, 1\]: that is one atom"),
        ({"elements": ["Al", "Fe"]}, r"EMT does not know Fe; take some of Al, Ni"),
        ({"elements": ["Cu", "Cu"]}, r"elements=\['Cu', 'Cu'\]: give chemical symbols, each once"),
        ({"elements": ["Cu", "Qq"]}, r"elements=\['Cu', 'Qq'\]: give chemical symbols"),
        ({"elements": ["Cu"]}, "elements"),
        ({"lattice_constant": 0.4}, "lattice_constant=0.4"),
        ({"structure": "Fe", "lattice_constant": None}, "EMT does not know Fe"),
        ({"structure": "NaCl"}, r"structure=NaCl: ase\.build\.bulk makes no such crystal with dataset\.lattice=None"),
        ({"structure": "Al", "lattice": "foo"}, r"structure=Al: ase\.build\.bulk makes no such"),
        ({"structure": "absent.cif", "lattice_constant": None}, r"absent\.cif"),
        ({"structure": "absent.cif"}, r"absent\.cif: the file says what the lattice is"),
        ({"method": "DFT"}, "method 'DFT' is unknown"),
        ({"n_train": 5}, r"n_train=5: only 4 frames"),
        ({"test_temperatures": [300, 300.0]}, r"test_temperatures=\[300.0, 300.0\]: give each temperature once"),
    ],
)
def test_options_that_do_not_serve(aluminium, options, message):
    with pytest.raises(InputError, match=message):
        aluminium(**options)
