from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import units
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from mlip_sweep.data.catalog import CATALOG, Published
from mlip_sweep.data.checksums import data_checksum, file_checksum, git_blob_id
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
    data = configured(
        "extxyz", f"train={files['train']}", tests, "temperature=400", "n_train=25", "isolated_atoms={H: -13.6}"
    )
    assert (len(data.train), len(data.validation)) == (25, 6)
    assert {label: len(part) for label, part in data.tests.items()} == {"600K": 12, "300K": 12}
    assert data.training_temperature == 400.0
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
    assert noisy.training_temperature is None  # "hot" is no temperature, so that none is needed
    assert len({data_checksum(clean), data_checksum(noisy)}) == 2
    assert data_checksum(clean) == data_checksum(extxyz(**options))


def test_the_checksum_sees_one_label(files):
    data = extxyz(name="own", train=files["train"], tests={"hot": files["hot"]}, seed=1)
    changed = replace(data, tests={"hot": [replace(data.tests["hot"][0], energy=0.0), *data.tests["hot"][1:]]})
    assert data_checksum(changed) != data_checksum(data)
    assert data_checksum(replace(data, name="renamed")) == data_checksum(data)
    stressed = [replace(data.tests["hot"][0], stress=s * np.eye(3)) for s in (0.1, 0.2)]
    seen = {data_checksum(replace(data, tests={"hot": [f, *data.tests["hot"][1:]]})) for f in stressed}
    assert len({*seen, data_checksum(data)}) == 3
    heavier = replace(data, train=[replace(data.train[0], weight=2.0), *data.train[1:]])
    assert data_checksum(heavier) != data_checksum(data)


def test_lists_of_files_are_joined_in_order(files, structures, write):
    more, mixed = write("more.xyz", structures(10, seed=3)), write("mixed.xyz", structures(4, seed=4))
    data = extxyz(
        name="own",
        train=[files["train"], more],
        validation=[files["cold"]],
        tests={"both": [str(files["hot"]), str(mixed)]},
        seed=0,
    )
    assert (len(data.train), len(data.validation)) == (70, 12)
    assert [frame.origin for frame in data.tests["both"]] == [
        *(f"{files['hot']}, frame {k}" for k in range(12)),
        *(f"{mixed}, frame {k}" for k in range(4)),
    ]
    assert data.checksums[str(more)] == file_checksum(more)
    with pytest.raises(InputError, match=r"n_validation=70: takes every frame of .*train.xyz, .*more.xyz"):
        extxyz(name="own", train=[files["train"], more], n_validation=70, seed=0)


def test_weights_of_training_frames_are_told(structures, write):
    weighed = structures(20)
    for k, atoms in enumerate(weighed):
        atoms.info["config_weight"] = float(k)
    data = extxyz(name="own", train=write("train.xyz", weighed), validation_fraction=0.05, seed=0)
    told = [frame.weight for frame in data.train if frame.weight != 1.0]
    assert data.notes == (
        f"{len(told)} of 19 training frames have a config_weight ({min(told):g} to {max(told):g}); the training loss "
        "alone uses it",
    )
    for atoms in weighed:
        atoms.info["config_weight"] = 0
    with pytest.raises(InputError, match=r"dataset own: config_weight is 0 in every training frame; give some of them"):
        extxyz(name="own", train=write("none.xyz", weighed), seed=0)


def test_every_config_type_of_a_file_is_a_test_set(files, structures, write):
    frames = structures(8, seed=5)
    for k, atoms in enumerate(frames):
        atoms.info["config_type"] = ("bulk", "500K")[k % 2]
    mixed = write("mixed.xyz", frames)
    options = {"train": files["train"], "tests": {"hot": files["hot"]}, "temperature": 300, "seed": 0}
    data = extxyz(name="own", tests_by_config_type=mixed, **options)
    assert {label: len(test) for label, test in data.tests.items()} == {"hot": 12, "bulk": 4, "500K": 4}
    assert {frame.config_type for frame in data.tests["bulk"]} == {"bulk"}
    assert data.test_temperatures == {"500K": 500.0}
    with pytest.raises(InputError, match=r"500K is compared .* dataset.temperature=300"):
        extxyz(name="own", tests_by_config_type=mixed, **(options | {"temperature": None}))
    with pytest.raises(InputError, match=r"^dataset.tests.bulk: .*mixed.xyz, frame 0 has this config_type"):
        extxyz(name="own", tests_by_config_type=mixed, **(options | {"tests": {"bulk": files["hot"]}}))
    with pytest.raises(InputError, match=r"cold.xyz, frame 0: no config_type, which dataset.tests_by_config_type asks"):
        extxyz(name="own", tests_by_config_type=[mixed, files["cold"]], **options)


def test_a_test_set_that_holds_training_frames_is_refused(structures, write, files):
    leaking = write("leak.xyz", [*structures(3, seed=9), structures(60, seed=0)[17]])
    with pytest.raises(InputError, match=r"leak.xyz, frame 3: .*tests.600K.*train.xyz, frame 17"):
        extxyz(name="own", train=files["train"], tests={"600K": leaking}, temperature=300, n_validation=1, seed=0)
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
        ({"temperature": None}, "dataset.tests: 600K is compared .* which is not known; .* dataset.temperature=300"),
        ({"temperature": "300K"}, "dataset.temperature='300K': give a number of kelvin"),
        ({"temperature": -1}, "dataset.temperature=-1: give a number of kelvin"),
        ({"validation": "absent.xyz"}, "absent.xyz: no such file"),
        ({"train": ["a.xyz", 5]}, r"dataset.train=\['a.xyz', 5\]: give the path of a file, or a list of paths"),
        ({"train": []}, r"dataset.train=\[\]: give the path of a file, or a list of paths"),
        (
            {"isolated_atoms": ["a.xyz"]},
            r"dataset.isolated_atoms=\['a.xyz'\]: give one file of single atoms, or \{H: -13.6",
        ),
        ({"tests_by_config_type": 5}, r"dataset.tests_by_config_type=5: give the path of a file, or a list of paths"),
        ({"validation": [__file__, __file__]}, "dataset.validation: .*test_datasets.py is given twice"),
        ({"tests": {"high_T": "hot"}}, "label 'high_T' cannot name metrics"),
        ({"tests": {"a b": "hot"}}, "label 'a b' cannot name metrics"),
        ({"stress_key": "REF"}, "dataset.stress_key=REF: no frame of .*train.xyz has it"),
        ({"energy_key": "REF"}, "train.xyz, frame 0: no REF; choose dataset.energy_key among"),
    ],
)
def test_options_that_do_not_serve(files, options, message):
    given = {"name": "own", "train": files["train"], "tests": {"600K": "hot"}, "temperature": 300, "seed": 0, **options}
    given["tests"] = {label: files[file] for label, file in given["tests"].items()}
    with pytest.raises(InputError, match=message):
        extxyz(**given)


@pytest.fixture
def small_published(structures, write, tmp_path, monkeypatch):
    """The folder of a published data set "small": 12 frames for training and validation, 5 in its one test set."""
    (tmp_path / "atoms.xyz").write_text("1\nProperties=species:S:1:pos:R:3 energy=-13.5\nH 0 0 0\n")
    write("train.xyz", structures(12, seed=0))
    write("test.xyz", structures(5, seed=1))
    blob_ids = {file: git_blob_id(tmp_path / file) for file in ("train.xyz", "test.xyz", "atoms.xyz")}
    entry = Published("https://nowhere.invalid", blob_ids, "train.xyz", 300.0, {"300K": "test.xyz"}, "atoms.xyz")
    monkeypatch.setitem(CATALOG, "small", entry)
    return tmp_path


def test_a_published_set_from_a_folder(small_published, tmp_path):
    options = {"name": "small", "seed": 0, "cache": tmp_path / "cache", "folder": small_published, "n_validation": 4}
    data = published(**options)
    assert (len(data.train), len(data.validation), len(data.tests["300K"])) == (8, 4, 5)
    assert data.training_temperature == 300.0
    assert data.isolated_atom_energies == {1: -13.5}
    assert data.checksums["test.xyz"] == file_checksum(small_published / "test.xyz")
    with (small_published / "atoms.xyz").open("a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3 energy=-1029.5\nC 0 0 0\n")
    with pytest.raises(InputError, match=r"atoms\.xyz: its git blob id is"):
        published(**options)
    assert published(**options, verify=False).isolated_atom_energies == {1: -13.5, 6: -1029.5}


def test_files_that_are_not_verified_still_have_to_be_in_the_right_units(small_published, structures, write, tmp_path):
    wrong = structures(60, seed=1)
    for atoms in wrong:
        atoms.calc.results["energy"] /= units.Hartree
    write("test.xyz", wrong)
    options = {"name": "small", "seed": 0, "cache": tmp_path / "cache", "folder": small_published, "n_validation": 4}
    with pytest.raises(InputError, match=r"test\.xyz: energies of like frames differ"):
        published(**options, verify=False)


def test_what_a_user_can_mend_is_the_cause_of_hydras_error(tmp_path):
    with pytest.raises(InstantiationException, match=r"has no train_300K\.xyz") as error:
        configured("3bpa", f"folder={tmp_path}", f"cache={tmp_path}")
    assert isinstance(error.value.__cause__, InputError)  # Hydra wraps it; commands unwrap it


def test_3bpa_from_a_folder(published_3bpa, tmp_path):
    data = configured("3bpa", f"folder={published_3bpa}", f"cache={tmp_path}", "verify=false")
    assert (len(data.train), len(data.validation)) == (450, 50)
    assert {label: len(part) for label, part in data.tests.items()} == {"300K": 136, "600K": 167, "1200K": 166}
    assert data.training_temperature == 300.0
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
