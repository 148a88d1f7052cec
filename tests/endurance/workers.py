"""Many workers on one study: eight against PostgreSQL and an MLflow server, two against SQLite files.

python tests/endurance/workers.py [--workers 8] [--trials 64] [--keep]

Every worker is the same `mlip-sweep` command, started in the same folder at the same moment. At the end each trial must
be there once, in the study and in MLflow. PostgreSQL's programs are looked for where Debian puts them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import optuna
from books import Counts, report
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from rich.console import Console
from services import BIN, mlflow_server, postgres, workplace

from mlip_sweep.training.metrics import VALIDATION_LOSS_KEPT

STUDY = "endurance"
SHORT = [  # a training of seconds
    "model.num_features=4",
    "model.num_layers=1",
    "dataset.n_train=10",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.progress=false",
    "measurement=none",
    "objective=validation/loss",
]


def start(workers: int, trials: int, folder: Path, study: str, tracking: list[str], env: dict[str, str]) -> float:
    """Run all workers to their end; how long it took, in seconds."""
    command = [str(BIN / "mlip-sweep"), "--multirun", "hydra/sweeper=optuna_async", f"hydra.sweeper.storage={study}"]
    command += [f"hydra.sweeper.study_name={STUDY}", f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.n_jobs=1"]
    command += [f"hydra.sweep.dir=multirun/{STUDY}", "optimizer.lr=tag(log,interval(0.001,0.02))", *SHORT, *tracking]
    begin = time.monotonic()
    logs = [(folder / f"worker_{n}.log").open("w") for n in range(workers)]
    processes = [subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log) for log in logs]
    try:
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.terminate()
    for n, process in enumerate(processes):
        if process.returncode:
            Console().print(f"worker {n} ended with status {process.returncode}; {folder}/worker_{n}.log says more")
    return time.monotonic() - begin


def counted(study: str, tracking: str, n_trials: int) -> Counts:
    """What study and MLflow hold, beside what they should."""
    trials = optuna.load_study(study_name=STUDY, storage=study).trials
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    client = MlflowClient(tracking)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=10_000)
    parents = [run for run in runs if run.data.tags.get("kind") == "sweep"]
    children = [run for run in runs if run not in parents]
    finished = [run for run in children if run.info.status == "FINISHED"]
    recorded = Counter(run.data.tags.get("optuna.trial_number") for run in finished)
    seconds = max(t.datetime_complete.timestamp() for t in complete) - min(t.datetime_start.timestamp() for t in trials)
    told = {str(trial.number): trial.value for trial in complete}
    values = [(run.data.tags["optuna.trial_number"], run.data.metrics[VALIDATION_LOSS_KEPT]) for run in finished]
    return {
        "trials in the study": (len(trials), n_trials),
        "complete": (len(complete), n_trials),
        "different parameters": (len({str(trial.params) for trial in complete}), len(complete)),
        "runs in MLflow": (len(children), n_trials),
        "finished": (len(finished), n_trials),
        "trials with two finished runs": (sum(n > 1 for n in recorded.values()), 0),
        "trials without a run": (len(told.keys() - recorded.keys()), 0),
        "values that differ": (sum(value != told[number] for number, value in values), 0),
        "left RUNNING": (sum(run.info.status == "RUNNING" for run in runs), 0),
        "parents": (len(parents), 1),
        "children of it": (
            sum(run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id for run in children),
            n_trials,
        ),
        "parent's state": (parents[0].info.status, "FINISHED"),
        "seconds from the first trial to the last": (round(seconds), None),
    }


def on_servers(folder: Path, workers: int, trials: int) -> bool:
    """Workers against one PostgreSQL study and one MLflow server on PostgreSQL."""
    with ExitStack() as stack:
        address, env = stack.enter_context(postgres(folder / "postgres", ["optuna", "mlflow"]))
        study = f"postgresql+psycopg://{address}/optuna"
        server = stack.enter_context(mlflow_server(folder, f"postgresql+psycopg://{address}/mlflow", env))
        environment = {**os.environ, **env, "MLFLOW_TRACKING_URI": server}
        seconds = start(workers, trials, folder, study, ["tracking=server"], environment)
        os.environ.update(env)  # for libpq, which reads the password file
        counts = counted(study, server, trials)
    return report(f"{workers} workers, PostgreSQL and MLflow server: {trials} trials in {seconds:.0f} s", counts)


def on_files(folder: Path, workers: int, trials: int) -> bool:
    """Workers against SQLite files."""
    seconds = start(workers, trials, folder, "sqlite:///optuna.db", [], dict(os.environ))
    counts = counted(f"sqlite:///{folder}/optuna.db", f"sqlite:///{folder}/mlflow.db", trials)
    return report(f"{workers} workers, SQLite: {trials} trials in {seconds:.0f} s", counts)


def main() -> int:
    """Both trials; status 1 where something was lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8, help="against the servers (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=64, help="of that study (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    chosen = parser.parse_args()
    folder = workplace("workers")
    good = []
    for name, trial, workers, trials in (
        ("servers", on_servers, chosen.workers, chosen.trials),
        ("files", on_files, 2, 16),
    ):
        (folder / name).mkdir()
        good.append(trial(folder / name, workers, trials))
    if chosen.keep or not all(good):
        Console().print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
