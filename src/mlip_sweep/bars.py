"""What one piece of work shows while it lasts: a labelled bar on a terminal, a few plain lines in a log."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Protocol, Self

from mlip_sweep.errors import without_passwords
from optuna_async.progress import duration

# Label, share, a bar that takes what the words leave, counts, time left, and what the work itself has to say.
FORMAT: Final = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {unit}, {remaining} left{postfix}"
LINE_EVERY_S: Final = 60.0  # in a log: seconds between two lines, …
LINE_SHARE: Final = 0.1  # … and so much more of the work

log = logging.getLogger(__name__)

_hidden = ContextVar("hidden", default=False)  # while `no_bars`


class Bar(Protocol):
    """What shows how far a piece of work is; a context manager that ends with it."""

    def update(self, n: int = 1) -> object:
        """So much more is done."""

    def say(self, words: str) -> None:
        """What the work says of itself, beside how far it is."""

    def close(self) -> None:
        """The work has ended."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def bar(total: int, label: str, unit: str, *, shown: bool = True, done: int = 0) -> Bar:
    """Show how far a piece of work is.

    On a terminal a bar is drawn, and cleared in the end. In a log there is a line after each tenth of the work, at most
    one a minute, so that short work leaves none; there are no carriage returns.

    Args:
        total: Number of steps.
        label: What is done.
        unit: What a step is, in the plural.
        shown: Whether anything is shown at all.
        done: Number of steps that were done before.
    """
    if not shown or _hidden.get():
        return _Lines(total, label, unit, done, silent=True)
    if not sys.stderr.isatty():
        return _Lines(total, label, unit, done)
    return _Drawn(total, label, unit, done)


@contextmanager
def no_bars() -> Iterator[None]:
    """Show nothing of this thread's work meanwhile: of a job that shares its terminal with others, or with a sweep."""
    before = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(before)


class TerminalHandler(logging.StreamHandler):
    """Writes messages to a terminal on which lines are redrawn, by this process or by another.

    The line that the cursor is on is emptied first; whoever redraws it draws it again below the message. To anything
    but a terminal it writes as its base class does.
    """

    def format(self, record: logging.LogRecord) -> str:
        """A message, with its traceback if any, without the passwords of URLs."""
        return without_passwords(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        if self.stream.isatty() and os.environ.get("TERM") != "dumb":
            self.stream.write("\r\x1b[K")
        super().emit(record)


class _Lines:
    """Plain lines in a log."""

    def __init__(self, total: int, label: str, unit: str, done: int, *, silent: bool = False) -> None:
        self._total, self._label, self._unit = total, label, unit
        self._first = self._done = self._written = done
        self._began = self._when = time.monotonic()
        self._words = ""
        self._silent = silent

    def update(self, n: int = 1) -> None:
        self._done += n
        if self._silent or self._done - self._written < LINE_SHARE * self._total:
            return
        now = time.monotonic()
        if now - self._when < LINE_EVERY_S:
            return
        self._written, self._when = self._done, now
        left = (now - self._began) / (self._done - self._first) * (self._total - self._done)
        counted = f"{self._done} of {self._total} {self._unit}"
        log.info("%s: %s, about %s left%s", self._label, counted, duration(left), self._words)

    def say(self, words: str) -> None:
        self._words = f", {words}"

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Drawn(_Lines):
    """A bar on a terminal."""

    def __init__(self, total: int, label: str, unit: str, done: int) -> None:
        super().__init__(total, label, unit, done, silent=True)
        from tqdm import tqdm

        self._bar: Any = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=unit,
            bar_format=FORMAT,
            dynamic_ncols=True,
            leave=False,
        )

    def update(self, n: int = 1) -> None:
        self._bar.update(n)

    def say(self, words: str) -> None:
        self._bar.set_postfix_str(words, refresh=False)

    def close(self) -> None:
        self._bar.close()
