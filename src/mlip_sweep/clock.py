"""How long a run's own work takes, also where several runs share a process and wait for one another."""

import time
from contextvars import ContextVar


class Clock:
    """Seconds of one run among several that take turns.

    Attributes:
        waited: in which others had the turn.
        shared: its share of what was done for several at once while it waited.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.shared = 0.0


_own: ContextVar[Clock | None] = ContextVar("own_clock", default=None)


def set_clock(clock: Clock) -> None:
    """From now on `now` in this context is a run's own time."""
    _own.set(clock)


def now() -> float:
    """Seconds since some moment: of the run's own work, where runs take turns; by the wall clock where it is alone."""
    clock, seconds = _own.get(), time.perf_counter()
    return seconds if clock is None else seconds - clock.waited + clock.shared
