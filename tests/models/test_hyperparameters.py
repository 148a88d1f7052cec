"""Hyperparameters of every architecture have a type and a range: a config is refused before anything is made of it."""

import pytest
from samples import MODELS, model_config

from mlip_sweep.errors import InputError
from mlip_sweep.models.checkpoint import architecture_of, check_hyperparameters, is_installed
from mlip_sweep.models.interface import SUPPLIED

OPTIONAL = ("type_embed_num_features",)
MAY_BE_0 = ("l_max", "max_L", "radial_mlp_depth", "mlp_depth")


@pytest.fixture(params=MODELS)
def model(request) -> dict:
    config = dict(model_config(request.param))
    if not is_installed(architecture_of(config["_target_"])):
        pytest.skip(f"{request.param} is not installed")
    return config


def numbers(model: dict) -> list[str]:
    return [name for name, value in model.items() if type(value) in (int, float) and name not in OPTIONAL]


def refused(model: dict, name: str, value: object) -> bool:
    with pytest.raises(InputError, match=rf"^model\.{name}\b[^\n]*$"):
        check_hyperparameters({**model, name: value})
    return True


def test_what_ships_is_sound(model):
    check_hyperparameters(model)


@pytest.mark.parametrize("value", [-1, -0.5, "x", "3", None, True, [3], {}, float("nan"), float("inf"), "???"])
def test_a_number_is_a_number_in_its_range(model, value):
    assert all(refused(model, name, value) for name in numbers(model))


def test_nothing_is_built_of_nothing(model):
    assert all(refused(model, name, 0) for name in numbers(model) if name not in MAY_BE_0)


def test_a_count_is_whole_and_a_radius_need_not_be(model):
    assert all(refused(model, name, 2.5) for name in numbers(model) if name != "cutoff")
    check_hyperparameters({**model, "cutoff": 4})
    assert refused(model, "cutoff", 1e6)


@pytest.mark.parametrize("name", [*SUPPLIED, "nothing"])
def test_what_comes_from_elsewhere_is_no_hyperparameter(model, name):
    assert refused(model, name, 0)


def test_each_hyperparameter_without_a_default_is_asked_for(model):
    for name in numbers(model):
        with pytest.raises(InputError, match=rf"^model\.{name}: give it a value$"):
            check_hyperparameters({key: value for key, value in model.items() if key != name})


def test_orders_go_together():
    mace = next(dict(model_config(name)) for name in MODELS if "max_L" in model_config(name))
    with pytest.raises(InputError, match=r"^model\.max_L=3: give at most model\.max_ell, which is 2"):
        check_hyperparameters({**mace, "max_ell": 2, "max_L": 3})
