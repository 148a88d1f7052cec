"""How far a multirun is, counted from its recorded runs."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from omegaconf import OmegaConf

from mlip_sweep.errors import InputError
from mlip_sweep.multirun.progress import RunCounter, combinations, grid_size, grid_values, runs_here
from mlip_sweep.tracking.read import SUPERSEDED, StoredRun
from optuna_async.config import TARGET
from optuna_async.progress import SweepState

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
COHORT = "hydra_plugins.mlip_sweep_cohort_launcher.cohort_launcher.CohortLauncher"
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def run(name, status, began, ended=None, **tags):
    """A run that began and ended so many seconds after the counter was made."""
    now = datetime.now(UTC)
    stop = None if ended is None else now + timedelta(seconds=ended)
    return StoredRun(name, name, status, now + timedelta(seconds=began), {}, {}, tags, stop)


def counted(runs, *, after, total=8, **options):
    state = RunCounter(total, **options).state(runs, datetime.now(UTC) + timedelta(seconds=after))
    return SweepState(
        **{
            **vars(state),
            **{key: tuple(round(s) for s in getattr(state, key)) for key in ("finished_s", "pruned_s", "at_work_s")},
        }
    )


def test_runs_in_every_state():
    runs = [
        run("done", "FINISHED", 1, 31),
        run("failed", "FAILED", 1, 3),
        run("stopped", "KILLED", 1, 3),
        run("given up", "KILLED", 1, 11, pruned="at epoch 3"),
        run("at work", "RUNNING", 31),
        run("also at work", "RUNNING", 41),
    ]
    assert counted(runs, after=51) == SweepState(
        total=8, ended=4, failed=2, pruned=1, finished_s=(30,), pruned_s=(10,), at_work_s=(20, 10), at_once=2
    )


def test_what_an_earlier_start_did_is_there_but_took_no_time():
    runs = [
        run("taken", "FINISHED", -1000, -900),
        run("done again", "FAILED", -1000, -900),
        run("replaced", "KILLED", -1000, -900, **{SUPERSEDED: "gone on"}),
        run("gone on", "FINISHED", 1, 3, continues="replaced"),
        run("whole", "FINISHED", 3, 33),
    ]
    assert counted(runs, after=40) == SweepState(total=8, ended=3, finished_s=(30,))
    assert counted(runs, after=40, takes_finished=False) == SweepState(total=8, ended=2, finished_s=(30,))


def test_runs_of_other_values_in_the_same_parent_are_not_counted():
    config = OmegaConf.create(
        {
            "hydra": {
                "sweeper": {"_target_": GRID, "params": {"published": "'a,b'", "optimizer.lr": "1e-3,0.01"}},
                "overrides": {"task": ["seed=range(2,4)", "published=b,c", "model=mace"]},
            }
        }
    )
    grid = grid_values(config)
    assert grid == {"published": {"b", "c"}, "optimizer.lr": {"0.001", "0.01"}, "seed": {"2.0", "3.0"}}
    params = {"published": "b", "optimizer.lr": "0.001", "seed": "2"}
    runs = [
        dataclasses.replace(run(f"run {k}", "FINISHED", -1000, -900), params={**params, **changes})
        for k, changes in enumerate([{}, {"seed": "3", "model": "x"}, {"seed": "0"}, {"published": "a"}])
    ]
    assert counted(runs, after=1, grid=grid).ended == 2


def test_a_run_that_is_gone_on_with_is_timed_from_when_it_was_seen():
    counter = RunCounter(2)
    now = datetime.now(UTC)
    reopened = run("reopened", "RUNNING", -1000)
    assert counter.state([reopened], now).at_work_s == (0.0,)
    assert counter.state([reopened], now + timedelta(seconds=30)).at_work_s == (30.0,)
    ended = counter.state([run("reopened", "FAILED", -1000, 31)], now + timedelta(seconds=31))
    assert (ended.ended, ended.failed, ended.finished_s) == (1, 1, ())


def test_a_run_whose_process_has_gone_has_failed():
    gone = {"system.host": "", "system.process": "1 since 2.00"}
    from mlip_sweep.tracking.environment import process_tags

    gone["system.host"] = process_tags()["system.host"]
    state = RunCounter(2).state([run("gone", "RUNNING", 1, **gone)], datetime.now(UTC))
    assert (state.ended, state.failed, state.at_work) == (1, 1, 0)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["a=1,2,3", "b=x,y", "c=7"], 6),
        (["a=1,2", "a=range(1,6)"], 5),
        (["model=nequip,mace", "+seed=choice(0,1,2)", "~other"], 6),
        (["c=7"], 1),
    ],
)
def test_the_number_of_runs_of_a_grid(overrides, expected):
    assert combinations(overrides) == expected


@pytest.mark.parametrize("overrides", [["x=range(100000000)"], [f"{key}=range(1000)" for key in "xyz"]])
def test_a_grid_that_nobody_would_finish_is_refused_before_it_is_listed(overrides):
    with pytest.raises(InputError, match="more than 100,000 runs"):
        combinations(overrides)


@pytest.mark.parametrize(
    ("sweeper", "expected"),
    [
        ({"_target_": GRID, "params": {"a": "1,2"}}, 4),
        ({"_target_": TARGET, "n_trials": 20}, 20),
        ({"_target_": "somebody.Elses"}, None),
    ],
)
def test_the_number_of_runs_as_far_as_a_sweeper_says_it(sweeper, expected):
    config = OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": {"task": ["b=1,2"]}}})
    assert grid_size(config) == expected


@pytest.mark.parametrize(
    ("launcher", "sweeper", "here"),
    [(BASIC, GRID, True), (BASIC, TARGET, False), ("joblib.Joblib", GRID, False), (COHORT, GRID, True)],
)
def test_where_runs_work(launcher, sweeper, here):
    hydra_cfg = OmegaConf.create({"launcher": {"_target_": launcher}, "sweeper": {"_target_": sweeper}})
    assert runs_here(hydra_cfg) is here
