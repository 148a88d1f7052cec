"""The processes that run trials: what they take over of a script, and what is said where they cannot start."""

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hydra.errors import CompactHydraException
from studies import trials

from optuna_async.config import Program
from optuna_async.trials import REASON, own
from optuna_async.worker import Job, job_of
from optuna_async.workers import LocalWorkers

UNGUARDED = Path(__file__).with_name("unguarded_study.py")
LARGER_THAN_A_PIPE = b" " * 1_000_000


def reason(trial):
    return own(trial, REASON)


def test_a_script_that_cannot_be_imported_again_is_swept_and_its_objects_are_its_own(tmp_path):
    ways = ["plain", "pickle", "pool", "executor", "breakpoint", "object"]
    command = [sys.executable, str(UNGUARDED), "-m", f"how=choice({','.join(ways)})", "hydra/sweeper/sampler=grid"]
    command += ["hydra.sweeper.n_jobs=1", "hydra.sweeper.max_failure_rate=1", "hydra.sweep.dir=multirun/ways"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = {trial.params["how"]: trial for trial in trials(tmp_path, "unguarded")}
    values = {way: trial.value for way, trial in found.items()}
    assert values == {**dict.fromkeys(ways[:4], 4.0), "breakpoint": None, "object": None}, done.stderr
    assert "a debugger needs a terminal: run the job by itself, without --multirun" in reason(found["breakpoint"])
    assert "Traceback" not in done.stderr


def test_what_no_other_process_can_be_given_is_told():
    lock = threading.Lock()
    with pytest.raises(CompactHydraException, match="cannot be handed to a worker's process: TypeError: cannot pickle"):
        job_of(Program(None, lambda cfg: lock.locked(), None))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cno_such_module\nname\n.", "ModuleNotFoundError: No module named 'no_such_module'"),
        (b"csys\nexit\n(S'no licence'\ntR.", "SystemExit: no licence"),
        (b"cos\n_exit\n(I3\ntR.", "it ended with status 3; its output says more"),
        (pickle.dumps(({}, None)), "ValueError: not enough values to unpack"),
    ],
    ids=["import", "exit", "ended", "content"],
)
def test_a_worker_that_cannot_start_is_told_with_the_reason(monkeypatch, content, said):
    job = Job(sys.argv, None, None, content + LARGER_THAN_A_PIPE)
    monkeypatch.setattr("optuna_async.workers.job_of", lambda program: job)
    workers = LocalWorkers(1, None, None)
    workers.start(0, [])
    try:
        with pytest.raises(CompactHydraException, match=f"a worker's process could not start: {said}"):
            while not workers.wait(10.0):
                pass
    finally:
        workers.close()
