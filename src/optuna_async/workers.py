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
from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus, setup_globals
from hydra.errors import CompactHydraException

from optuna_async import jobs
from optuna_async import outcome as outcomes
from optuna_async.config import Program
from optuna_async.outcome import Outcome

log = logging.getLogger(__name__)

ENDS_PROCESS = (outcomes.MEMORY, outcomes.KILLED)  # kinds of failure: a new process has all its memory
BEGUN = "begun"  # what a process says when its imports are done, so that they are no part of a trial's time
GRACE_S = 15.0  # for a trial that is asked to stop, to close its records


class LocalWorkers:
    """Processes that run trials.

    Args:
        n_jobs: Number of processes at once.
        timeout_s: Longest time of one trial, s; None for no limit.
        program: The Hydra program whose jobs are the trials.
    """

    def __init__(self, n_jobs: int, timeout_s: float | None, program: Program) -> None:
        self._timeout_s = timeout_s
        # By value where need be, as Hydra's launchers do: a script's functions live in __main__.
        self._job = cloudpickle.dumps((program, Singleton.get_state()))
        self._slots = [_Slot() for _ in range(n_jobs)]

    @property
    def free(self) -> int:
        """The number of slots without a trial."""
        return sum(slot.number is None for slot in self._slots)

    def start(self, number: int, overrides: list[str]) -> None:
        """Run a trial in a free slot."""
        slot = next(slot for slot in self._slots if slot.number is None)
        slot.begin(number, overrides, self._job)

    def wait(self, timeout_s: float) -> list[tuple[int, Outcome]]:
        """The numbers and outcomes of the trials that have ended, after at most `timeout_s`."""
        busy = [slot for slot in self._slots if slot.number is not None]
        wait([end for slot in busy for end in slot.ends()], timeout_s)
        ended = []
        for slot in busy:
            number = slot.number
            outcome = slot.outcome()
            if outcome is None and self._timeout_s is not None:
                slot.enforce_limit(self._timeout_s)
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
    asked_to_stop: float | None = None  # when, because it took too long
    timeout_s: float = 0.0
    memory_kills: int = field(default_factory=outcomes.memory_kills)

    def begin(self, number: int, overrides: list[str], job: bytes) -> None:
        if self.process is None or not self.process.is_alive():
            self._spawn(job)
        if self.pipe is None:
            raise RuntimeError("a slot without a process")
        try:
            self.pipe.send((number, overrides))
        except OSError:  # it died while idle
            self._spawn(job)
            self.pipe.send((number, overrides))
        self.number, self.started, self.asked_to_stop = number, None, None
        self.memory_kills = outcomes.memory_kills()

    def _spawn(self, job: bytes) -> None:
        self.end(0.0)
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, job), daemon=False)
        self.process.start()
        theirs.close()

    def ends(self) -> list[Any]:
        """What becomes readable when the trial or its process ends."""
        return [self.pipe, self.process.sentinel] if self.process is not None else []

    def outcome(self) -> Outcome | None:
        """What became of the trial; None while it runs."""
        if self.process is None or self.pipe is None:
            return None
        outcome: Outcome | None = None
        alive = self.process.is_alive()  # asked first: what it sent before its end is in the pipe by now
        try:
            while outcome is None and self.pipe.poll():
                message = self.pipe.recv()
                if message == BEGUN:
                    self.started = time.monotonic()
                else:
                    outcome = message
        except (EOFError, OSError):
            alive = False
        if outcome is None and not alive:
            self.process.join(GRACE_S)
            outcome = outcomes.of_exit(self.process.exitcode, memory_killer=outcomes.memory_kills() > self.memory_kills)
            self.end(0.0)
        if outcome is None:
            return None
        if outcomes.kind_of(outcome.reason or "") in ENDS_PROCESS:
            self.end(GRACE_S)
        if self.asked_to_stop is not None and outcome.reason is not None:
            outcome = Outcome(reason=outcomes.reason(outcomes.TIMEOUT, f"longer than {self.timeout_s:g} s"))
        self.number = None
        return outcome

    def enforce_limit(self, timeout_s: float) -> None:
        """Stop a trial that takes too long: by SIGTERM, and some seconds later by SIGKILL."""
        if self.process is None or self.started is None:
            return
        self.timeout_s = timeout_s
        now = time.monotonic()
        if self.asked_to_stop is None and now - self.started > timeout_s:
            self.asked_to_stop = now
            self.process.terminate()
        elif self.asked_to_stop is not None and now - self.asked_to_stop > GRACE_S:
            self.process.kill()

    def stop(self) -> None:
        """Ask the process to end."""
        if self.process is None or self.pipe is None:
            return
        if self.number is not None:
            self.process.terminate()
        self.pipe.close()  # which an idle process takes for its end

    def end(self, patience_s: float) -> None:
        """Wait for the process to end; kill it after `patience_s`."""
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
    end_with_parent()
    try:
        program, state = cloudpickle.loads(job)
        setup_globals()
        Singleton.set_state(state)
        while True:
            number, overrides = pipe.recv()
            pipe.send(BEGUN)
            outcome = _run(number, overrides, program)
            pipe.send(outcome)
            if outcomes.kind_of(outcome.reason or "") in ENDS_PROCESS:
                return
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _run(number: int, overrides: list[str], program: Program) -> Outcome:
    """Run a trial as the job of its number."""
    try:
        done = jobs.run(program, jobs.composed(program, overrides, number))
        error = None if done.status == JobStatus.COMPLETED else done._return_value
    except BaseException as stop:  # a signal, or a config that does not compose
        error = stop
    if error is None:
        return Outcome(values=_plain_numbers(done._return_value))
    outcome = outcomes.of_exception(error)
    if outcomes.kind_of(outcome.reason or "") == outcomes.ERROR:  # goes to the job's own log, too
        log.error("trial %d: %s", number, outcome.reason, exc_info=None if _is_message(error) else error)
    return outcome


def _is_message(error: BaseException) -> bool:
    """Whether an error is a message to the user, which a traceback would only bury."""
    return isinstance(error, (CompactHydraException, SystemExit))


def _plain_numbers(value: Any) -> Any:
    """Numbers of numpy or torch as Python's own, so that the sweeper need not import their library to read them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain_numbers(element) for element in value] if isinstance(value, (list, tuple)) else value


def end_with_parent() -> None:
    """End this process when the sweep's has ended, however that came about; otherwise it would train on for nobody."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
