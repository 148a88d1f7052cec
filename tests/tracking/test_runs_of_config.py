"""What is recorded already is found again by its config and its data, and by nothing less."""

import pytest

from mlip_sweep.metrics import objective_metric
from mlip_sweep.tracking import store
from mlip_sweep.tracking.read import stored_runs
from mlip_sweep.tracking.run import record
from mlip_sweep.tracking.runs_of_config import CONFIG, DATA, FOLDER, RunsOfConfig, config_checksum

CONFIGURED = {"model": {"width": 8}, "seed": 0, "trainer": {"max_epochs": 3, "progress": True}, "objective": "a"}


def run(uri, experiment, *, data="data", folder="", error=None, parent=None, metrics=None):
    """A run of the config that ends as told; its id."""
    tags = {CONFIG: "config", DATA: data, FOLDER: str(folder)}
    place = {"uri": uri, "experiment": experiment, "name": "run", "tags": tags, "parent_run_id": parent}
    try:
        with record(**place) as rec:
            rec.metrics(metrics or {})
            if error is not None:
                raise error
    except type(error or ValueError):
        pass
    return rec.run_id


def test_the_checksum_knows_what_a_number_depends_on():
    same = [
        {**CONFIGURED, "trainer": {"progress": False, "max_epochs": 3}},
        {**CONFIGURED, "objective": ["b", "c"], "resume": True},
        {**CONFIGURED, "tracking": {"uri": "elsewhere"}},
    ]
    others = [
        {**CONFIGURED, "seed": 1},
        {**CONFIGURED, "model": {"width": 16}},
        {**CONFIGURED, "trainer": {"max_epochs": 4, "progress": True}},
        {**CONFIGURED, "measurement": {"landscape": {"points": 81}}},
    ]
    assert {config_checksum(config) for config in same} == {config_checksum(CONFIGURED)}
    assert len({config_checksum(config) for config in [CONFIGURED, *others]}) == 1 + len(others)


def test_a_finished_run_is_found_for_its_data_and_objectives(uri):
    metrics = {objective_metric("loss_entropy"): 1.5}
    run_id = run(uri, "finished", metrics=metrics)
    run(uri, "finished", error=ValueError(), metrics=metrics)
    recorded = RunsOfConfig(uri, "finished", "config")
    assert recorded.finished("data", ["loss_entropy"]).run_id == run_id
    assert recorded.finished("other data", ["loss_entropy"]) is None
    assert recorded.finished("data", ["loss_entropy", "parameters"]) is None
    assert not RunsOfConfig(uri, "finished", "other config")
    assert not RunsOfConfig(uri, "no such experiment", "config")


def test_a_finished_run_can_be_gathered_under_more_sweeps(uri):
    run(uri, "gathered", parent="first", metrics={objective_metric("a"): 1.0})
    for parent in ("first", "second", "second", "third"):
        recorded = RunsOfConfig(uri, "gathered", "config")
        recorded.file_under(recorded.finished("data", ["a"]), parent)
    for parent in ("first", "second", "third"):
        assert len(stored_runs(uri, "gathered", parent)) == 1
    assert stored_runs(uri, "gathered", "fourth") == []


@pytest.mark.parametrize(
    ("error", "interrupted"),
    [
        (KeyboardInterrupt(), True),
        (ValueError(), True),  # such as a full disk while it measured
        (type("TrialPruned", (Exception,), {})("at step 3"), False),
        (None, False),
    ],
    ids=["interrupted", "failed", "pruned", "finished"],
)
def test_a_run_that_ended_without_a_result_is_interrupted(uri, tmp_path, request, error, interrupted):
    experiment = request.node.name
    before = run(uri, experiment, folder=tmp_path / "old", error=error)
    recorded = RunsOfConfig(uri, experiment, "config")
    assert [run.run_id for run in recorded.interrupted()] == [before] * interrupted
    assert recorded.of_folder(tmp_path / "old") == (before if interrupted else None)
    assert recorded.of_folder(tmp_path / "new") is None


def test_a_folder_whose_node_was_lost_belongs_to_who_trains_there_now(uri, tmp_path):
    tags = {
        CONFIG: "config",
        DATA: "data",
        FOLDER: str(tmp_path),
        "system.host": "lost",
        "system.process": "1 since 2.00",
    }
    lost = store.client(uri).create_run(store.experiment_id(uri, "lost"), tags=tags, run_name="lost").info.run_id
    assert RunsOfConfig(uri, "lost", "config").of_folder(tmp_path) == lost
    assert RunsOfConfig(uri, "lost", "config").of_folder(tmp_path / "another") is None


def test_a_run_is_gone_on_with(uri):
    with pytest.raises(KeyboardInterrupt), record(uri=uri, experiment="on", name="run", params={"a": 1}) as rec:
        raise KeyboardInterrupt
    with record(uri=uri, experiment="on", name="run", params={"a": 1}, run_id=rec.run_id) as again:
        assert again.run_id == rec.run_id
    (stored,) = stored_runs(uri, "on")
    assert stored.status == "FINISHED"
    assert "error" not in stored.tags
