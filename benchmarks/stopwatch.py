"""Where the time of a run goes: each moment belongs to one phase, and is the model's own work or what stands around.

The parts of a run are timed by wrapping the functions that do them; the run itself is the shipped one.
"""

import functools
import inspect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

MODEL, REST = "model", "rest"


class Stopwatch:
    """Seconds by (phase, MODEL or REST). Phases nest; the inner one has the time.

    Args:
        outermost: the phase of what lies in no other.
        clock: time.perf_counter, or time.thread_time for the processor's time in this thread.
    """

    def __init__(self, outermost: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._clock = clock
        self._stack = [(outermost, REST)]
        self._since = clock()
        self._thread = threading.get_ident()

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """The time inside belongs to a phase."""
        with self._turned((phase, REST)):
            yield

    @contextmanager
    def model(self) -> Iterator[None]:
        """The time inside is the model's, in the phase that is under way."""
        with self._turned((self._stack[-1][0], MODEL)):
            yield

    @contextmanager
    def _turned(self, place: tuple[str, str]) -> Iterator[None]:
        if threading.get_ident() != self._thread:  # what works in the background takes none of the run's time
            yield
            return
        self.note()
        self._stack.append(place)
        try:
            yield
        finally:
            self.note()
            self._stack.pop()

    def note(self) -> None:
        """Add what has passed to the place that is on top."""
        now = self._clock()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now


@contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """Time what a run does inside, in this thread."""
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient
    from pytorch_lightning import Trainer
    from pytorch_lightning.loops import _EvaluationLoop

    from mlip_sweep.measurement.dynamics.calculator_model import CalculatorModel
    from mlip_sweep.models.interface import Potential
    from mlip_sweep.run import measure, train
    from mlip_sweep.tracking.logger import MetricsLogger
    from mlip_sweep.tracking.run import RunRecord
    from mlip_sweep.training.module import TrainingModule

    calls = [name for name, value in vars(MlflowClient).items() if inspect.isfunction(value) and name[0] != "_"]
    phases: dict[str, list[tuple[Any, str]]] = {  # functions that are of one phase whole
        "training": [(train, "fit")],
        "validation": [(_EvaluationLoop, "run")],
        "checkpoints": [(Trainer, "save_checkpoint")],
        "figures": [(Figure, "savefig")],
        "reports": [(RunRecord, "report")],
        "MLflow": [(MetricsLogger, "flush"), *((MlflowClient, name) for name in calls)],
    }
    with ExitStack() as wraps:
        for phase, functions in phases.items():
            for owner, name in functions:
                wraps.enter_context(_timed(owner, name, partial(watch.within, phase)))
        wraps.enter_context(_timed(measure, "timed", lambda name, *_: watch.within(name), told=True))
        wraps.enter_context(patch.object(RunRecord, "phase", _timed_phase(watch, RunRecord.phase)))
        for owner, name in ((TrainingModule, "optimizer_step"), (Potential, "forward"), (CalculatorModel, "__call__")):
            wraps.enter_context(_timed(owner, name, watch.model))
        yield


def _timed_phase(watch: Stopwatch, phase: Callable[..., AbstractContextManager[None]]) -> Callable[..., Any]:
    """A run's own phases, which are contexts and not calls."""

    @contextmanager
    def timed_phase(record: Any, name: str) -> Iterator[None]:
        with watch.within(name), phase(record, name):
            yield

    return timed_phase


@contextmanager
def _timed(
    owner: Any, name: str, place: Callable[..., AbstractContextManager[None]], *, told: bool = False
) -> Iterator[None]:
    """For a while, calls of a function are timed at a place; `told`: which place, its arguments say."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with place(*args, **kwargs) if told else place():
            return function(*args, **kwargs)

    with patch.object(owner, name, timed):
        yield
