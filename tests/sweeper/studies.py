"""What is left of a sweep of the toy study, for tests to look at."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna
import toy_study
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from optuna_async.trials import REASON, own

DEADLINE_S = 120.0  # for what surely comes


@dataclass
class Study:
    """A sweep that has ended, by its storage, its folder and what it said."""

    root: Path
    name: str
    code: int
    out: str
    err: str

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        return trials(self.root, self.name)

    @property
    def folder(self) -> Path:
        return self.root / "multirun" / self.name

    @property
    def results(self) -> dict:
        return OmegaConf.to_container(OmegaConf.load(self.folder / "optimization_results.yaml"))

    @property
    def states(self) -> list[str]:
        return [trial.state.name for trial in self.trials]

    @property
    def reasons(self) -> list[str]:
        return [(own(trial, REASON) or "").partition(":")[0] for trial in self.trials]

    def launches(self) -> dict[int, int]:
        """How often each trial was started, by its number."""
        return {int(file.parent.name): len(file.read_text().split()) for file in self.folder.glob("*/launches")}


def trials(root: Path, name: str = "toy") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{root}/optuna.db").trials


def start(root: Path, *overrides: str) -> subprocess.Popen:
    """A sweep in a process of its own."""
    command = [sys.executable, toy_study.__file__, "-m", *overrides]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def complete(found: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in found if trial.state == TrialState.COMPLETE]
