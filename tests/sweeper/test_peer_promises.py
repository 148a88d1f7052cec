"""What hydra-optuna-sweeper promises of its keys and files, and users who come from it rely on."""

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_async.config import PRUNERS, SAMPLERS
from optuna_async.sampler import make_pruner, sampler_maker
from optuna_async.space import Space, parse_space


@pytest.mark.parametrize("key", ["a", "+a", "++a", "group@package", "a.b.c", "+a@b.c"])
@pytest.mark.parametrize(
    ("sweep", "distribution"),
    [
        ("choice(1,2)", CategoricalDistribution([1, 2])),
        ("range(1,4)", IntDistribution(1, 3)),
        ("interval(0,1)", FloatDistribution(0.0, 1.0)),
    ],
)
def test_a_sweep_of_any_kind_of_override_is_a_parameter_under_its_whole_key(key, sweep, distribution):
    space = parse_space({}, [f"{key}={sweep}"], None)
    assert space.distributions == {key: distribution}
    assert space.overrides({key: 1}) == [f"{key}=1"]


@pytest.mark.parametrize(
    "fixed", ["a=1", "+a=1", "++a=text", "~a", "~a=1", "a=null", "a=[1,2]", "a={b:1}", "a='x,y'", "a="]
)
def test_any_other_kind_of_override_is_fixed_and_handed_on_as_it_was_typed(fixed):
    space = parse_space({}, [fixed, "z=choice(1,2)"], None)
    assert list(space.distributions) == ["z"]
    assert space.overrides({"z": 2}) == [fixed, "z=2"]


@pytest.mark.parametrize("replaced", ["a=3", "+a=3", "a=choice(5,6)", "a=interval(0,1)"])
def test_the_command_line_replaces_what_the_config_says_of_a_parameter(replaced):
    config, typed = {"a": "choice(1,2)", "b": "range(0,3)"}, parse_space({}, [replaced], "custom")
    both = parse_space(config, [replaced], None)
    assert both.fixed == typed.fixed
    assert both.distributions == {**typed.distributions, "b": IntDistribution(0, 2)}


SPACE = Space({"x": CategoricalDistribution([1, 2]), "y": IntDistribution(0, 3)}, {})


@pytest.mark.filterwarnings("ignore")  # Optuna calls some of them experimental
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "motpe"])
def test_every_sampler_of_the_groups_is_the_one_of_its_name_and_suggests(name, seed):
    entry = OmegaConf.create({**SAMPLERS[name], "seed": seed})
    make, size = sampler_maker(entry, SPACE)
    assert isinstance(make(0), getattr(optuna.samplers, entry["_target_"].rpartition(".")[2]))
    assert size == (8 if name in ("grid", "brute_force") else None)
    if name == "cmaes":
        pytest.importorskip("cmaes")
    study = optuna.create_study(sampler=make(0))
    trial = study.ask(SPACE.distributions)
    assert trial.params["x"] in (1, 2)
    assert trial.params["y"] in range(4)


def test_a_function_that_makes_a_sampler_serves_too():
    entry = OmegaConf.create({"_target_": f"{__name__}.my_sampler", "seed": 1})
    make, _ = sampler_maker(entry, SPACE)
    assert isinstance(make(0), optuna.samplers.RandomSampler)


def my_sampler(seed):
    return optuna.samplers.RandomSampler(seed)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_of_the_groups_is_the_one_of_its_name(name):
    entry = OmegaConf.create(PRUNERS[name])
    assert isinstance(make_pruner(entry), getattr(optuna.pruners, entry["_target_"].rpartition(".")[2]))


def test_the_results_of_one_objective(sweep):
    study = sweep(
        "x=choice(0.3,0.9)", "y=choice(1,2)", "hydra/sweeper/sampler=grid", "hydra.sweeper.direction=maximize"
    )
    assert study.code == 0, study.err
    results = study.results
    assert results["name"] == "optuna"
    assert results["best_params"]["x"] == 0.9
    assert results["best_value"] == pytest.approx(0.36)
    assert results["trials"] == {"done": 4, "running": 0, "failed": 0, "pruned": 0}


@pytest.mark.parametrize(("rate", "n_run"), [(0.0, 1), (0.3, 2), (0.6, 3)])
def test_a_study_stops_when_more_than_its_share_of_trials_has_failed(sweep, rate, n_run):
    study = sweep(
        "x=choice(1,2,3,4)", "kind=raises", "hydra.sweeper.n_trials=4", f"hydra.sweeper.max_failure_rate={rate}"
    )
    assert study.states == ["FAIL"] * n_run
    assert study.code == 1
    assert f"{n_run} trials have failed, more than hydra.sweeper.max_failure_rate={rate:g} allows of 4" in study.err
