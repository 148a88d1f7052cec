"""Which jobs of a multirun train together, and that a sweep of them is the sweep of runs alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from samples import ETHANOL_FILES, TINY, installed_architectures, write_ethanol_files

from mlip_sweep.comparison.runs import read_runs
from mlip_sweep.config import config_folder
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.multirun import cohorts
from mlip_sweep.multirun.cohorts import _reasons, grouped
from mlip_sweep.tracking.read import stored_sweeps
from mlip_sweep.training.metrics import VALIDATION_LOSS_KEPT

ARCHITECTURES = installed_architectures()
URI = "sqlite:///mlflow.db"
SMALL = [
    *ETHANOL_FILES,
    "trainer.max_epochs=3",
    "trainer.dtype=float64",
    "measurement.landscape.directions=2",
    "measurement.landscape.points=5",
    "measurement.stability.replicas=2",
    "measurement.stability.duration_ps=0.02",
    "measurement.inference_time=null",
    "measurement.sharpness=null",
    "measurement.bond_scans=null",
]
MODEL = [f"model={name}" for name in ARCHITECTURES[:1]]
MODEL += [f"model.{name}={value}" for one in ARCHITECTURES[:1] for name, value in TINY[one].items()]


def composed(*jobs):
    with initialize_config_dir(str(config_folder("conf")), version_base=None):
        return [compose("run", job.split()) for job in jobs]


def test_runs_of_one_architecture_train_together_whatever_else_differs():
    jobs = composed(
        "seed=0",
        "seed=1 optimizer=adam optimizer.lr=0.01",
        "model=mace",
        "averaging=swa loss=weight_cycle rescaling=none dataset.n_train=25",
        "model=mace seed=3 trainer.max_epochs=5",
        "trainer.dtype=float64",
    )
    cohorts = grouped(jobs, size=8, n_jobs=1)
    assert cohorts == [[0, 1, 3], [2, 4], [5]]
    assert _reasons(jobs, cohorts, 8, 1) == ["since they differ in model, trainer.dtype"]


def test_a_cohort_has_its_size_and_every_process_its_part():
    jobs = composed(*(f"seed={seed}" for seed in range(10)))
    assert [len(places) for places in grouped(jobs, size=4, n_jobs=1)] == [3, 4, 3]
    assert [len(places) for places in grouped(jobs, size=16, n_jobs=2)] == [5, 5]
    assert grouped(jobs[:1], size=16, n_jobs=2) == [[0]]
    both = grouped(jobs[:4] + composed(*(f"model=mace seed={seed}" for seed in range(4))), size=8, n_jobs=2)
    assert both == [[0, 1], [2, 3], [4, 5], [6, 7]]  # whichever costs more
    assert sorted(place for places in grouped(jobs, size=3, n_jobs=2) for place in places) == list(range(10))


def mlip_sweep(folder, *arguments):
    command = [Path(sys.executable).parent / "mlip-sweep", "--multirun", *arguments, *SMALL]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("cohorts")
    write_ethanol_files(made)
    return made


@pytest.mark.slow
@pytest.mark.skipif(not ARCHITECTURES, reason="neither architecture is installed")
def test_a_sweep_of_cohorts_records_what_runs_alone_record(folder, typed, monkeypatch):
    """The demo's way, in processes, from which comes back what the jobs have returned."""
    monkeypatch.chdir(folder)
    rates = "optimizer.lr=0.005,1e30"  # half of the runs diverge
    cohorts_of_two = ["hydra/launcher=cohort", "hydra.launcher.n_jobs=2", "tracking.experiment=together"]
    done = mlip_sweep(folder, "seed=0,1", rates, *MODEL, *cohorts_of_two)
    assert done.returncode == 1, done.stderr
    assert (done.stdout + done.stderr).count("2 runs train together") == 2
    assert "Traceback" not in done.stderr
    status, _, errors = typed("--multirun", "seed=0,1", *MODEL, *SMALL, "tracking.experiment=alone", folder=folder)
    assert status == 0, errors
    runs, expected = read_runs(URI, "together"), read_runs(URI, "alone")
    assert sorted(runs["status"]) == ["FAILED"] * 2 + ["FINISHED"] * 2, done.stderr
    assert len(expected) == 2
    by_seed = {run["params"]["seed"]: run for _, run in runs[runs["status"] == "FINISHED"].iterrows()}
    for _, run in expected.iterrows():
        for name in (LOSS_ENTROPY, RMSE_FORCES_HIGH_T, TIME_TO_FAILURE, VALIDATION_LOSS_KEPT):
            np.testing.assert_allclose(by_seed[run["params"]["seed"]][name], run[name], rtol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.skipif(not ARCHITECTURES, reason="neither architecture is installed")
def test_a_search_asks_for_cohorts_of_trials(folder, typed):
    import optuna

    status, *said = typed(
        "--multirun",
        "--config-name=entropy_search",
        "hydra.sweeper.n_trials=5",
        "hydra.sweeper.n_jobs=3",
        "hydra.launcher.n_jobs=1",
        *MODEL,
        *SMALL,
        "dataset.n_train=8",
        "loss=constant",
        "averaging=none,ema",
        folder=folder,
    )
    assert status == 0, said
    said = "".join(said)
    assert "3 runs train together" in said
    assert "2 runs train together" in said
    study = optuna.load_study(study_name="entropy_search", storage="sqlite:///optuna.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert len({trial.value for trial in study.trials}) == 5
    (sweep,) = stored_sweeps(URI, "mlip-sweep")
    assert sweep.status == "FINISHED"


@pytest.mark.parametrize("setting", ["size=0", "n_jobs=none"])
def test_settings_of_the_launcher_are_checked(setting, folder):
    done = mlip_sweep(folder, "seed=0,1", "hydra/launcher=cohort", f"hydra.launcher.{setting}")
    assert done.returncode != 0
    assert f"hydra.launcher.{setting}" in done.stderr
    assert "Traceback" not in done.stderr


class Sleeps:
    """Stands for a cohort that trains: says that it has begun, and whether a signal has ended it."""

    def __init__(self, file):
        self.file = file

    def __call__(self):
        self.file.write_text("begun")
        try:
            time.sleep(300)
        except KeyboardInterrupt:
            self.file.write_text("closed")
            raise


def test_a_signal_to_the_sweep_alone_ends_its_processes_too(tmp_path):
    """As a scheduler sends it; Ctrl-C in a terminal reaches all of them."""
    works = [Sleeps(tmp_path / name) for name in "ab"]

    def interrupt():
        while not all(work.file.exists() for work in works):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        cohorts._in_processes(works, n_jobs=2)
    assert [work.file.read_text() for work in works] == ["closed"] * 2
    assert not active_children()
