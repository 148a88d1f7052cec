import base64
import io
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir, main
from hydra.core.global_hydra import GlobalHydra
from samples import ROOT

from mlip_sweep.multirun import trials
from mlip_sweep.multirun.folder import PARENT_FILE
from mlip_sweep.multirun.parent import SweepParent
from mlip_sweep.tracking import store
from mlip_sweep.tracking.read import stored_bytes, stored_runs, stored_sweeps
from mlip_sweep.tracking.run import record

CONFIG = """
tracking: {{uri: "{uri}", experiment: "{experiment}"}}
error: 0.02
times: 3.0
quick: false
hydra:
  run: {{dir: single}}
  sweep: {{dir: sweep, subdir: "${{hydra.job.num}}"}}
  output_subdir: null
  callbacks: {{sweep_parent: {{_target_: mlip_sweep.multirun.parent.SweepParent}}}}
"""
JOB = """
import os, signal
import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from mlip_sweep.multirun import trials
from mlip_sweep.multirun.folder import parent_of
from mlip_sweep.multirun.names import run_name
from mlip_sweep.tracking.run import record

def job(cfg):
    hydra_cfg = HydraConfig.get()
    name = run_name(hydra_cfg)
    place = dict(uri=cfg.tracking.uri, experiment=cfg.tracking.experiment)
    tags = trials.tags(hydra_cfg)
    with record(**place, name=name, tags=tags, parent_run_id=parent_of(hydra_cfg)) as rec:
        if cfg.error < 0:
            raise ValueError("a negative error")
        if cfg.error > 100:
            os.kill(os.getpid(), signal.SIGINT)
        rec.metrics({"rmse_forces_high_T_meV_A": 1000 * cfg.error, "loss_entropy": 1 / cfg.error})
    return cfg.error
"""
MAIN = """
if __name__ == "__main__":
    hydra.main(version_base=None, config_path=".", config_name="search")(job)()
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return store.prepare(f"sqlite:///{tmp_path_factory.mktemp('sweeps')}/mlflow.db")


@pytest.fixture
def project(tmp_path, monkeypatch, uri, request):
    """A folder with a config and a job; experiments carry the test's name."""
    experiment = re.sub(r"\W+", "_", request.node.name)
    (tmp_path / "search.yaml").write_text(CONFIG.format(uri=uri, experiment=experiment))
    (tmp_path / "search.py").write_text(JOB + MAIN)
    monkeypatch.chdir(tmp_path)
    return experiment


def run_here(*arguments):
    """Run the job's command inside this process: importing MLflow again would take seconds."""
    job: dict = {}
    exec(JOB, job)
    GlobalHydra.instance().clear()
    command = main(version_base=None, config_path=str(Path.cwd()), config_name="search")(job["job"])
    argv, sys.argv = sys.argv, ["search.py", *arguments]
    try:
        command()
    finally:
        sys.argv = argv
        GlobalHydra.instance().clear()


def test_children_are_gathered_and_compared(project, uri, capfd):
    run_here("-m", "error=0.02,0.01", "times=3.0", "quick=true")

    (parent,) = stored_sweeps(uri, project)
    assert parent.status == "FINISHED"
    assert parent.name.startswith("search 20")
    children = stored_runs(uri, project, parent.run_id)
    assert [child.name for child in children] == ["error 0.02", "error 0.01"]  # the others are the same for all
    of_the_best = {"loss_entropy": 100.0, "rmse_forces_high_T_meV_A": 10.0}
    assert parent.metrics == {"runs": 2.0, "runs_finished": 2.0, **of_the_best}
    assert "forces error" in parent.tags["mlflow.note.content"]
    table = pd.read_csv(
        io.BytesIO(stored_bytes(uri, parent.run_id, "comparison/comparison.csv")), float_precision="round_trip"
    )
    assert list(table["name"]) == ["error 0.01", "error 0.02"]  # the smaller error ranks first
    assert stored_bytes(uri, parent.run_id, "config.yaml").startswith(b"tracking:")
    assert stored_bytes(uri, parent.run_id, "report.html").startswith(b"<!doctype html>")
    assert f"/runs/{parent.run_id}/artifacts/report.html?" in parent.tags["mlflow.note.content"]
    shown = capfd.readouterr().out
    assert (
        "error 0.01" in shown
        and f"mlflow ui --backend-store-uri {uri} " in shown
        and f"/runs?viewStateShareKey={parent.run_id}&workflowType=machine_learning\n" in shown
    )
    assert json.loads(Path("sweep", PARENT_FILE).read_text())["run_id"] == parent.run_id


def test_a_log_says_how_far_the_sweep_is(project, capfd):
    run_here("-m", "error=0.01,0.02,0.03")
    shown = capfd.readouterr()
    assert "sweep: 3 runs over error, in sweep" in shown.out.splitlines()[0]
    assert "\r" not in shown.out + shown.err
    lines = [line for line in shown.err.splitlines() if line.startswith("sweep: ")]
    assert [line.partition(" runs")[0] for line in lines] == [f"sweep: {n} of 3" for n in (1, 2, 3)]
    assert lines[0].endswith(" left") and lines[2] == "sweep: 3 of 3 runs done"


def test_a_sweep_taken_up_again_keeps_its_parent(project, uri):
    run_here("-m", "error=0.02,0.01")
    run_here("-m", "error=0.04")
    (parent,) = stored_sweeps(uri, project)
    assert parent.status == "FINISHED"
    assert [child.name for child in stored_runs(uri, project, parent.run_id)] == [
        "error 0.02",
        "error 0.01",
        "defaults",
    ]


def test_a_sweep_without_one_finished_run_has_failed(project, uri):
    with initialize_config_dir(str(Path.cwd()), version_base=None):
        cfg = compose("search", return_hydra_config=True, overrides=["hydra.mode=MULTIRUN", "hydra.runtime.cwd=."])
    callback = SweepParent()
    callback.on_multirun_start(cfg)
    parent_id = json.loads(Path("sweep", PARENT_FILE).read_text())["run_id"]
    with pytest.raises(ValueError), record(uri=uri, experiment=project, name="lost", parent_run_id=parent_id):
        raise ValueError("lost")
    with pytest.raises(SystemExit, match="none of its 1 runs has finished"):  # Hydra hides any other exception
        callback.on_multirun_end(cfg)
    (parent,) = stored_sweeps(uri, project)
    assert (parent.run_id, parent.status) == (parent_id, "FAILED")
    assert "none of its 1 runs" in parent.tags["error"]


def test_the_run_list_of_a_sweep_is_saved_as_a_view(project, uri):
    run_here("-m", "error=0.02,0.01", "times=3.0", "+objective=rmse_forces_high_T_meV_A")
    (parent,) = stored_sweeps(uri, project)
    with record(uri=uri, experiment=project, name="of no sweep") as rec:
        rec.metrics({"rmse_forces_high_T_meV_A": 1.0})
    saved = store.client(uri).get_experiment_by_name(project).tags[f"mlflow.sharedViewState.{parent.run_id}"]
    assert json.loads(saved)["name"] == parent.name
    state = json.loads(zlib.decompress(base64.b64decode(json.loads(saved)["state"].removeprefix("deflate;"))))
    columns = state["selectedColumns"]
    assert columns[0] == "metrics.`rmse_forces_high_T_meV_A`"  # the objective
    assert [column for column in columns if column.startswith("params")] == ["params.`error`"]  # what varies
    order = [f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"]
    shown = store.client(uri).search_runs([rec.experiment_id], state["searchFilter"], order_by=order)
    assert [run.info.run_name for run in shown] == ["error 0.01", "error 0.02"]  # the best first


def test_a_single_run_has_no_parent(project, uri):
    run_here("error=0.03")
    (run,) = stored_runs(uri, project)
    assert "mlflow.parentRunId" not in run.tags
    assert run.name == "error 0.03"
    assert stored_sweeps(uri, project) == []


def test_an_unusable_store_ends_the_sweep_before_its_jobs(project, uri):
    with pytest.raises(SystemExit, match=r"^mlip-sweep: tracking\.uri='mlruns'"):
        run_here("-m", "error=0.02,0.01", "tracking.uri=mlruns")
    assert not Path("sweep").exists()


@pytest.mark.slow
def test_jobs_of_other_processes_find_their_parent(project, uri):
    command = [sys.executable, "search.py", "-m", "error=0.02,-1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = subprocess.run(command, capture_output=True, text=True)
    (parent,) = stored_sweeps(uri, project)
    assert "sweep: 2 runs over error, in sweep" in done.stdout.splitlines()[0]
    assert "\r" not in done.stdout + done.stderr
    children = stored_runs(uri, project, parent.run_id)
    assert {child.name: child.status for child in children} == {"error 0.02": "FINISHED", "error -1": "FAILED"}, (
        done.stderr
    )
    # A failed job ends Hydra's grid with an error, without a word to callbacks; the sweep is compared all the same.
    assert done.returncode == 1
    assert parent.status == "FINISHED"
    assert "1 of 2 runs did not finish" in parent.tags["mlflow.note.content"]
    assert stored_bytes(uri, parent.run_id, "comparison/comparison.csv") is not None
    assert len({child.tags["system.process"] for child in [parent, *children]}) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite:///study.db", "null"])
def test_the_states_of_trials_reach_their_runs_wherever_the_study_is_kept(project, uri, storage):
    search = ["hydra/sweeper=optuna_async", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_jobs=1"]
    command = [sys.executable, "search.py", "-m", *search, f"hydra.sweeper.storage={storage}", "error=choice(0.02,-1)"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout + done.stderr
    lines = [line.partition(" runs")[0] for line in done.stderr.splitlines() if " runs done" in line]
    assert lines == ["search: 1 of 2", "search: 2 of 2"]  # one line for one sweep: that of the study
    (parent,) = stored_sweeps(uri, project)
    children = stored_runs(uri, project, parent.run_id)
    states = {child.name: (child.tags[trials.STATE], child.tags.get(trials.REASON)) for child in children}
    assert states == {
        "error 0.02": ("complete", None),
        "error -1": ("fail", "error: ValueError: a negative error"),
    }
    assert parent.status == "FINISHED"


@pytest.mark.slow
def test_an_interrupted_sweep_leaves_nothing_running(project, uri):
    subprocess.run([sys.executable, "search.py", "-m", "error=0.02,101,0.01"], capture_output=True)
    (parent,) = stored_sweeps(uri, project)
    assert (parent.status, parent.tags["error"]) == ("KILLED", "KeyboardInterrupt")
    assert [run.status for run in stored_runs(uri, project, parent.run_id)] == ["FINISHED", "KILLED"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("tracking.register=a/b", "tracking.register='a/b': give a name without"),
        ("tracking.experiment=../a", "tracking.experiment='../a': give a name without"),
        ("+measurement.mine={_target_: os.system}", "measurement.mine._target_=os.system: a config may name"),
        ("hydra.launcher._target_=os.system", "hydra.launcher._target_=os.system: a config may name"),
    ],
)
def test_what_no_run_of_it_could_do_is_told_before_any_run_begins(override, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        config = compose("run", [override, "hydra.mode=MULTIRUN"], return_hydra_config=True)
    with pytest.raises(SystemExit, match=re.escape(f"mlip-sweep: {told}")):
        SweepParent().on_multirun_start(config)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def group(project):
    """A config group of the project's own, of which a sweep takes what its glob finds."""
    Path("kind").mkdir()
    for name, times in (("alone", 1), ("apart", 2), ("both", 3)):
        Path("kind", f"{name}.yaml").write_text(f"# @package _global_\ntimes: {times}\n")
    return project


def test_a_glob_over_a_group_is_a_sweep_as_any_other(group, uri, capfd):
    run_here("-m", "+kind=glob(a*)")
    (parent,) = stored_sweeps(uri, group)
    assert parent.status == "FINISHED"
    assert [run.name for run in stored_runs(uri, group, parent.run_id)] == ["alone", "apart"]
    assert "sweep: 2 runs over kind, in sweep" in capfd.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("where", ["on_multirun_start", "on_multirun_end"])
def test_what_goes_wrong_in_the_callback_is_no_success_and_leaves_nothing_running(project, uri, monkeypatch, where):
    def fail(*arguments, **options):
        raise RuntimeError("no view of postgresql://ada:secret@host/runs")

    name = "save_view" if where == "on_multirun_start" else "trials.tag_runs"
    monkeypatch.setattr(f"mlip_sweep.multirun.parent.{name}", fail)
    with pytest.raises(SystemExit, match="RuntimeError: no view of") as caught:
        run_here("-m", "error=0.02,0.01")
    assert "secret" not in str(caught.value)
    (parent,) = stored_sweeps(uri, project)
    assert parent.status == "FAILED"
    assert len(stored_runs(uri, project, parent.run_id)) == (0 if where == "on_multirun_start" else 2)


def test_the_password_of_a_url_stays_in_no_file_of_hydra(project):
    typed = ["+storage=postgresql://ada:secret@host/runs", "hydra.output_subdir=.hydra"]
    run_here("-m", "error=0.02,0.01", *typed)
    run_here(*typed)
    files = [*Path("sweep").rglob("*.yaml"), *Path("single").rglob("*.yaml")]
    assert len(files) == 1 + 2 * 3 + 3
    texts = [file.read_text() for file in files]
    assert not any("secret" in text for text in texts)
    assert sum("***@host" in text for text in texts) >= 1 + 2 * 2 + 2
