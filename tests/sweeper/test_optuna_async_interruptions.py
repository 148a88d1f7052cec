"""Sweeps that are killed, and sweeps that share a study; in processes of their own."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from studies import Study, complete, start, trials, until

from optuna_async.study import repeated_numbers
from optuna_async.trials import OWNER, RETRY_OF, own

X = "x=interval(0,1)"

pytestmark = pytest.mark.slow


def ended(root: Path, *overrides: str) -> Study:
    process = start(root, *overrides)
    out, _ = process.communicate(timeout=120)
    return Study(root, "toy", process.returncode, out, out)


def gone(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_that_is_stopped_goes_on_and_its_trials_are_tried_again_once(tmp_path, number):
    command = [X, "kind=hangs_once", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=3"]
    first = start(tmp_path, *command)
    until(lambda: len(list(tmp_path.glob("multirun/toy/*/hanging"))) == 2)
    workers = [int(file.read_text()) for file in tmp_path.glob("multirun/toy/*/launches")]
    first.send_signal(number)
    out, _ = first.communicate()
    if number == signal.SIGINT:
        assert first.returncode == 130
        assert "study 'toy' was interrupted; the same command goes on" in out
        assert "Traceback" not in out
    until(lambda: all(map(gone, workers)))  # nobody trains on
    (tmp_path / "multirun" / "toy" / "go").touch()

    second = ended(tmp_path, *command)
    assert second.code == 0, second.out
    lost, done = second.trials[:2], second.trials[2:]
    assert [trial.state.name for trial in lost] == ["FAIL", "FAIL"]
    assert second.reasons[:2] == ["interrupted", "interrupted"]
    assert len(complete(done)) == len(done) == 3
    assert [own(trial, RETRY_OF) for trial in done] == [0, 1, None]
    assert [trial.params for trial in done[:2]] == [trial.params for trial in lost]
    assert second.launches() == dict.fromkeys(range(5), 1)

    third = ended(tmp_path, *command)  # nothing is lined up twice
    assert len(third.trials) == 5


def test_a_worker_that_is_killed_costs_its_trial_and_the_slot_goes_on(tmp_path):
    sweep = start(tmp_path, X, "kind=hangs_once", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=4")
    until(lambda: len(list(tmp_path.glob("multirun/toy/*/hanging"))) == 2)
    (tmp_path / "multirun" / "toy" / "go").touch()
    for number in (0, 1):
        os.kill(int((tmp_path / f"multirun/toy/{number}/launches").read_text()), signal.SIGKILL)
    out, _ = sweep.communicate(timeout=120)
    study = Study(tmp_path, "toy", sweep.returncode, out, out)
    assert study.code == 0, out
    assert study.reasons[:2] == ["killed", "killed"]
    assert len(complete(study.trials)) == 4
    assert repeated_numbers(study.trials) == {0, 1}


@pytest.mark.parametrize("storage", ["sqlite:///optuna.db", "study.log"])
def test_two_sweeps_share_a_study(tmp_path, storage):
    command = [X, f"hydra.sweeper.storage={storage}", "hydra.sweeper.sampler.seed=0", "hydra.sweeper.n_trials=12"]
    sweeps = [start(tmp_path, *command) for _ in range(2)]
    outputs = [sweep.communicate(timeout=120)[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    launches = Study(tmp_path, "toy", 0, "", "").launches()
    assert launches == dict.fromkeys(range(12), 1)  # neither too many, nor one twice
    if storage.startswith("sqlite"):
        found = trials(tmp_path)
        assert len({trial.params["x"] for trial in complete(found)}) == 12
        owners = Counter(own(trial, OWNER) for trial in found)
        assert sum(owners.values()) == 12


def test_jobs_of_a_launcher_are_launched_one_by_one_and_a_killed_one_is_tried_again(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    command = [X, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "hydra.sweeper.n_jobs=2"]
    sweep = start(tmp_path, *command, "kind=hangs_once", "hydra.sweeper.n_trials=3")
    until(lambda: len(list(tmp_path.glob("multirun/toy/*/hanging"))) == 2)
    (tmp_path / "multirun" / "toy" / "go").touch()
    for number in (0, 1):
        os.kill(int((tmp_path / f"multirun/toy/{number}/launches").read_text()), signal.SIGKILL)
    out, _ = sweep.communicate(timeout=200)
    study = Study(tmp_path, "toy", sweep.returncode, out, out)
    assert study.code == 0, out
    assert study.reasons[:2] == ["killed", "killed"], out
    assert len(complete(study.trials)) == 3
    assert study.launches() == dict.fromkeys(range(5), 1)
