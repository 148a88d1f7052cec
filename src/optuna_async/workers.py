"""Trials on this machine: one process for each slot, kept from trial to trial, so that it imports once.

A process that is killed costs the trial that it was at; the slot gets a new one. `worker` is what runs in it.
"""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from hydra.errors import CompactHydraException

from optuna_async import outcome as outcomes
from optuna_async.config import Program
from optuna_async.outcome import Outcome
from optuna_async.worker import BEGUN, ENDS_PROCESS, Job, StartFailure, job_of

GRACE_S = 15.0  # for a trial that is asked to stop, to close its records

# Ctrl-C reaches the whole process group: until a worker is at a trial, it leaves its end to the sweep's process.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = {path!r}
from optuna_async.worker import main
main({pipe}, {lifeline})
"""


class LocalWorkers:
    """Processes that run trials.

    Args:
        n_jobs: Number of processes at once.
        timeout_s: Longest time of one trial, s; None for no limit.
        program: The Hydra program whose jobs are the trials.

    Raises:
        CompactHydraException: The program cannot be handed to another process.
    """

    def __init__(self, n_jobs: int, timeout_s: float | None, program: Program) -> None:
        self._timeout_s = timeout_s
        self._job = job_of(program)
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
        """The numbers and outcomes of the trials that have ended, after at most `timeout_s`.

        Raises:
            CompactHydraException: A worker could not start, so that no other will.
        """
        busy = [slot for slot in self._slots if slot.number is not None]
        wait([slot.pipe for slot in busy if slot.pipe is not None], timeout_s)
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

    process: subprocess.Popen[bytes] | None = None
    pipe: Connection | None = None
    lifeline: Connection | None = None  # nothing is said on it; it closes when this process has ended
    number: int | None = None
    started: float | None = None  # when the process has begun with the trial
    asked_to_stop: float | None = None  # when, because it took too long
    timeout_s: float = 0.0
    memory_kills: int = field(default_factory=outcomes.memory_kills)

    def begin(self, number: int, overrides: list[str], job: Job) -> None:
        if self.process is None or self.process.poll() is not None:
            self._spawn(job)
        if not self._sent((number, overrides)):  # it died while idle
            self._spawn(job)
            self._sent((number, overrides))
        self.number, self.started, self.asked_to_stop = number, None, None
        self.memory_kills = outcomes.memory_kills()

    def _spawn(self, job: Job) -> None:
        self.end(0.0)
        self.pipe, theirs = Pipe()
        last, self.lifeline = Pipe(duplex=False)
        start = START.format(path=[path or "." for path in sys.path], pipe=theirs.fileno(), lifeline=last.fileno())
        self.process = subprocess.Popen(
            [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", start],  # type: ignore[attr-defined]
            stdin=subprocess.DEVNULL,  # the terminal belongs to the sweep
            pass_fds=[theirs.fileno(), last.fileno()],
        )
        theirs.close()
        last.close()
        self._sent(job)

    def _sent(self, message: Any) -> bool:
        """Whether a message went out; where the process has ended, `outcome` sees that, too."""
        try:
            if self.pipe is not None:
                self.pipe.send(message)
        except OSError:
            return False
        return self.pipe is not None

    def outcome(self) -> Outcome | None:
        """What became of the trial; None while it runs.

        Raises:
            CompactHydraException: The process could not start.
        """
        if self.process is None or self.pipe is None:
            return None
        outcome: Outcome | None = None
        alive = self.process.poll() is None  # asked first: what it sent before its end is in the pipe by now
        try:
            while outcome is None and self.pipe.poll():
                message = self.pipe.recv()
                if message == BEGUN:
                    self.started = time.monotonic()
                elif isinstance(message, StartFailure):
                    raise CompactHydraException(f"a worker's process could not start: {message.reason}")
                else:
                    outcome = message
        except (EOFError, OSError):
            alive = False
        if outcome is None and not alive:
            code = self._joined(GRACE_S)
            if self.started is None and code is not None and code >= 0:
                raise CompactHydraException(
                    f"a worker's process could not start: it ended with status {code}; its output says more"
                )
            outcome = outcomes.of_exit(code, memory_killer=outcomes.memory_kills() > self.memory_kills)
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
        if self.process is not None and self._joined(patience_s) is None:
            self.process.kill()
            self.process.wait()
        for end in (self.pipe, self.lifeline):
            if end is not None:
                end.close()
        self.process = self.pipe = self.lifeline = None

    def _joined(self, patience_s: float) -> int | None:
        """The exit status of the process, negative for a signal; None where it has not ended after `patience_s`."""
        if self.process is None:
            return None
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return None
