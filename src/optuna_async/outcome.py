"""What became of a trial: its values, or a reason in one line."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from optuna_async.config import without_passwords

# The first word of a reason. The trial's own faults …
ERROR = "error"
NO_VALUE = "no value"
NOT_FINITE = "not finite"
ARITY = "wrong number of values"
MEMORY = "out of memory"
TIMEOUT = "time-out"
# … what came upon it from outside, so that it is tried once more …
KILLED = "killed"
# … and a sweep that ended around it, which is nobody's failure.
INTERRUPTED = "interrupted"

REASON_CHARACTERS = 300


@dataclass(frozen=True)
class Outcome:
    """Values, or the reason why there are none; `pruned` where the trial gave up early on purpose."""

    values: Any = None
    reason: str | None = None
    pruned: bool = False


def kind_of(reason: str) -> str:
    """The first word of a reason, before its colon."""
    return reason.partition(":")[0]


def reason(kind: str, text: str) -> str:
    """One line of text behind the kind of failure."""
    line = without_passwords(" ".join(text.split()))
    return f"{kind}: {line if len(line) <= REASON_CHARACTERS else line[: REASON_CHARACTERS - 1] + '…'}"


def judged(values: Any, n_objectives: int) -> Outcome:
    """What a trial has returned, as Optuna can take it.

    Args:
        values: Whatever the task function returned.
        n_objectives: How many numbers the study wants.
    """
    if values is None:
        return Outcome(reason=reason(NO_VALUE, "the job returned None; its function has to return the objective"))
    several = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    if len(several) != n_objectives:
        return Outcome(reason=reason(ARITY, f"{len(several)} instead of {n_objectives}: {values!r}"))
    numbers = []
    for value in several:
        try:  # a number of numpy or torch, with one element, serves too
            numbers.append(float(value) if isinstance(value, Real) or hasattr(value, "__float__") else math.nan)
        except (TypeError, ValueError):
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            return Outcome(reason=reason(NOT_FINITE, f"returned {values!r}"))
    return Outcome(values=numbers)


def of_exception(error: BaseException) -> Outcome:
    """What an exception of a task function means."""
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    if "TrialPruned" in names:
        return Outcome(pruned=True, reason=str(error) or None)
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, KeyboardInterrupt):
        return Outcome(reason=reason(KILLED, "stopped by SIGINT"))
    if isinstance(error, SystemExit):
        by_signal = isinstance(error.code, int) and error.code > 128
        return Outcome(reason=reason(KILLED, f"signal {int(error.code) - 128}") if by_signal else reason(ERROR, text))  # type: ignore[arg-type]
    if is_debugger(error):
        return Outcome(reason=reason(ERROR, "a debugger needs a terminal: run the job by itself, without --multirun"))
    if "UncompletedJobError" in names:  # submitit raises it within the task, where a job may not be queued again
        return of_launch_error(error)
    if is_out_of_memory(error):
        return Outcome(reason=reason(MEMORY, text))
    return Outcome(reason=reason(ERROR, text))


def of_launch_error(error: BaseException) -> Outcome:
    """What an exception of a launcher, not of the task function, means: a job that has not come back."""
    text = f"{type(error).__name__}: {error}"
    lower = text.partition("-" * 40)[0].lower()  # below such a line submitit quotes the job's log
    if "out_of_me" in lower:  # Slurm's OUT_OF_MEMORY, which its tables cut short
        return Outcome(reason=reason(MEMORY, text))
    if "timed-out" in lower or "timed out" in lower or "state: timeout" in lower:
        return Outcome(reason=reason(TIMEOUT, text))
    if type(error).__name__ in ("UncompletedJobError", "TerminatedWorkerError", "BrokenProcessPool"):
        return Outcome(reason=reason(KILLED, text))
    return Outcome(reason=reason(ERROR, f"the launcher failed: {text}"))


def of_exit(code: int | None, *, memory_killer: bool) -> Outcome:
    """What the end of a worker's process means.

    Args:
        code: The exit status; negative for a signal.
        memory_killer: Whether the kernel has killed a process for its memory meanwhile.
    """
    if code is not None and code < 0:
        if code == -9 and memory_killer:
            return Outcome(reason=reason(MEMORY, "killed by the kernel"))
        return Outcome(reason=reason(KILLED, f"signal {-code}"))
    return Outcome(reason=reason(ERROR, f"the worker's process ended with status {code}; its output says more"))


def memory_kills() -> int:
    """How many processes the kernel has killed for memory since it started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def is_debugger(error: BaseException) -> bool:
    """Whether `breakpoint()` has found no terminal."""
    return type(error).__name__ == "BdbQuit"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out, of the CPU or of a GPU."""
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    # torch raises a plain RuntimeError when memory of the CPU runs out
    messages = ("DefaultCPUAllocator: can't allocate memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return any(words in str(cause) for cause in _causes(error) for words in messages)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that led to it."""
    cause: BaseException | None = error
    for _ in range(20):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__
