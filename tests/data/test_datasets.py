from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import units
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from mlip_sweep.data.checksums import data_checksum, file_checksum
from mlip_sweep.data.datasets import extxyz, published
from mlip_sweep.errors import InputError

CONF = str(Path(__file__).resolve().parents[2] / "conf" / "dataset")


def configured(name, *overrides):
    with initialize_config_dir(CONF, version_base=None):
        options = compose(name, overrides=["+seeds.data=0", *overrides])
    return instantiate({key: value for key, value in options.items() if key != "seeds"})


@pytest.fixture
def files(structures, write):
    return {
        "train": write("train.xyz", structures(60, seed=0)),
        "cold": write("cold.xyz", structures(12, seed=1)),
        "hot": write("hot.xyz", structures(12, seed=2, width=0.1)),
    }


def test_your_own_files_through_the_configuration(files):
    tests = f"tests={{600K: {files['hot']}, 300K: {files['cold']}}}"
    data = configured("extxyz", f"train={files['train']}", tests, "n_train=25", "isolated_atoms={H: -13.6}")
    assert (len(data.train), len(data.validation)) == (25, 6)
    assert {label: len(part) for label, part in data.tests.items()} == {"600K": 12, "300K": 12}
    assert data.training_test == "300K"
    assert data.isolated_atom_energies == {1: -13.6}
    assert data.checksums[str(files["hot"])] == file_checksum(files["hot"])
    assert data.train is data.train_clean
    assert data.reference is None


def test_training_sets_are_nested_with_the_same_noise(files):
    noise = {"forces_sigma": 0.1, "energy_sigma": 0.5}
    small, large = (
        extxyz(name="own", train=files["train"], tests={"hot": files["hot"]}, seed=1, n_train=n, noise=noise)
        for n in (5, 25)
    )
    for a, b in zip(small.train, large.train, strict=False):
        assert a.origin == b.origin
        np.testing.assert_array_equal(a.forces, b.forces)
        assert a.energy == b.energy


def test_tests_stay_clean_and_the_clean_training_labels_are_kept(files):
    options = {"name": "own", "train": files["train"], "tests": {"hot": files["hot"]}, "seed": 1}
    clean = extxyz(**options)
    noisy = extxyz(**options, noise={"forces_sigma": 0.1, "energy_sigma": 0.0})
    assert noisy.noisy
    assert not clean.noisy
    for a, b in zip(clean.tests["hot"], noisy.tests["hot"], strict=True):
        np.testing.assert_array_equal(a.forces, b.forces)
    for original, kept, trained in zip(clean.train, noisy.train_clean, noisy.train, strict=True):
        np.testing.assert_array_equal(original.forces, kept.forces)
        assert np.any(trained.forces != kept.forces)
        assert trained.energy == kept.energy
    assert np.any(noisy.validation[0].forces != clean.validation[0].forces)
    assert noisy.training_test is None  # "hot" is no temperature
    assert len({data_checksum(clean), data_checksum(noisy)}) == 2
    assert data_checksum(clean) == data_checksum(extxyz(**options))


def test_the_checksum_sees_one_label(files):
    data = extxyz(name="own", train=files["train"], tests={"hot": files["hot"]}, seed=1)
    changed = replace(data, tests={"hot": [replace(data.tests["hot"][0], energy=0.0), *data.tests["hot"][1:]]})
    assert data_checksum(changed) != data_checksum(data)
    assert data_checksum(replace(data, name="renamed")) == data_checksum(data)


def test_a_test_set_that_holds_training_frames_is_refused(structures, write, files):
    leaking = write("leak.xyz", [*structures(3, seed=9), structures(60, seed=0)[17]])
    with pytest.raises(InputError, match=r"leak.xyz, frame 3: .*tests.600K.*train.xyz, frame 17"):
        extxyz(name="own", train=files["train"], tests={"600K": leaking}, n_validation=1, seed=0)
    with pytest.raises(InputError, match=r"leak.xyz, frame 3: .*validation"):
        extxyz(name="own", train=files["train"], validation=leaking, seed=0)


def test_another_unit_is_refused_unless_told_otherwise(structures, write):
    wrong = structures(60)
    for atoms in wrong:
        atoms.calc.results["energy"] /= units.Hartree
    path = write("hartree.xyz", wrong)
    with pytest.raises(InputError, match=r"hartree.xyz: energies of like frames differ"):
        extxyz(name="own", train=path, seed=0)
    assert len(extxyz(name="own", train=path, seed=0, check_units=False).train) == 54


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": None}, "dataset.train: no file"),
        ({"n_train": 55}, "dataset.n_train=55: the training set has only 54 frames"),
        ({"n_validation": 60}, "dataset.n_validation=60: takes every frame"),
        ({"n_validation": 61}, "dataset.n_validation=61: .* has only 60 frames"),
        ({"training_test": "900K"}, "dataset.training_test=900K: not a test; choose one of 600K"),
        ({"tests": {"high_T": "hot"}}, "label 'high_T' cannot name metrics"),
        ({"tests": {"a b": "hot"}}, "label 'a b' cannot name metrics"),
        ({"energy_key": "REF"}, "train.xyz, frame 0: no REF; choose dataset.energy_key among"),
    ],
)
def test_options_that_do_not_serve(files, options, message):
    given = {"name": "own", "train": files["train"], "tests": {"600K": "hot"}, "seed": 0, **options}
    given["tests"] = {label: files[file] for label, file in given["tests"].items()}
    with pytest.raises(InputError, match=message):
        extxyz(**given)


def test_3bpa_from_a_folder(published_3bpa, tmp_path):
    with pytest.raises(InstantiationException, match=r"test_300K.xyz: its git blob id is") as error:
        configured("3bpa", f"folder={published_3bpa}", f"cache={tmp_path}")
    assert isinstance(error.value.__cause__, InputError)  # Hydra wraps it; commands unwrap it
    data = configured("3bpa", f"folder={published_3bpa}", f"cache={tmp_path}", "verify=false")
    assert (len(data.train), len(data.validation)) == (450, 50)
    assert {label: len(part) for label, part in data.tests.items()} == {"300K": 136, "600K": 167, "1200K": 166}
    assert data.training_test == "300K"
    assert data.isolated_atom_energies[1] == pytest.approx(-13.587222780835477)
    assert data.checksums["test_1200K.xyz"] == file_checksum(published_3bpa / "test_1200K.xyz")
    assert len(data.train[0]) == 27
    forces = np.concatenate([frame.forces for frame in data.train])
    np.testing.assert_allclose(forces.sum() / forces.size, 0.0, atol=1e-3)


def test_a_name_that_is_not_in_the_catalog(tmp_path):
    with pytest.raises(InputError, match=r"dataset.name=qm9: not in the catalog; choose one of 3bpa, acetylacetone"):
        published(name="qm9", seed=0, cache=tmp_path)


def test_the_default_sets_compose():
    targets = {"ethanol_xtb": "molecule_xtb", "molecule_xtb": "molecule_xtb", "acetylacetone": "published"}
    for name, target in targets.items():
        with initialize_config_dir(CONF, version_base=None):
            options = compose(name, overrides=["+seeds.data=7"])
        assert options._target_.endswith(target)
        assert options.seed == 7
        assert options.cache
