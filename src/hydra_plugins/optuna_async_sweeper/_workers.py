"""Trials on this machine: one process for each slot, kept from trial to trial, so that it imports once.

A process that is killed costs the trial that it was at; the slot gets a new one.
"""

import logging
import multiprocessing
import os
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import cloudpickle
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from hydra_plugins.optuna_async_sweeper import _outcome as outcomes
from hydra_plugins.optuna_async_sweeper._outcome import Outcome

log = logging.getLogger(__name__)

LAST = (outcomes.MEMORY, outcomes.KILLED)  # after which a process ends: a new one has all its memory
BEGUN = "begun"  # what a process says when its imports are done, so that they are no part of a trial's time
GRACE_S = 15.0  # for a trial that is told to stop, to close its records


class LocalWorkers:
    """Processes that run trials.

    Args:
        n_jobs: processes at once.
        timeout_s: longest time of one trial; None for no limit.
        hydra_context: of the sweep.
        task_function: what a trial runs.
        config: of the sweep.
    """

    def __init__(
        self,
        n_jobs: int,
        timeout_s: float | None,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> None:
        self._timeout_s = timeout_s
        # By value where need be, as Hydra's launchers do: a script's functions live in __main__.
        self._job = cloudpickle.dumps((hydra_context, config, task_function, Singleton.get_state()))
        self._slots = [_Slot() for _ in range(n_jobs)]

    @property
    def free(self) -> int:
        """Slots without a trial."""
        return sum(slot.number is None for slot in self._slots)

    def start(self, number: int, overrides: list[str]) -> None:
        """Run a trial in a free slot."""
        slot = next(slot for slot in self._slots if slot.number is None)
        slot.give(number, overrides, self._job)

    def wait(self, timeout_s: float) -> list[tuple[int, Outcome]]:
        """The trials that have ended, after at most `timeout_s`."""
        busy = [slot for slot in self._slots if slot.number is not None]
        wait([end for slot in busy for end in slot.ends()], timeout_s)
        ended = []
        for slot in busy:
            number = slot.number
            outcome = slot.take()
            if outcome is None and self._timeout_s is not None:
                slot.limit(self._timeout_s)
            if outcome is not None and number is not None:
                ended.append((number, outcome))
        return ended

    def close(self) -> None:
        """End all processes; those at a trial may close its records first."""
        for slot in self._slots:
            slot.stop()
        deadline = time.monotonic() + GRACE_S
        for slot in self._slots:
            slot.end(max(0.0, deadline - time.monotonic()))


@dataclass
class _Slot:
    """One process, and the trial that it is at."""

    process: SpawnProcess | None = None
    pipe: Connection | None = None
    number: int | None = None
    started: float | None = None  # when the process has begun with the trial
    told_to_stop: float | None = None  # when, for taking too long
    timeout_s: float = 0.0
    memory_kills: int = field(default_factory=outcomes.memory_kills)

    def give(self, number: int, overrides: list[str], job: bytes) -> None:
        if self.process is None or not self.process.is_alive():
            self._spawn(job)
        if self.pipe is None:
            raise RuntimeError("a slot without a process")
        try:
            self.pipe.send((number, overrides))
        except OSError:  # it died while idle
            self._spawn(job)
            self.pipe.send((number, overrides))
        self.number, self.started, self.told_to_stop = number, None, None
        self.memory_kills = outcomes.memory_kills()

    def _spawn(self, job: bytes) -> None:
        self.end(0.0)
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, job), daemon=False)
        self.process.start()
        theirs.close()

    def ends(self) -> list[Any]:
        return [self.pipe, self.process.sentinel] if self.process is not None else []

    def take(self) -> Outcome | None:
        """What became of the trial; None while it runs."""
        if self.process is None or self.pipe is None:
            return None
        outcome: Outcome | None = None
        alive = self.process.is_alive()  # asked first: what it sent before its end is in the pipe by now
        try:
            while outcome is None and self.pipe.poll():
                said = self.pipe.recv()
                if said == BEGUN:
                    self.started = time.monotonic()
                else:
                    outcome = said
        except (EOFError, OSError):
            alive = False
        if outcome is None and not alive:
            self.process.join(GRACE_S)
            outcome = outcomes.of_exit(self.process.exitcode, memory_killer=outcomes.memory_kills() > self.memory_kills)
            self.end(0.0)
        if outcome is None:
            return None
        if outcomes.kind_of(outcome.reason or "") in LAST:
            self.end(GRACE_S)
        if self.told_to_stop is not None and outcome.reason is not None:
            outcome = Outcome(reason=outcomes.reason(outcomes.TIMEOUT, f"longer than {self.timeout_s:g} s"))
        self.number = None
        return outcome

    def limit(self, timeout_s: float) -> None:
        """Stop a trial that takes too long: politely first."""
        if self.process is None or self.started is None:
            return
        self.timeout_s = timeout_s
        now = time.monotonic()
        if self.told_to_stop is None and now - self.started > timeout_s:
            self.told_to_stop = now
            self.process.terminate()
        elif self.told_to_stop is not None and now - self.told_to_stop > GRACE_S:
            self.process.kill()

    def stop(self) -> None:
        if self.process is None or self.pipe is None:
            return
        if self.number is not None:
            self.process.terminate()
        self.pipe.close()  # which an idle process takes for its end

    def end(self, patience_s: float) -> None:
        if self.process is not None:
            self.process.join(patience_s)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        if self.pipe is not None:
            self.pipe.close()
        self.process = self.pipe = None


def serve(pipe: Connection, job: bytes) -> None:
    """Run trials, as they come through the pipe, until it is closed."""
    _end_with_parent()
    try:
        hydra_context, config, task_function, state = cloudpickle.loads(job)
        setup_globals()
        Singleton.set_state(state)
        while True:
            number, overrides = pipe.recv()
            pipe.send(BEGUN)
            outcome = _run(number, overrides, hydra_context, config, task_function)
            pipe.send(outcome)
            if outcomes.kind_of(outcome.reason or "") in LAST:
                return
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _run(
    number: int, overrides: list[str], context: HydraContext, config: DictConfig, task_function: TaskFunction
) -> Outcome:
    try:
        job = context.config_loader.load_sweep_config(config, overrides)
        with open_dict(job):
            job.hydra.job.id = f"{job.hydra.job.name}_{number}"
            job.hydra.job.num = number
        HydraConfig.instance().set_config(job)
        done = run_job(
            hydra_context=context,
            task_function=task_function,
            config=job,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        error = None if done.status == JobStatus.COMPLETED else done._return_value
    except BaseException as stop:  # a signal, or a config that does not compose
        error = stop
    if error is None:
        return Outcome(values=_plain(done._return_value))
    outcome = outcomes.of_exception(error)
    if outcomes.kind_of(outcome.reason or "") == outcomes.ERROR:  # goes to the job's own log, too
        log.error("trial %d: %s", number, outcome.reason, exc_info=None if _told(error) else error)
    return outcome


def _told(error: BaseException) -> bool:
    """Whether an error is a message to the user, which a traceback would only bury."""
    return isinstance(error, (CompactHydraException, SystemExit))


def _plain(value: Any) -> Any:
    """Numbers of numpy or torch as Python's own, so that the sweeper need not import their library to read them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _end_with_parent() -> None:
    """End this process when the sweep's has ended, however that came about; else it would train on for nobody."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
