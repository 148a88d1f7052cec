"""The one line that says how far a sweep is: runs that ended, those at work, and an honest time left.

Knows neither studies nor stores: whoever counts the runs hands over a `SweepState`.
"""

import heapq
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

LINE_EVERY_S: Final = 60.0  # in a log: seconds between two lines, …
LINE_SHARE: Final = 0.1  # … or that much more of the runs


@dataclass(frozen=True)
class SweepState:
    """How far a sweep is.

    Attributes:
        total: Number of runs that this start of the sweep has to do; None where nobody knows.
        ended: Number of those that have ended, however they did, and of those that were found finished.
        failed: How many of them failed.
        pruned: How many of them were given up on purpose.
        finished_s: Wall times of the runs that began and finished since this start, s. A run that was found finished,
            or that went on from a checkpoint, is not among them: it says nothing about the time of a whole run.
        pruned_s: Likewise of the runs that were given up, s.
        at_work_s: For each run at work, how long it has been so, s.
        at_once: Number of runs that can be at work at once.
        best: What is best so far, in words; "" for nothing to say.
    """

    total: int | None = None
    ended: int = 0
    failed: int = 0
    pruned: int = 0
    finished_s: Sequence[float] = ()
    pruned_s: Sequence[float] = ()
    at_work_s: Sequence[float] = ()
    at_once: int = 1
    best: str = ""

    @property
    def at_work(self) -> int:
        """Number of runs at work."""
        return len(self.at_work_s)

    @property
    def words(self) -> str:
        """Everything but the number of ended runs: "2 at work, 1 failed, about 5 min left"."""
        parts = [f"{self.at_work} at work"] if self.at_work else []
        parts += [f"{count} {word}" for count, word in ((self.failed, "failed"), (self.pruned, "pruned")) if count]
        parts += [self.best] if self.best else []
        if self.total is not None and self.ended < self.total:
            left = time_left(self)
            parts.append("– left" if left is None else f"about {duration(left)} left")
        return ", ".join(parts)


def time_left(state: SweepState) -> float | None:
    """Seconds until the last run of a sweep ends; None before the first has finished, since nothing is known then.

    Runs wait for a free place in turn, and each takes as long as the runs that are known did on average. A run at work
    is expected to take as long as those that took longer than it has been at work; where it has outlasted them all, it
    is expected to be late by as much again as it is late already. It counts among the runs that are known, so that a
    sweep whose later runs are slower does not promise them to be as quick as the first.

    Args:
        state: Of the sweep.
    """
    if state.total is None or not state.finished_s:
        return None
    known = [*state.finished_s, *state.pruned_s]
    longest = max(known)

    def expected(elapsed: float) -> float:
        longer = [seconds for seconds in known if seconds > elapsed]
        return fmean(longer) if longer else 2.0 * elapsed - longest

    whole = [expected(elapsed) for elapsed in state.at_work_s]
    remaining = [total - elapsed for total, elapsed in zip(whole, state.at_work_s, strict=True)]
    waiting = max(0, state.total - state.ended - state.at_work)
    places = remaining + [0.0] * max(0, state.at_once - state.at_work)  # when each is free
    heapq.heapify(places)
    mean = fmean([*known, *whole])
    for _ in range(waiting):
        heapq.heappush(places, heapq.heappop(places) + mean)
    return max(places, default=0.0)


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class SweepLine:
    """Shows the state of a sweep, on standard error.

    On a terminal the line is redrawn in place. In a log, and on a terminal that somebody else draws on, it is written
    anew when a tenth of the runs has ended since, or when it has changed and a minute has passed; there are no carriage
    returns.

    Args:
        name: What the line begins with.
        in_place: Whether it may be redrawn, where standard error is a terminal.
    """

    def __init__(self, name: str, *, in_place: bool = True) -> None:
        self._name = name
        self._redrawn = in_place and sys.stderr.isatty()
        self._bar: Any = None
        self._written: tuple[int, ...] = (0, 0, 0, 0)  # what was counted when a line was last written, …
        self._when = time.monotonic()  # … and when that was

    def show(self, state: SweepState) -> None:
        """Bring the line up to date."""
        if self._redrawn:
            self._redraw(state)
        elif self._is_due(state):
            self._written, self._when = _counted(state), time.monotonic()
            ended = f"{state.ended} of {state.total}" if state.total is not None else f"{state.ended}"
            print(
                f"{self._name}: {', '.join(part for part in (f'{ended} runs done', state.words) if part)}",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """Clear a line that was redrawn."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _is_due(self, state: SweepState) -> bool:
        more = state.ended - self._written[0]
        if state.total is not None and more > 0 and (more >= LINE_SHARE * state.total or state.ended == state.total):
            return True
        return _counted(state) != self._written and time.monotonic() - self._when >= LINE_EVERY_S

    def _redraw(self, state: SweepState) -> None:
        counted = "{n_fmt}/{total_fmt} runs {bar}" if state.total is not None else "{n_fmt} runs"
        form = "{desc} " + f"{counted} {state.words}"  # the bar takes what the words leave
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=state.total,
                desc=self._name,
                bar_format=form,
                initial=state.ended,
                dynamic_ncols=True,
                leave=False,
            )
        else:
            self._bar.n, self._bar.bar_format = state.ended, form
            self._bar.refresh()


def _counted(state: SweepState) -> tuple[int, ...]:
    return state.ended, state.at_work, state.failed, state.pruned
