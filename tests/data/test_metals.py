from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from mlip_sweep.data.checksums import data_checksum
from mlip_sweep.data.consistency import check_consistency
from mlip_sweep.data.metals import METALS, Disorder, disordered_cell, metal_emt
from mlip_sweep.data.reference import reference_calculator, reference_versions
from mlip_sweep.errors import InputError

SMALL = {
    "name": "al",
    "elements": ["Al"],
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
        return metal_emt(**{**SMALL, "seed": 0, "cache": tmp_path / "cache", **options})

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
    assert len(list((tmp_path / "cache" / "emt").glob("*.xyz"))) == 1
    assert data_checksum(aluminium(cache=tmp_path / "elsewhere")) == first
    assert data_checksum(aluminium(seed=1)) != first
    assert len(aluminium(n_train=3, noise={"forces_sigma": 0.1, "energy_sigma": 0.0}).train) == 3
    assert len(list((tmp_path / "cache" / "emt").glob("*.xyz"))) == 2  # neither subset nor noise belongs to the key


def test_cells_are_strained_lack_atoms_and_melt():
    def cells(temperature: float = 300.0, **settings) -> list[Atoms]:
        still = {"strain": 0.0, "vacancy": 0.0, "molten": 0.0, "steps": 40}
        how = Disorder(**{"elements": ["Al"], "lattice_constant": 4.0, "repeat": (2, 2, 3)} | still | settings)
        return [disordered_cell(temperature, how, np.random.default_rng(k)) for k in range(3)]

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
        ({"repeat": [1, 1, 1]}, r"repeat=\[1, 1, 1\]: give three numbers"),
        ({"elements": ["Al", "Fe"]}, r"elements=\['Al', 'Fe'\]: give some of EMT's Al, Ni, .*each once"),
        ({"elements": ["Cu", "Cu"]}, r"elements=\['Cu', 'Cu'\]"),
        ({"elements": []}, "elements"),
        ({"lattice_constant": 0.4}, "lattice_constant=0.4"),
        ({"n_train": 5}, r"n_train=5: only 4 frames"),
        ({"test_temperatures": [300, 300.0]}, r"test_temperatures=\[300.0, 300.0\]: give each temperature once"),
    ],
)
def test_options_that_do_not_serve(aluminium, options, message):
    with pytest.raises(InputError, match=message):
        aluminium(**options)
