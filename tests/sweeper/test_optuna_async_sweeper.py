"""The sweeper on an objective that costs nothing: totals, resuming, failures, samplers."""

import json
import subprocess
import sys
from importlib.util import find_spec
from itertools import product

import optuna
import pandas as pd
import pytest
from studies import complete

from optuna_async.config import StudyAddress
from optuna_async.reporting import TrialReporter
from optuna_async.trials import RETRY_OF, own, read_trials

X = "x=interval(0,1)"
SEEDED = ["hydra.sweeper.sampler.seed=1", X]


def total(n):
    return f"hydra.sweeper.n_trials={n}"


def test_a_study_runs_to_its_total_and_a_rerun_adds_what_is_missing(sweep):
    first = sweep(X, total(3))
    assert first.code == 0
    assert first.states == ["COMPLETE"] * 3
    assert first.launches() == {0: 1, 1: 1, 2: 1}
    assert len({(first.folder / str(i) / "launches").read_text() for i in range(3)}) == 1  # one process ran them all
    best = min(first.trials, key=lambda trial: trial.value)
    assert first.results["best_value"] == best.value == pytest.approx((best.params["x"] - 0.3) ** 2)
    assert (first.results["best_params"], first.results["best_trial"]) == (best.params, best.number)

    again = sweep(X, total(5))
    assert again.launches() == dict.fromkeys(range(5), 1)  # no folder was used twice
    assert [t.params for t in again.trials[:3]] == [t.params for t in first.trials]

    nothing = sweep(X, total(5))
    assert nothing.code == 0
    assert nothing.launches() == again.launches()
    assert "5 done" in nothing.out


def test_a_slot_is_refilled_as_it_frees(sweep):
    study = sweep(X, total(5), "hydra.sweeper.n_jobs=2", "waits_for=5")  # trial 0 ends after all others have
    assert study.states == ["COMPLETE"] * 5
    first, *others, _ = study.trials
    assert all(trial.datetime_complete < first.datetime_complete for trial in others)
    workers = {(study.folder / str(i) / "launches").read_text() for i in range(5)}
    assert len(workers) == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["x=interval(0,2)"], ["x: stored", "high=1.0", "high=2.0"]),
        ([X, "y=choice(1,2)"], ["y: stored nothing, now CategoricalDistribution"]),
        ([X, "hydra.sweeper.direction=maximize"], ["direction: stored minimize, now maximize"]),
        ([X, "hydra.sweeper.direction=[minimize,minimize]"], ["direction: stored minimize, now minimize, minimize"]),
    ],
    ids=["range", "parameter", "direction", "objectives"],
)
def test_another_space_or_direction_is_refused_with_the_difference(sweep, changed, said):
    sweep(X, total(1))
    refused = sweep(*changed, total(2))
    assert refused.code == 1
    assert all(words in refused.err for words in said), refused.err
    assert "Traceback" not in refused.err
    assert len(refused.trials) == 1


def test_each_kind_of_failure_costs_its_trial_only(sweep):
    kinds = ["raises", "is_nan", "is_inf", "pair", "word", "none", "runs_out", "gpu_runs_out", "killed", "hangs", "ok"]
    study = sweep(
        f"kind=choice({','.join(kinds)})", "hydra/sweeper/sampler=grid", "hydra.sweeper.timeout_s=6", total(len(kinds))
    )
    expected = {
        "raises": "error",
        "is_nan": "not finite",
        "is_inf": "not finite",
        "pair": "wrong number of values",
        "word": "not finite",
        "none": "no value",
        "runs_out": "out of memory",
        "gpu_runs_out": "out of memory",
        "killed": "killed",
        "hangs": "time-out",
        "ok": "",
    }
    found = {trial.params["kind"]: reason for trial, reason in zip(study.trials, study.reasons, strict=True)}
    assert found == expected
    (done,) = complete(study.trials)
    assert done.params["kind"] == "ok"
    killed = [trial for trial in study.trials if trial.params["kind"] == "killed"]
    assert [own(trial, RETRY_OF) for trial in killed] == [None, killed[0].number]  # once more, no oftener
    assert len(study.trials) == len(kinds) + 1
    assert study.code == 0
    for words in ("1 done", "ValueError: a bad value", "returned nan", "signal 9", "longer than 6 s", "2 instead of 1"):
        assert words in study.out, study.out


def test_a_study_of_failures_ends_and_says_why(sweep):
    study = sweep(X, "kind=raises", total(2))
    assert study.code == 1
    assert study.states == ["FAIL", "FAIL"]
    assert "all its trials have failed\n  2 × error: ValueError: a bad value" in study.err
    assert "CompactHydraException" not in study.err


def test_a_study_stops_at_its_failure_rate_and_goes_on_when_it_is_raised(sweep):
    stopped = sweep(X, "kind=raises", total(10), "hydra.sweeper.max_failure_rate=0.2")
    assert len(stopped.trials) == 3
    assert stopped.code == 1
    assert "3 trials have failed, more than hydra.sweeper.max_failure_rate=0.2 allows of 10" in stopped.err
    assert len(sweep(X, "kind=raises", total(10), "hydra.sweeper.max_failure_rate=0.2").trials) == 3
    assert len(sweep(X, total(10), "hydra.sweeper.max_failure_rate=0.3").trials) == 10


@pytest.mark.slow
def test_a_seed_makes_a_study_reproducible_and_resuming_changes_nothing(sweep):
    space = [X, "hydra.sweeper.sampler.n_startup_trials=2"]
    whole = sweep(*space, "hydra.sweeper.sampler.seed=1", total(6), name="whole")
    sweep(*space, "hydra.sweeper.sampler.seed=1", total(3), name="parts")
    parts = sweep(*space, "hydra.sweeper.sampler.seed=1", total(6), name="parts")
    other = sweep(*space, "hydra.sweeper.sampler.seed=2", total(1), name="other")
    assert [t.params for t in whole.trials] == [t.params for t in parts.trials]
    assert len({t.params["x"] for t in [*whole.trials, *other.trials]}) == 7


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsgaii", "nsgaiii", "qmc", "cmaes"])
def test_every_sampler_searches(sweep, sampler):
    if sampler == "cmaes" and find_spec("cmaes") is None:
        pytest.skip("the package cmaes is not installed")
    study = sweep(f"hydra/sweeper/sampler={sampler}", *SEEDED, "y=range(0,6,2)", total(4))
    assert study.states == ["COMPLETE"] * 4
    assert all(0 <= t.params["x"] <= 1 and t.params["y"] in (0, 2, 4) for t in study.trials)


@pytest.mark.skipif(find_spec("cmaes") is not None, reason="the package cmaes is installed")
def test_a_sampler_whose_package_is_missing_is_refused_in_a_line(sweep):
    study = sweep("hydra/sweeper/sampler=cmaes", X, total(2))
    assert study.code == 1
    assert "cmaes" in study.err
    assert "Traceback" not in study.err


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_every_point_of_a_space_is_visited_once_and_then_the_study_ends(sweep, sampler):
    space = [f"hydra/sweeper/sampler={sampler}", "x=choice(0.1,0.2,0.3)", "y=range(0,2)"]
    sweep(*space, total(2))
    study = sweep(*space, total(50))
    assert sorted((t.params["x"], t.params["y"]) for t in study.trials) == list(product((0.1, 0.2, 0.3), (0, 1)))
    assert study.states == ["COMPLETE"] * 6
    again = sweep(*space, total(50))
    assert (again.code, len(again.trials)) == (0, 6)
    assert "all its 6 trials are done" in again.out
    refused = sweep(f"hydra/sweeper/sampler={sampler}", X, name="continuous")
    assert "x is continuous, and a grid needs steps" in refused.err


def test_several_objectives_give_a_pareto_front(sweep):
    study = sweep(*SEEDED, "y=choice(0,1)", "objectives=2", "hydra.sweeper.direction=[minimize,minimize]", total(8))
    values = {t.number: t.values for t in study.trials}

    def dominated(one):
        return any(all(a <= b for a, b in zip(v, one, strict=True)) and v != one for v in values.values())

    front = {number for number, value in values.items() if not dominated(value)}
    assert {solution["trial"] for solution in study.results["solutions"]} == front
    assert all(solution["values"] == values[solution["trial"]] for solution in study.results["solutions"])
    assert "* on the Pareto front" in study.out
    page = (study.folder / "study.html").read_text()
    assert all(title in page for title in ("Pareto front", "Optimisation history, value 1", "Importance for value 0"))
    table = pd.read_csv(study.folder / "trials.csv")
    assert list(table["state"]) == ["COMPLETE"] * 8
    assert list(table["value_1"]) == pytest.approx([value[1] for value in values.values()])


def test_a_custom_search_space_adds_parameters(sweep):
    study = sweep(*SEEDED, "hydra.sweeper.custom_search_space=toy_study.more", "objectives=1", total(6))
    assert study.states == ["COMPLETE"] * 6
    assert {("y" in t.params) for t in study.trials} == {True, False}
    assert all(("y" in t.params) == (t.params["x"] > 0.5) for t in study.trials)


def test_the_config_gives_the_space_and_the_command_line_goes_first(sweep):
    params = {"x": "'interval(0,1)'", "y": "'choice(1,2)'", "kind": "ok"}
    params = [f"+hydra.sweeper.params.{key}={value}" for key, value in params.items()]
    study = sweep(*params, "y=7", total(2))
    assert [set(t.params) for t in study.trials] == [{"x"}, {"x"}]
    assert [t.user_attrs["y"] for t in study.trials] == ["7", "7"]
    refused = sweep(*params, "y=8", total(2))  # else the old results would be shown as those of y=8
    assert refused.code == 1
    assert "other fixed values than now, and nothing was run" in refused.err
    assert "hydra.sweeper.study_name=NAME" in refused.err
    assert "y: stored y=7, now y=8" in refused.err
    assert "2 done" not in refused.out
    changed = sweep(*params, "y=8", total(3))  # not refused, for it may be a path or a switch, but said
    assert changed.code == 0
    assert "y: stored y=7, now y=8" in changed.out
    assert "all its 3 trials are done, and none is run" in sweep(*params, "y=8", total(3)).out


def test_a_trial_can_be_pruned_from_its_own_process(sweep):
    study = sweep(X, "kind=prunes", "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1", total(3))
    assert study.states == ["COMPLETE", "PRUNED", "PRUNED"]  # the later, the worse
    assert study.reasons[1] == "at step 0"
    assert study.trials[1].value == 1.0
    assert "1 done, 2 pruned" in study.out
    assert not (study.folder / "study.html").exists()  # one complete trial makes no plot


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_intermediate_values_are_reported_as_the_objective_is_meant(direction):
    study = optuna.create_study(direction=direction)
    search = TrialReporter(study.ask())
    search(2.0, 1, more_is_better=False, told="")
    search(3.0, 2, more_is_better=True, told="")
    sign = 1.0 if direction == "minimize" else -1.0
    assert study.trials[0].intermediate_values == {1: sign * 2.0, 2: sign * -3.0}


@pytest.mark.parametrize("storage", ["journal://study/journal", "study.log", "null"])
def test_other_storages(sweep, storage, tmp_path):
    study = sweep(X, f"hydra.sweeper.storage={storage}", total(2))
    assert study.code == 0
    assert "2 done" in study.out
    again = sweep(X, f"hydra.sweeper.storage={storage}", total(3))
    if storage == "null":  # nothing was kept, so that its jobs would overwrite those of the first
        assert "holds the jobs of another study" in again.err
    else:
        assert "3 done" in again.out
        assert again.launches() == {0: 1, 1: 1, 2: 1}


def test_jobs_of_others_are_not_overwritten(sweep, tmp_path):
    (tmp_path / "multirun" / "toy" / "0").mkdir(parents=True)
    study = sweep(X, total(1))
    assert study.code == 1
    assert "holds the jobs of another sweep" in study.err


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "search space: nothing varies"),
        ([X, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: give at least 1"),
        ([X, "hydra.sweeper.direction=up"], "hydra.sweeper.direction=up: give minimize or maximize"),
        ([X, "hydra.sweeper.max_failure_rate=2"], "give a share from 0 to 1"),
        ([X, "hydra.sweeper.storage=nowhere"], "hydra.sweeper.storage=nowhere: ValueError: neither an URL"),
        ([X, "+hydra.sweeper.sampler.wrong=1"], "optuna.samplers._tpe"),
        ([X, "hydra.sweeper.custom_search_space=toy_study.absent"], "custom_search_space=toy_study.absent"),
        (["x=interval(2,1)"], "search space: x=interval(2,1)"),
        (
            [X, "hydra.sweeper.direction=[minimize,minimize]", "hydra/sweeper/pruner=median"],
            "Optuna prunes single-objective studies only",
        ),
        ([X, "hydra/sweeper/pruner=median", "hydra.sweeper.storage=null"], "no trial can report to the study"),
        ([X, "hydra/launcher=joblib", "hydra.launcher.n_jobs=3"], "give hydra.sweeper.n_jobs=3 instead"),
        ([X, "hydra/sweeper/sampler=motpe"], "hydra/sweeper/sampler=tpe"),
        ([X, "hydra/sweeper/sampler=brute_force"], "x is continuous, and a grid needs steps"),
        ([X, "hydra.sweeper.sampler._target_=optuna.samplers.Absent"], "hydra.sweeper.sampler: "),
        (["hydra/sweeper/sampler=grid", "x=range(0,100000000)"], "a grid of 1e+08 combinations"),
        (["+hydra.sweeper.params.optimizer.lr='interval(0,1)'"], "give each parameter by its whole name"),
        ([X, "hydra.sweeper.storage=sqlite:///multirun"], "IsADirectoryError: this is a folder"),
    ],
)
def test_a_mistake_is_answered_in_a_line(sweep, overrides, said):
    if "hydra/launcher=joblib" in overrides:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    study = sweep(*overrides)
    assert study.code == 1
    assert said.replace("optuna.samplers._tpe", "unexpected keyword argument 'wrong'") in study.err, study.err
    assert "Traceback" not in study.err
    assert not list(study.folder.glob("[0-9]*"))


@pytest.mark.parametrize("storage", ["sqlite:///optuna.db", "study.log", "null"])
def test_what_became_of_the_trials_is_handed_over_as_data(sweep, tmp_path, storage):
    overrides = ["kind=choice(ok,killed)", "hydra/sweeper/sampler=grid", f"hydra.sweeper.storage={storage}", total(2)]
    study = sweep(*overrides, name="summaries")
    assert study.code == 0
    address = StudyAddress(None if storage == "null" else storage, "summaries", str(tmp_path))
    found = read_trials(address)
    assert [trial.number for trial in found] == [0, 1, 2]
    assert sorted(trial.state for trial in found) == ["complete", "fail", "fail"]
    (first, second) = [trial for trial in found if trial.reason == "killed: signal 9"]
    assert (first.retry_of, second.retry_of) == (None, first.number)
    assert read_trials(StudyAddress(address.storage, "another", str(tmp_path))) == []


def test_the_plugin_costs_other_commands_nothing():
    code = (
        "import sys, json; from hydra.core.plugins import Plugins; from hydra.plugins.sweeper import Sweeper;"
        "print(json.dumps([[p.__name__ for p in Plugins.instance().discover(Sweeper)], 'optuna' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sweepers, imported = json.loads(done.stdout)
    assert "OptunaAsyncSweeper" in sweepers
    assert not imported


def test_what_a_program_imports_costs_it_nothing():
    modules = "optuna_async.config, optuna_async.liveness, optuna_async.reporting, optuna_async.trials"
    code = f"import sys, {modules}; print([m for m in ('optuna', 'pandas', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_optuna_is_the_one_that_the_sweeper_was_written_for():
    assert optuna.__version__.startswith("5.")
