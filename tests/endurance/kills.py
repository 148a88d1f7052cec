"""A search that is killed at random moments, and started again each time: nothing is lost, and nothing done twice.

python tests/endurance/kills.py [--kills 10] [--trials 12] [--seed 0] [--keep]

Two short trainings at a time. At each moment SIGKILL goes to one worker, or to the sweep and all its workers at once,
in the midst of their trials; the same command then goes on. At the end each trial must be there once, in the study and
in MLflow.
"""

import argparse
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import optuna
import psutil
from books import Counts, report
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from rich.console import Console
from services import BIN, until, workplace

from optuna_async.trials import RETRY_OF, own

STUDY = "killed"
COMMAND = [
    str(BIN / "mlip-sweep"),
    "--multirun",
    "hydra/sweeper=optuna_async",
    f"hydra.sweeper.study_name={STUDY}",
    f"hydra.sweep.dir=multirun/{STUDY}",
    "hydra.sweeper.n_jobs=2",
    "hydra.sweeper.max_failure_rate=1.0",
    "optimizer.lr=tag(log,interval(0.001,0.02))",
    "model.num_features=4",
    "model.num_layers=1",
    "dataset.n_train=20",
    "trainer=cpu",
    "trainer.max_epochs=400",
    "trainer.checkpoint_every=5",
    "trainer.progress=false",
    "measurement=none",
    "objective=validation/loss",
]
LONGEST_S = 8.0  # from the moment that trials are at work until a kill


def main() -> int:
    """Kill, start again, count; status 1 where the books are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--trials", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and victims (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    chosen = parser.parse_args()
    folder = workplace("kills")
    events = run(folder, chosen.trials, chosen.kills, random.Random(chosen.seed))
    good = told(folder, chosen.trials, chosen.kills, events)
    if chosen.keep or not good:
        Console().print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    return 0 if good else 1


def run(folder: Path, trials: int, kills: int, chance: random.Random) -> list[str]:
    """The sweep until it ends by itself; what was done to it, a line for each kill."""
    events: list[str] = []
    begin = time.monotonic()
    while True:
        started = time.time()
        with (folder / "sweep.log").open("a") as log:
            sweep = subprocess.Popen([*COMMAND, f"hydra.sweeper.n_trials={trials}"], cwd=folder, stdout=log, stderr=log)
            while sweep.poll() is None and len(events) < kills:
                until(partial(begun, sweep, folder, started), "a trial at work", tick_s=0.1)
                try:
                    sweep.wait(chance.uniform(0.0, LONGEST_S))
                except subprocess.TimeoutExpired:
                    events.append(f"{time.monotonic() - begin:5.0f} s: {kill(sweep, chance)}")
                    started = time.time()
            if sweep.wait() == 0 or (len(events) >= kills and sweep.returncode > 0):
                return events


def begun(sweep: subprocess.Popen, folder: Path, since: float) -> bool:
    """Whether a training has begun, or kept a checkpoint, since then; or the sweep has ended."""
    files = [file for name in ("training.yaml", "last.ckpt") for file in folder.glob(f"multirun/{STUDY}/*/{name}")]
    return sweep.poll() is not None or any(file.stat().st_mtime > since for file in files)


def kill(sweep: subprocess.Popen, chance: random.Random) -> str:
    """SIGKILL to one worker, or to all; who it was."""
    workers = [child for child in psutil.Process(sweep.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    if workers and chance.random() < 0.5:
        chance.choice(workers).kill()
        return f"one of {len(workers)} workers"
    for process in (psutil.Process(sweep.pid), *workers):
        process.kill()
    sweep.wait()
    return f"the sweep and its {len(workers)} workers"


def told(folder: Path, wanted: int, kills: int, events: list[str]) -> bool:
    """Show what was done and what is left of it; whether the books are right."""
    trials = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{folder}/optuna.db").trials
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=10_000)
    parents = [run for run in runs if run.data.tags.get("kind") == "sweep"]
    finished = Counter(
        int(run.data.tags["optuna.trial_number"])
        for run in runs
        if run not in parents and run.info.status == "FINISHED"
    )
    complete = [trial.number for trial in trials if trial.state == TrialState.COMPLETE]
    went_on = sum("continues" in run.data.tags for run in runs)
    again = sum(own(trial, RETRY_OF) is not None for trial in trials)
    books: Counts = {
        "kills": (len(events), kills),
        "complete trials": (len(complete), wanted),
        "trials left running or waiting": (sum(not trial.state.is_finished() for trial in trials), 0),
        "finished runs in MLflow": (sum(finished.values()), wanted),
        "trials with no finished run, or two": (sum(finished[number] != 1 for number in complete), 0),
        "runs left RUNNING": (sum(run.info.status == "RUNNING" for run in runs), 0),
        "parents": (len(parents), 1),
        "state of the parent": (",".join(run.info.status for run in parents), "FINISHED"),
        "trials that were tried again": (again, None),
        "of them, from a checkpoint": (went_on, None),
    }
    Console().print(*events, sep="\n")
    return report(f"{wanted} trials, two at a time", books)


if __name__ == "__main__":
    sys.exit(main())
