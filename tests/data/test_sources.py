"""What can be seen of a data set's entry in a config before any file is read."""

import pytest
from hydra import compose, initialize_config_dir
from samples import ROOT

from mlip_sweep.data.labels import check_labels, temperature_label, temperature_of
from mlip_sweep.data.reading import read_structures
from mlip_sweep.data.sources import check_sources, existing_file
from mlip_sweep.errors import InputError


def entry(*overrides: str):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("run", overrides=list(overrides)).dataset


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with one file in it."""
    (tmp_path / "a.xyz").write_text("not read")
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ("dataset=extxyz", "dataset.train=a.xyz")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=extxyz"], "dataset.train: no file; give one: dataset.train=FILE"),
        (["dataset=extxyz", "dataset.train=b.xyz"], "b.xyz: no such file; give the path"),
        ([*TRAIN, "dataset.validation=b.xyz"], "b.xyz: no such file"),
        ([*TRAIN, "dataset.tests={bulk: a.xyz, surface: b.xyz}"], "b.xyz: no such file"),
        ([*TRAIN, "dataset.tests={bulk: null}"], "dataset.tests.bulk=None: give the path of a file"),
        ([*TRAIN, "dataset.tests={bulk: [a.xyz, b.xyz]}"], "b.xyz: no such file"),
        (["dataset=extxyz", "dataset.train=[a.xyz, b.xyz]"], "b.xyz: no such file"),
        ([*TRAIN, "dataset.tests_by_config_type=b.xyz"], "b.xyz: no such file"),
        ([*TRAIN, "dataset.tests=a.xyz"], r"dataset.tests=a.xyz: give labels with their files, 'dataset.tests=\{bulk:"),
        ([*TRAIN, "dataset.tests={600K: a.xyz}"], "600K is compared .* dataset.temperature=300"),
        ([*TRAIN, "dataset.tests={bulk: a.xyz, 600K: a.xyz}"], "600K is compared"),
        ([*TRAIN, "dataset.temperature=[300]"], r"dataset.temperature=\[300\]: give a number of kelvin above 0"),
        ([*TRAIN, "dataset.temperature=true"], "dataset.temperature=True: give a number"),
        ([*TRAIN, "dataset.temperature=nan"], "dataset.temperature=nan: give a number"),
        (["dataset=3bpa", "dataset.folder=5"], "dataset.folder=5: no such folder"),
        ([*TRAIN, "dataset.isolated_atoms=b.xyz"], "b.xyz: no such file"),
        ([*TRAIN, "dataset.isolated_atoms='~/absent/b.xyz'"], "~/absent/b.xyz: no such file"),
        (["dataset=extxyz", "dataset.train='~nobody_of_this_name/a.xyz'"], "a.xyz: no such file"),
        (["dataset=3bpa", "dataset.folder=absent"], "dataset.folder=absent: no such folder"),
        (["dataset=molecule_xtb", "dataset.molecule=b.xyz"], "b.xyz: no such file"),
        ([*TRAIN, "dataset.tests={0K: a.xyz}", "dataset.temperature=300"], "0K is no temperature above 0 K"),
        (
            [*TRAIN, "dataset.tests={300K: a.xyz, 300.0K: a.xyz}", "dataset.temperature=300"],
            "300K and 300.0K are the same temperature",
        ),
        ([*TRAIN, "dataset.validation=" + 300 * "long"], "no such file"),
        (["dataset=3bpa", "dataset.folder=" + 300 * "long"], "no such folder"),
        (["dataset=extxyz", "dataset.train=${absent}"], "dataset: .*absent"),
    ],
)
def test_what_is_missing_is_named(here, overrides, message):
    with pytest.raises(InputError, match=message) as error:
        check_sources(entry(*overrides))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        TRAIN,
        (*TRAIN, "dataset.tests={bulk: a.xyz}", "dataset.isolated_atoms={H: -13.6}"),
        (*TRAIN, "dataset.tests={600K: a.xyz}", "dataset.temperature=300", "dataset.isolated_atoms='~/a.xyz'"),
        ("dataset=3bpa",),
        ("dataset=3bpa", "dataset.folder='~'"),
        ("dataset=ethanol_xtb",),
        ("dataset=molecule_xtb", "dataset.molecule=a.xyz"),
        ("dataset=aluminium_emt",),
        ("dataset=extxyz", "dataset._target_=mine.read", "dataset.train=known_to_my_function"),
    ],
)
def test_what_is_there_passes(here, monkeypatch, overrides):
    monkeypatch.setenv("HOME", str(here))
    check_sources(entry(*overrides))


def test_a_reader_says_the_same(here):
    with pytest.raises(InputError) as read:
        read_structures("b.xyz")
    with pytest.raises(InputError) as looked_for:
        existing_file("b.xyz")
    assert str(read.value) == str(looked_for.value)


def test_temperatures_are_read_from_labels():
    for label, kelvin in {"600K": 600.0, "600 K": 600.0, "77.4K": 77.4, "1e+06K": 1e6}.items():
        assert temperature_of(label) == kelvin
    for label in ("bulk", "600", "K", "600k", "T600K", "600K_b", "-5K", ""):
        assert temperature_of(label) is None
    for kelvin in (0.5, 300.0, 1234.5, 2e6):
        assert temperature_of(temperature_label(kelvin)) == kelvin


@pytest.mark.parametrize("label", ["-300K", "", "größe"])
def test_labels_that_a_file_of_a_config_may_hold_are_refused(label):
    with pytest.raises(InputError, match=r"^dataset\.tests: "):
        check_labels([label], 300)
