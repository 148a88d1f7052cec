"""Which run of a sweep is the best one."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mlip_sweep.comparison.runs import declared_metrics, runs_table
from mlip_sweep.comparison.verdict import verdicts
from mlip_sweep.errors import InputError
from mlip_sweep.metrics import more_is_better, objective_metric
from mlip_sweep.models.committee import member_folders
from mlip_sweep.multirun.best import best, record_best
from mlip_sweep.tracking import store
from mlip_sweep.tracking.models import local_path
from mlip_sweep.tracking.read import StoredRun, stored_runs
from mlip_sweep.tracking.run import record
from optuna_async.config import TARGET


def runs(*values: dict[str, float], status: str = "FINISHED") -> list[StoredRun]:
    return [
        StoredRun(str(n), str(n), status, datetime.now(UTC), {}, {objective_metric(k): v for k, v in found.items()}, {})
        for n, found in enumerate(values)
    ]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return store.prepare(f"sqlite:///{tmp_path_factory.mktemp('best')}/mlflow.db")


def names(found: list[StoredRun]) -> list[str]:
    return [run.name for run in found]


def test_the_best_of_one_objective():
    some = runs({"S": 1.0}, {"S": 3.0}, {"S": 2.0}, {"other": 9.0})
    assert names(best(some, ["S"], [True])) == ["1"]
    assert names(best(some, ["S"], [False])) == ["0"]
    assert best(runs({"S": 1.0}, status="FAILED"), ["S"], [True]) == []
    assert best(some, [], []) == []


def test_the_front_of_several_objectives():
    some = runs(
        {"S": 1.0, "t": 1.0}, {"S": 2.0, "t": 2.0}, {"S": 0.5, "t": 2.0}, {"S": 2.0, "t": 2.0}, {"S": 3.0, "t": 9.0}
    )
    assert names(best(some, ["S", "t"], [True, False])) == ["0", "1", "3", "4"]  # equals do not beat each other


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("loss_entropy", True),
        ("md_time_to_failure_ps", True),
        ("rmse_forces_high_T_meV_A", False),
        ("validation/loss", False),
        ("loss_entropy_stderr", False),
        ("inference_time_us_atom", False),
    ],
)
def test_what_is_better(metric, better):
    assert more_is_better(metric, declared_metrics()) is better


def sweep(uri, tmp_path, experiment, runs, sweeper, objective="loss_entropy"):
    """A sweep of logged models, closed with its best; what was said of it and the parent's run.

    A run that is called "a 1" is of model a with the seed 1.
    """
    with record(uri=uri, experiment=experiment, name="sweep", tags={"kind": "sweep"}) as parent:
        for name, metrics in runs.items():
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            folder.joinpath("checkpoint.pt").write_text(name)
            model, _, seed = name.partition(" ")
            params = {"model": model, "seed": seed or "0"}
            with record(uri=uri, experiment=experiment, name=name, params=params, parent_run_id=parent.run_id) as rec:
                rec.model(folder)
                rec.metrics({**metrics, objective_metric(objective): metrics[objective]})
        stored = stored_runs(uri, experiment, parent.run_id)
        config = {"objective": objective, "tracking": {"register": experiment}, "hydra": {"sweeper": sweeper}}
        (found,) = verdicts(runs_table(stored), {}, {})
        _, said = record_best(parent, found, stored, OmegaConf.create(config))
    return said, store.client(uri).get_run(parent.run_id).data


def registered(uri, name):
    return local_path(f"models:/{name}@best", uri).joinpath("checkpoint.pt").read_text()


def committee(uri, name):
    """What the members of a registered committee hold, by their names."""
    members = member_folders(local_path(f"models:/{name}@committee", uri))
    return {member.name: member.joinpath("checkpoint.pt").read_text() for member in members}


def test_the_model_of_the_verdict_is_registered_and_the_best_objective_is_told(uri, tmp_path):
    """One answer: what the table puts first is what is registered, whatever a search has looked for."""
    runs = {
        "flat": {"loss_entropy": 2.0, "loss_entropy_stderr": 0.1, "rmse_forces_high_T_meV_A": 300.0},
        "accurate": {"loss_entropy": 1.0, "loss_entropy_stderr": 0.1, "rmse_forces_high_T_meV_A": 100.0},
    }
    said, parent = sweep(uri, tmp_path, "verdict", runs, {})
    assert said[0].startswith("best objective: [flat]")
    assert registered(uri, "verdict") == "accurate"
    assert parent.tags["best.run"] == "accurate"
    assert parent.metrics["rmse_forces_high_T_meV_A"] == 100.0
    assert parent.metrics[objective_metric("loss_entropy")] == 2.0


def test_the_seeds_of_the_best_choice_are_registered_as_a_committee(uri, tmp_path):
    runs = {
        f"{model} {seed}": {"rmse_forces_high_T_meV_A": error + seed}
        for model, error in (("good", 100.0), ("bad", 900.0))
        for seed in range(3)
    }
    objective = "rmse_forces_high_T_meV_A"
    said, parent = sweep(uri, tmp_path, "seeds", runs, {}, objective)
    assert registered(uri, "seeds") == "good 0"
    assert committee(uri, "seeds") == {f"seed_{seed}": f"good {seed}" for seed in range(3)}
    assert said[-1] == "its 3 seeds are registered as `models:/seeds@committee`, version 2"
    assert parent.tags["registered"] == "models:/seeds/1"
    assert parent.tags["registered.committee"] == "models:/seeds/2"

    said, _ = sweep(uri, tmp_path, "seeds", {"lonely": {"rmse_forces_high_T_meV_A": 1.0}}, {}, objective)
    assert registered(uri, "seeds") == "lonely"
    assert "committee" not in said[-1]
    with pytest.raises(InputError, match="seeds@committee"):  # of the earlier best, which this one has replaced
        committee(uri, "seeds")


@pytest.mark.parametrize(("sweeper", "winner"), [({}, "a"), ({"_target_": TARGET, "direction": "maximize"}, "b")])
def test_without_a_measurement_the_objective_decides(uri, tmp_path, sweeper, winner):
    runs = {"a": {"validation/loss": 1.0}, "b": {"validation/loss": 2.0}}
    said, parent = sweep(uri, tmp_path, f"objective-{winner}", runs, sweeper, "validation/loss")
    assert said[0].startswith(f"best objective: [{winner}]")
    assert registered(uri, f"objective-{winner}") == parent.tags["best.run"] == winner
