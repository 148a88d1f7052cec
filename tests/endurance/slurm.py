"""A search on a real Slurm of one node: a job is cancelled, one is requeued, and two run into their time limit.

sudo .venv/bin/python tests/endurance/slurm.py [--keep]

It starts Slurm with its accounts from Debian's packages (slurm-wlm slurmdbd munge mariadb-server) on free ports of
loopback, and ends it. Ten minutes and more: Slurm holds a requeued job back for two.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import optuna
from books import Counts, report
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from services import BIN, quiet, until, workplace
from slurm_cluster import slurm
from workers import SHORT

from optuna_async.trials import REASON, RETRY_OF, own

TRIALS = 6
EPOCHS = 300
OVER_LIMIT_S = 150.0  # of training alone: more than a job is given before it is told to stop
PATIENCE_S = 1800.0


class Search:
    """A study whose trials are jobs of Slurm, in a folder of its own."""

    def __init__(self, folder: Path, env: dict[str, str], n_trials: int, *overrides: str) -> None:
        self.folder = folder
        self.env = {**os.environ, **env}
        self.jobs = folder / "multirun"
        command = [str(BIN / "mlip-sweep"), "--multirun", "hydra/sweeper=optuna_async", "hydra/launcher=slurm"]
        command += ["hydra.sweeper.study_name=slurm", f"hydra.sweeper.n_trials={n_trials}", "hydra.sweeper.n_jobs=2"]
        command += ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=3", "hydra.sweep.dir=multirun"]
        command += [*SHORT, "trainer.checkpoint_every=1", "optimizer.lr=tag(log,interval(0.001,0.02))", *overrides]
        self._command = command
        folder.mkdir()

    @contextmanager
    def started(self):
        """The sweep, while it runs."""
        with (self.folder / "sweep.log").open("w") as log:
            process = subprocess.Popen(self._command, cwd=self.folder, env=self.env, stdout=log, stderr=log)
            try:
                yield process
                process.wait()
            finally:
                process.terminate()
                process.wait()

    def trains(self, number: int) -> bool:
        """Whether a trial has left its first checkpoint."""
        return (self.jobs / str(number) / "last.ckpt").is_file()

    def job(self, number: int) -> str:
        """Slurm's id of a trial's job."""
        return str(OmegaConf.load(self.jobs / str(number) / ".hydra" / "hydra.yaml").hydra.job.id)

    def log(self, number: int) -> str:
        """What a trial has said, over all its starts."""
        return (self.jobs / str(number) / "mlip-sweep.log").read_text()

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study."""
        return optuna.load_study(study_name="slurm", storage=f"sqlite:///{self.folder}/optuna.db").trials

    def counted(self, n_trials: int, failed: int) -> Counts:
        """What study and MLflow hold, beside what they should."""
        states = Counter(trial.state for trial in self.trials())
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        parents = [run for run in runs if run.data.tags.get("kind") == "sweep"]
        finished = Counter(
            run.data.tags.get("optuna.trial_number")
            for run in runs
            if run not in parents and run.info.status == "FINISHED"
        )
        return {
            "complete trials": (states[TrialState.COMPLETE], n_trials),
            "failed trials": (states[TrialState.FAIL], failed),
            "trials in another state": (len(self.trials()) - states[TrialState.COMPLETE] - states[TrialState.FAIL], 0),
            "trials with a finished run": (len(finished), n_trials),
            "trials with two": (sum(n > 1 for n in finished.values()), 0),
            "runs left RUNNING": (sum(run.info.status == "RUNNING" for run in runs), 0),
            "runs by state": (dict(Counter(run.info.status for run in runs if run not in parents)), None),
            "parents": (len(parents), 1),
            "parent's state": (parents[0].info.status, "FINISHED"),
        }


def interrupted(folder: Path, env: dict[str, str]) -> tuple[bool, float]:
    """A search of which one job is cancelled and one requeued; also the seconds that an epoch takes."""
    search = Search(folder, env, TRIALS, f"trainer.max_epochs={EPOCHS}")
    begin = time.monotonic()
    with search.started():
        until(lambda: search.trains(0), "a first checkpoint", PATIENCE_S, 0.1)
        quiet(["scancel", search.job(0)], env=search.env)
        until(lambda: search.trains(2), "a first checkpoint", PATIENCE_S, 0.1)
        requeued = search.job(2)
        quiet(["scontrol", "requeue", requeued], env=search.env)
    trials = search.trials()
    retries = [trial for trial in trials if own(trial, RETRY_OF) == 0]
    counts = search.counted(TRIALS, 1) | {
        "reason of the cancelled trial": ((own(trials[0], REASON) or "").partition(":")[0], "killed"),
        "complete retries of it": (sum(trial.state == TrialState.COMPLETE for trial in retries), 1),
        "same parameters": (all(trial.params == trials[0].params for trial in retries), True),
        "state of the requeued trial": (trials[2].state.name, "COMPLETE"),
        "same job": (search.job(2), requeued),
        "it went on from its checkpoint": ("going on from" in search.log(2), True),
    }
    seconds = [(t.datetime_complete - t.datetime_start).total_seconds() for t in trials if t.state.is_finished()]
    title = f"{TRIALS} trials, job 0 cancelled, job 2 requeued: {time.monotonic() - begin:.0f} s"
    return report(title, counts), min(seconds) / EPOCHS


def over_limit(folder: Path, env: dict[str, str], epochs: int) -> bool:
    """A search whose jobs take longer than their time limit."""
    limits = ["hydra.launcher.timeout_min=3", "hydra.launcher.signal_delay_s=60", "hydra.launcher.max_num_timeout=9"]
    search = Search(folder, env, 2, f"trainer.max_epochs={epochs}", *limits)
    begin = time.monotonic()
    with search.started():
        pass
    logs = [search.log(number) for number in range(2)]
    counts = search.counted(2, 0) | {
        "jobs that were told to stop": (sum("this job is timed-out" in log for log in logs), 2),
        "trainings that went on from a checkpoint": (sum("going on from" in log for log in logs), 2),
        "starts of both": (sum(log.count("training on") for log in logs), None),
    }
    return report(f"2 trials over a limit of 3 min: {time.monotonic() - begin:.0f} s", counts)


def main() -> int:
    """Both searches; status 1 where something was lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    chosen = parser.parse_args()
    folder = workplace("slurm")
    with slurm(folder / "cluster") as env:
        good, per_epoch = interrupted(folder / "interrupted", env)
        good = over_limit(folder / "over_limit", env, round(OVER_LIMIT_S / per_epoch)) and good
    if chosen.keep or not good:
        Console().print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
