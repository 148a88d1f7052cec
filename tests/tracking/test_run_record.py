import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from mlip_sweep.measurement.interface import Report
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.metrics import wall_time
from mlip_sweep.tracking import environment, store
from mlip_sweep.tracking.read import close_abandoned, stored_bytes, stored_runs
from mlip_sweep.tracking.run import flatten, one_line, record
from mlip_sweep.training.metrics import TRAIN_LOSS, VALIDATION_LOSS


def stored(uri, run_id):
    return next(run for run in stored_runs(uri) if run.run_id == run_id)


def test_finished_run_keeps_what_went_in_and_came_out(uri):
    config = {"model": {"_target_": "mlip_sweep.models.nequip.NequIP", "layers": 2}, "seed": 1, "text": "x" * 7000}
    with record(uri=uri, experiment="runs", name="model=nequip", params=config, tags={"sweep": "no"}) as rec:
        start = time.perf_counter()
        with rec.phase("train"):
            busy_until = time.perf_counter() + 0.01
            while time.perf_counter() < busy_until:
                pass
        elapsed = time.perf_counter() - start
        rec.metrics({"finite": 0.25, "missing": float("nan"), "huge": float("inf")})
        rec.config("seed: 1\n")

    run = stored(uri, rec.run_id)
    assert (run.status, run.name) == ("FINISHED", "model=nequip")
    assert {key: run.params[key] for key in ("model", "model.layers", "seed")} == {
        "model": "NequIP",
        "model.layers": "2",
        "seed": "1",
    }
    assert len(run.params["text"]) == 6000
    assert run.metrics["finite"] == 0.25
    assert math.isnan(run.metrics["missing"])
    assert run.metrics["huge"] == math.inf
    assert 0.01 <= run.metrics[wall_time("train")] <= elapsed
    assert run.tags["version.torch"].startswith("2.")
    assert {"version.e3nn", "version.mlflow", "system.host", "sweep"} <= run.tags.keys()
    assert stored_bytes(uri, rec.run_id, "config.yaml") == b"seed: 1\n"
    assert stored_bytes(uri, rec.run_id, "landscape/curves.npz") is None


def test_more_params_than_one_call_takes(uri):
    with record(uri=uri, experiment="runs", name="many", params={f"p{i}": i for i in range(250)}) as rec:
        pass
    assert stored(uri, rec.run_id).params == {f"p{i}": str(i) for i in range(250)}


def test_report_is_stored_by_its_name(uri, tmp_path):
    figure = Figure()
    figure.add_subplot().plot([0, 1], [1, 0])
    report = Report(
        metrics={LOSS_ENTROPY: 1.5},
        arrays={"t": np.linspace(-0.25, 0.25, 81), "energy": np.ones((20, 81))},
        tables={"errors": pd.DataFrame({"set": ["300K"], "rmse": [1.25]})},
        figures={"mean": figure},
        files={"paths/one.txt": lambda path: path.write_text("a line")},
        notes=["window saturated: 77 of 81 points"],
    )
    with record(uri=uri, experiment="runs", name="reported") as rec:
        rec.report("landscape", report)

    (tmp_path / "curves.npz").write_bytes(stored_bytes(uri, rec.run_id, "landscape/curves.npz"))
    with np.load(tmp_path / "curves.npz") as curves:
        assert curves["energy"].shape == (20, 81)
        np.testing.assert_array_equal(curves["t"], report.arrays["t"])
    assert stored_bytes(uri, rec.run_id, "landscape/errors.csv") == b"set,rmse\n300K,1.25\n"
    assert stored_bytes(uri, rec.run_id, "landscape/mean.png").startswith(b"\x89PNG")
    assert stored_bytes(uri, rec.run_id, "landscape/paths/one.txt") == b"a line"
    assert stored_bytes(uri, rec.run_id, "landscape/notes.txt") == b"window saturated: 77 of 81 points\n"
    assert stored(uri, rec.run_id).metrics == {LOSS_ENTROPY: 1.5}


def test_failed_run_says_where_and_why(uri):
    with (
        pytest.raises(ValueError, match="first line"),
        record(uri=uri, experiment="runs", name="fails") as rec,
        rec.phase("data"),
    ):
        raise ValueError("first line\nsecond line")
    run = stored(uri, rec.run_id)
    assert run.status == "FAILED"
    assert run.tags["error"] == "ValueError: first line second line"
    assert run.tags["error.phase"] == "data"
    assert wall_time("data") in run.metrics
    assert b"Traceback" in stored_bytes(uri, rec.run_id, "error.txt")


def test_interrupted_run_is_killed(uri):
    with pytest.raises(KeyboardInterrupt), record(uri=uri, experiment="runs", name="interrupted") as rec:
        raise KeyboardInterrupt
    assert stored(uri, rec.run_id).status == "KILLED"


def test_pruned_trial_is_killed_not_failed(uri):
    class TrialPruned(Exception):  # noqa: N818 - as Optuna calls it
        pass

    with pytest.raises(TrialPruned), record(uri=uri, experiment="runs", name="pruned") as rec:
        raise TrialPruned("at epoch 3")
    run = stored(uri, rec.run_id)
    assert (run.status, run.tags["pruned"]) == ("KILLED", "at epoch 3")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_kills_the_run_and_the_handler_before_comes_back(uri, name):
    def before(number, frame):
        raise AssertionError("the handler before must not run inside the record")

    number = signal.Signals[name]
    original = signal.signal(number, before)
    try:
        with pytest.raises(SystemExit) as caught, record(uri=uri, experiment="runs", name="terminated") as rec:
            os.kill(os.getpid(), number)
            signal.pause()
        assert caught.value.code == 128 + number
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, original)
    run = stored(uri, rec.run_id)
    assert (run.status, run.tags["error"]) == ("KILLED", f"stopped by {name}")


def test_a_run_under_nohup_outlives_its_terminal(uri):
    original = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with record(uri=uri, experiment="runs", name="under nohup") as rec:
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, original)
    assert stored(uri, rec.run_id).status == "FINISHED"


def test_metrics_of_lightning_all_arrive(uri):
    with record(uri=uri, experiment="runs", name="logged") as rec:
        for step in range(100):
            rec.logger.log_metrics({TRAIN_LOSS: float(step), "epoch": step}, step=step)
        rec.logger.finalize("success")
        rec.logger.log_metrics({VALIDATION_LOSS: 7.0}, step=100)
        assert stored(uri, rec.run_id).status == "RUNNING"  # Lightning's end is not the run's
    history = store.client(uri).get_metric_history(rec.run_id, TRAIN_LOSS)
    assert sorted((m.step, m.value) for m in history) == [(n, float(n)) for n in range(100)]
    run = stored(uri, rec.run_id)
    assert run.metrics == {TRAIN_LOSS: 99.0, VALIDATION_LOSS: 7.0}


def test_metrics_arrive_from_every_task_of_a_slurm_job(uri, monkeypatch):
    monkeypatch.setattr(
        rank_zero_only, "rank", 3
    )  # what Lightning makes of SLURM_PROCID; each task is a run of its own
    with record(uri=uri, experiment="runs", name="task 3") as rec:
        rec.logger.log_metrics({TRAIN_LOSS: 2.0}, step=0)
    assert stored(uri, rec.run_id).metrics == {TRAIN_LOSS: 2.0}


def test_a_metric_that_cannot_be_stored_fails_the_run(uri):
    with pytest.raises(Exception, match="not allowed"), record(uri=uri, experiment="runs", name="unstorable") as rec:
        rec.logger.log_metrics({"not allowed: *?": 1.0}, step=0)
    assert stored(uri, rec.run_id).status == "FAILED"


def test_children_are_found_by_their_parent(uri):
    with record(uri=uri, experiment="family", name="sweep", tags={"kind": "sweep"}) as parent:
        for n in range(2):
            with record(uri=uri, experiment="family", name=f"seed={n}", parent_run_id=parent.run_id):
                pass
    with record(uri=uri, experiment="family", name="alone"):
        pass
    assert [run.name for run in stored_runs(uri, "family", parent.run_id)] == ["seed=0", "seed=1"]
    assert [run.name for run in stored_runs(uri, "family")] == ["seed=0", "seed=1", "alone"]


def test_the_next_run_closes_that_of_a_killed_process_and_no_other(uri):
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    tags = environment.process_tags(child.pid)
    experiment_id = store.experiment_id(uri, "abandoned")
    store.create_run(uri, experiment_id, "killed", tags)
    store.create_run(uri, experiment_id, "elsewhere", {**tags, "system.host": "another-host"})
    store.create_run(uri, experiment_id, "sweep", {**tags, "kind": "sweep"})  # others may work at it
    assert close_abandoned(uri, "abandoned") == []
    child.kill()
    child.wait()
    with (
        record(uri=uri, experiment="abandoned", name="alive"),
        record(uri=uri, experiment="abandoned", name="another"),
    ):
        states = {run.name: run.status for run in stored_runs(uri, "abandoned")}
    assert states == {"killed": "FAILED", "elsewhere": "RUNNING", "alive": "RUNNING", "another": "RUNNING"}
    assert close_abandoned(uri, "abandoned", sweeps=True) == ["sweep"]


def test_a_process_number_that_was_used_again_is_another_process():
    mother = environment.process_tags(os.getppid())
    assert not environment.process_has_ended(mother, if_unknown=True)
    assert environment.process_has_ended({**mother, "system.process": f"{os.getppid()} since 1.00"}, if_unknown=False)


def test_processes_that_cannot_be_asked_have_ended_when_all_is_over():
    here = environment.process_tags()
    for unknown in (here, {**here, "system.host": "another-host"}):
        assert not environment.process_has_ended(unknown, if_unknown=False)
        assert environment.process_has_ended(unknown, if_unknown=True)


def test_flatten_names_what_is_built():
    config = {"model": {"_target_": "a.b.Net", "_partial_": True, "size": {"l_max": 1}}, "seed": 3, "averaging": {}}
    assert flatten(config) == {"model": "Net", "model.size.l_max": 1, "seed": 3, "averaging": "none"}


def test_errors_in_one_line():
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_importing_the_record_is_light():
    heavy = "('mlflow', 'torch', 'pytorch_lightning')"
    code = f"import sys, mlip_sweep.tracking.run; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_commit_is_that_of_the_code_or_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "wheel").mkdir()
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "wheel" / "environment.py"))  # installed, not under git
    monkeypatch.chdir(tmp_path)
    assert environment.commit() == {}

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    Path("notes.txt").write_text("1")
    git("add", "notes.txt")
    git("commit", "-qm", "notes")
    head = git("rev-parse", "HEAD")
    assert environment.commit() == {"mlflow.source.git.commit": head, "git.uncommitted_changes": "no"}
    Path("notes.txt").write_text("2")
    assert environment.commit()["git.uncommitted_changes"] == "yes"
