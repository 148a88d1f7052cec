"""The settings of every data set of conf/dataset: each is refused by its type and range, before anything is read."""

import math

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from samples import ROOT

from mlip_sweep.config import make
from mlip_sweep.errors import InputError

NUMBERS = {
    "molecule_xtb": ["temperature", "timestep_fs", "friction_per_fs"],
    "aluminium_emt": ["temperature", "timestep_fs", "friction_per_fs", "strain", "vacancy", "molten"],
    "extxyz": ["validation_fraction", "temperature"],
    "3bpa": [],
}
COUNTS = {
    "molecule_xtb": ["n_pool", "n_train", "n_validation", "n_test", "stride", "equilibration", "seed"],
    "aluminium_emt": ["n_pool", "n_train", "n_validation", "n_test", "steps", "seed"],
    "extxyz": ["n_train", "n_validation", "seed"],
    "3bpa": ["n_train", "n_validation", "seed"],
}
OTHERS = {
    "molecule_xtb": {
        "test_temperatures": [5, "300", [math.inf], [math.nan], [300, -1], [[300]], {"a": 1}],
        "charge": [0.5],
    },
    "aluminium_emt": {"test_temperatures": [[math.inf], [0]], "repeat": [2, [2, 2], [0, 2, 2], ["a"] * 3, [2.5, 2, 2]]},
    "extxyz": {
        "check_units": ["maybe", 1],
        "energy_key": [5, ["energy"], ""],
        "forces_key": [5, ""],
        "stress_key": [5, True, ""],
        "name": ["", "a/b", 5],
    },
    "3bpa": {"verify": ["maybe"], "folder": [5, ["a"]]},
}
NOISE = [5, "loud", [1], {"foo": 1}, {"forces_sigma": 1e10}, {"forces_sigma": -1}, {"energy_sigma": math.inf}]
CASES = [
    (dataset, name, value)
    for dataset in NUMBERS
    for name, values in (
        *((name, [math.inf, math.nan, -1, "many", [1], {"a": 1}, True]) for name in NUMBERS[dataset]),
        *((name, [math.inf, -1, 1.5, "many", [1], True]) for name in COUNTS[dataset]),
        *OTHERS[dataset].items(),
        ("noise", NOISE),
        ("cache", [5, ["a"], ""] if dataset != "extxyz" else []),
        ("foo", [1]),
    )
    for value in values
]


@pytest.fixture(scope="module")
def entries():
    """Each file of conf/dataset as it is composed, with what it cannot do without."""
    given = {"extxyz": {"train": __file__}, "molecule_xtb": {"molecule": "H2O"}}

    def entry(dataset):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            composed = compose("run", overrides=[f"dataset={dataset}"]).dataset
        return {**OmegaConf.to_container(composed, resolve=True), **given.get(dataset, {})}

    return {dataset: entry(dataset) for dataset in NUMBERS}


@pytest.mark.parametrize(("dataset", "name", "value"), CASES)
def test_a_setting_that_does_not_serve_is_named(entries, tmp_path, dataset, name, value):
    cache = {} if dataset == "extxyz" else {"cache": str(tmp_path / "cache")}
    with pytest.raises(InputError, match=rf"^dataset\.{name}\b.*: ") as error:
        make({**entries[dataset], **cache, name: value}, "dataset")
    assert "\n" not in str(error.value)
    assert not any(words in str(error.value) for words in ("argument after", "expected str", "unhashable", "see conf/"))
    assert not (tmp_path / "cache").exists()  # nothing was computed or downloaded


@pytest.mark.parametrize("dataset", ["molecule_xtb", "aluminium_emt"])
def test_a_cache_that_cannot_be_made_is_named(entries, tmp_path, dataset):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^dataset\.cache=.*file.*: cannot be written .*; choose another folder"):
        make({**entries[dataset], "cache": str(tmp_path / "file" / "cache")}, "dataset")
