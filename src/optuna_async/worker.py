"""What runs in a worker's process: it takes over the program and the script's own objects, then runs trials.

The script that was started is not run again. A script need not guard its `main()` therefore, and what it does at its
top level, such as to lock a file or to take a device, is done once. Its functions and classes come by value instead,
and stand in the worker's `__main__`, so that `pickle` finds them there, too.
"""

import functools
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import ChainMap
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from multiprocessing.connection import Connection, wait
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

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
Cached = type(functools.lru_cache(lambda: None))
BEGUN = "begun"  # what a process says when its imports are done, so that they are no part of a trial's time


@dataclass(frozen=True)
class Job:
    """All that a worker needs to run the trials of a program.

    Attributes:
        argv: `sys.argv` of the sweep.
        file: The script that was started, None where there is none; processes that a trial spawns look for it.
        module: Name of the module that was started by `python -m`, None where it was a script.
        content: The script's own objects by their names, the program and Hydra's state, pickled.
    """

    argv: list[str]
    file: str | None
    module: str | None
    content: bytes


@dataclass(frozen=True)
class StartFailure:
    """Why a worker cannot run any trial."""

    reason: str


class _Pickler(cloudpickle.Pickler):
    """Hands functions of the script over by value, those with a cache before them included."""

    dispatch_table: ClassVar[Any] = ChainMap(
        {Cached: lambda cached: _reduced(cached)}, cloudpickle.Pickler.dispatch_table
    )


def _reduced(cached: Any) -> Any:
    """A function with a cache, as `pickle` is to write it."""
    if cached.__module__ != "__main__":
        return cached.__qualname__  # found where it is imported from
    return functools.lru_cache(**cached.cache_parameters()), (cached.__wrapped__,)


def job_of(program: Program) -> Job:
    """Pack what workers need of a program.

    Raises:
        CompactHydraException: The program uses something that no other process can be given.
    """
    main = sys.modules["__main__"]
    own = {name: value for name, value in vars(main).items() if _is_own(value)}
    rest = program, Singleton.get_state()
    try:
        try:
            content = _dumps((own, *rest))
        except Exception:  # one of them uses a lock, a file or a device, which the job may have no need of
            content = _dumps(({name: value for name, value in own.items() if _can_be_pickled(value)}, *rest))
    except Exception as error:
        line = " ".join(str(error).split())
        raise CompactHydraException(
            f"the job cannot be handed to a worker's process: {type(error).__name__}: {line}; make such an object "
            "within the job, or put the job's function into a module that the script imports"
        ) from None
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    return Job(list(sys.argv), file and str(Path(file).absolute()), getattr(spec, "name", None), content)


def _is_own(value: Any) -> bool:
    """Whether an object of the script is a function or class of its own."""
    kinds = (type, types.FunctionType, Cached)
    return isinstance(value, kinds) and value.__module__ == "__main__"


def _dumps(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


def _can_be_pickled(value: Any) -> bool:
    try:
        _dumps(value)
    except Exception:
        return False
    return True


def main(pipe: int, lifeline: int) -> None:
    """Be a worker.

    Args:
        pipe: File descriptor of the connection on which the job comes, and then the trials.
        lifeline: File descriptor of a pipe whose other end is closed when the sweep's process has ended.
    """
    end_with_parent(Connection(lifeline, writable=False))
    serve(Connection(pipe))


def serve(pipe: Connection) -> None:
    """Run trials, as they come through the pipe, until it is closed."""
    try:
        job: Job = pipe.recv()
        try:
            program = _taken_over(job)
        except (Exception, SystemExit) as error:
            line = " ".join(str(error).split())
            pipe.send(StartFailure(f"{type(error).__name__}: {line}"))
            return
        while True:
            number, overrides = pipe.recv()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a trial closes its records after Ctrl-C
            pipe.send(BEGUN)
            outcome = _run(number, overrides, program)
            pipe.send(outcome)
            if outcomes.kind_of(outcome.reason or "") in ENDS_PROCESS:
                return
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _taken_over(job: Job) -> Program:
    """The program, with the surroundings that it has in the sweep's process."""
    sys.argv[:] = job.argv
    main = sys.modules["__main__"]
    if job.file is not None:
        main.__file__ = job.file
    if job.module is not None:
        main.__spec__ = ModuleSpec(job.module, None)
    own, program, state = cloudpickle.loads(job.content)
    vars(main).update(own)
    setup_globals()
    Singleton.set_state(state)
    return program


def _run(number: int, overrides: list[str], program: Program) -> Outcome:
    """Run a trial as the job of its number."""
    try:
        done = jobs.run(program, jobs.composed(program, overrides, number))
        error = None if done.status == JobStatus.COMPLETED else done._return_value
    except BaseException as stop:  # a signal, or a config that does not compose
        error = stop
    if error is None:
        return Outcome(values=_plain(done._return_value))
    outcome = outcomes.of_exception(error)
    if outcomes.kind_of(outcome.reason or "") == outcomes.ERROR:  # goes to the job's own log, too
        log.error("trial %d: %s", number, outcome.reason, exc_info=None if _is_message(error) else error)
    return outcome


def _is_message(error: BaseException) -> bool:
    """Whether an error is a message to the user, which a traceback would only bury."""
    return isinstance(error, (CompactHydraException, SystemExit)) or outcomes.is_debugger(error)


def _plain(value: Any) -> Any:
    """Numbers of any library as Python's own, and what is none as its text: any process can be sent these."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    if value is None or isinstance(value, (Real, str)):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return repr(value)


def end_with_parent(lifeline: Connection | None = None) -> None:
    """End this process when the sweep's has ended, however that came about; otherwise it would train on for nobody.

    Args:
        lifeline: Becomes readable when the sweep's process has ended; None in a process of multiprocessing, which has
            its own.
    """
    parent = multiprocessing.parent_process()
    ends: Any = lifeline if lifeline is not None else parent and parent.sentinel

    def watch() -> None:
        if ends is not None:
            wait([ends])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
