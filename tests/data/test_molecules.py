import numpy as np
import pytest

from mlip_sweep.data import samples as samples_module
from mlip_sweep.data.checksums import data_checksum
from mlip_sweep.data.molecules import molecule_xtb
from mlip_sweep.data.reading import frame_of
from mlip_sweep.data.reference import reference_calculator
from mlip_sweep.errors import InputError

SMALL = {
    "name": "water",
    "molecule": "H2O",
    "n_pool": 6,
    "n_validation": 2,
    "n_test": 3,
    "stride": 4,
    "equilibration": 4,
    "test_temperatures": [300, 900],
}


@pytest.fixture
def water(tmp_path):
    pytest.importorskip("tblite")

    def make(**options):
        return molecule_xtb(**{**SMALL, "seed": 0, "cache": tmp_path / "cache", **options})

    return make


def test_the_set_is_labelled_split_and_described(water):
    data = water()
    assert (len(data.train), len(data.validation)) == (6, 2)
    assert {label: len(part) for label, part in data.tests.items()} == {"300K": 3, "900K": 3}
    assert data.training_temperature == 300.0
    assert data.reference == {"method": "GFN2-xTB"}
    assert set(data.isolated_atom_energies) == {1, 8}
    assert data.train is data.train_clean
    frame = data.tests["900K"][1]
    from ase import Atoms

    atoms = Atoms(frame.atomic_numbers, frame.positions)
    atoms.calc = reference_calculator(data.reference)
    assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-3)


def test_the_cache_is_asked_first(water, monkeypatch):
    computed = []
    first = samples_module.sample

    def counted(*args):
        computed.append(args)
        return first(*args)

    monkeypatch.setattr(samples_module, "sample", counted)
    data = water()
    assert data_checksum(water()) == data_checksum(data)
    water(n_train=3, noise={"forces_sigma": 0.1, "energy_sigma": 0.0})
    assert len(computed) == 1  # neither the subset nor the noise belongs to the key
    other = water(seed=1)
    assert len(computed) == 2
    assert data_checksum(other) != data_checksum(data)
    water(stride=5)
    assert len(computed) == 3


def test_the_same_seed_gives_the_same_frames_in_another_cache(water, tmp_path):
    assert data_checksum(water()) == data_checksum(water(cache=tmp_path / "elsewhere"))


def test_a_damaged_cache_is_named(water, tmp_path):
    water()
    (path,) = (tmp_path / "cache").rglob("*.npz")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"water-.*npz: this cached set cannot be read .*delete it"):
        water()


def test_a_file_with_a_radical_and_a_charge(water, tmp_path):
    path = tmp_path / "start.xyz"
    path.write_text("2\n\nO 0 0 0\nH 0 0 0.97\n")
    assert water(molecule=str(path), name="OH").reference == {"method": "GFN2-xTB", "multiplicity": 2}
    assert water(molecule=str(path), name="OH-", charge=-1).reference == {"method": "GFN2-xTB", "charge": -1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"molecule": None}, "dataset.molecule: none"),
        ({"molecule": "CH3CH2OHH"}, "did you mean CH3CH2OH"),
        ({"molecule": "H"}, "2 known atoms or more"),
        ({"molecule": "gone.xyz"}, "gone.xyz: no such file"),
        ({"n_train": 7}, "n_train=7: only 6 frames are computed; set dataset.n_pool=7"),
        ({"method": "PM6"}, "method 'PM6' is unknown"),
    ],
)
def test_options_that_do_not_serve(water, options, message):
    with pytest.raises(InputError, match=message):
        water(**options)


def test_frames_check_themselves(water):
    from mlip_sweep.data.reading import atoms_of

    frame = water().train[0]
    assert frame_of(atoms_of(frame), "again").energy == frame.energy
