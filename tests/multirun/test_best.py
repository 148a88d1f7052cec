"""Which run of a sweep is the best one."""

from datetime import UTC, datetime

import pytest
from omegaconf import OmegaConf

from mlip_sweep.comparison.runs import declared_metrics
from mlip_sweep.metrics import more_is_better, objective_metric
from mlip_sweep.multirun.best import best, record_best
from mlip_sweep.tracking import store
from mlip_sweep.tracking.models import local_path, log_model
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


@pytest.mark.parametrize(("sweeper", "winner"), [({}, "b"), ({"_target_": TARGET, "direction": "minimize"}, "a")])
def test_the_best_model_of_a_sweep_is_registered(uri, tmp_path, sweeper, winner):
    with record(uri=uri, experiment="best", name="sweep", tags={"kind": "sweep"}) as parent:
        for name, entropy in (("a", 1.0), ("b", 2.0)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "checkpoint.pt").write_text(name)
            with record(uri=uri, experiment="best", name=name, parent_run_id=parent.run_id) as rec:
                rec.tag("model", f"models:/{log_model(rec, tmp_path / name)}")
                rec.metrics({objective_metric("loss_entropy"): entropy})
        config = {"objective": "loss_entropy", "tracking": {"register": "pot"}, "hydra": {"sweeper": sweeper}}
        said = record_best(parent, stored_runs(uri, "best", parent.run_id), OmegaConf.create(config))
    assert f"best: [{winner}]" in said[0]
    assert local_path("models:/pot@best", uri).joinpath("checkpoint.pt").read_text() == winner
