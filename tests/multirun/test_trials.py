"""The states of trials reach the runs that they belong to."""

import logging

import optuna
import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from mlip_sweep.multirun import trials
from mlip_sweep.tracking import store
from mlip_sweep.tracking.read import stored_runs
from mlip_sweep.tracking.run import record
from optuna_async.config import TARGET


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return store.prepare(f"sqlite:///{tmp_path_factory.mktemp('trials')}/mlflow.db")


def multirun(folder, storage="sqlite:///optuna.db", target=TARGET):
    sweeper = {"_target_": target, "storage": storage, "study_name": "study"}
    return OmegaConf.create({"mode": RunMode.MULTIRUN, "sweeper": sweeper, "runtime": {"cwd": str(folder)}})


@pytest.fixture
def children(uri, request):
    """A function: study and number of trials -> their runs, as they are recorded now."""

    def recorded(*trials_of: tuple[str, int]):
        for study, number in trials_of:
            tags = {trials.STUDY: study, trials.NUMBER: str(number)}
            with record(uri=uri, experiment=request.node.name, name=f"{study} {number}", tags=tags):
                pass
        return stored_runs(uri, request.node.name)

    return recorded


def stored_study(folder):
    study = optuna.create_study(study_name="study", storage=f"sqlite:///{folder}/optuna.db")
    study.tell(study.ask(), 1.0)
    failed = study.ask()
    failed.set_user_attr("reason", "killed: signal 9")
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial({}, user_attrs={"retry_of": 1})
    study.ask()


def test_runs_are_tagged_with_the_states_of_their_trials(tmp_path, uri, children):
    stored_study(tmp_path)
    runs = children(("study", 0), ("study", 1), ("study", 2), ("another", 1), ("study", 7))
    trials.tag_runs(uri, runs, multirun(tmp_path))
    tags = [{name: run.tags.get(name) for name in (trials.STATE, trials.REASON, trials.RETRY_OF)} for run in children()]
    nothing = dict.fromkeys((trials.STATE, trials.REASON, trials.RETRY_OF))
    assert tags == [
        nothing | {trials.STATE: "complete"},
        nothing | {trials.STATE: "fail", trials.REASON: "killed: signal 9"},
        nothing | {trials.STATE: "running", trials.RETRY_OF: "1"},
        nothing,  # a run of another study, which this sweep has found finished
        nothing,
    ]


@pytest.mark.parametrize("target", ["another.Sweeper", TARGET])
def test_without_a_study_nothing_is_tagged_and_no_storage_made(tmp_path, uri, children, target):
    runs = children(("study", 0))
    trials.tag_runs(uri, runs, multirun(tmp_path, target=target))
    assert trials.STATE not in children()[0].tags
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_cannot_be_read_costs_a_warning(tmp_path, uri, children, caplog):
    (tmp_path / "optuna.db").write_text("no database")
    with caplog.at_level(logging.WARNING):
        trials.tag_runs(uri, children(("study", 0)), multirun(tmp_path))
    assert "study 'study' cannot be read" in caplog.text
