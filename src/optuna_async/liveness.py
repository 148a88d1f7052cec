"""Whether a process is still at work: asked of the system for one of this host, by its signs of life for another's."""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

BEAT_S = 30.0  # between two signs of life of a process
SILENCE_S = 600.0  # after which a process of another host, which cannot be asked, counts as gone
SAME_START_S = 0.1  # start times of one process differ by rounding only

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessIdentity:
    """What no two processes share, since systems use the numbers of processes again.

    Attributes:
        host: Name of the machine.
        pid: Number of the process on it.
        started: When the process started, s since 1970.
    """

    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"{self.host} {self.pid}/{self.started:.2f}"

    @classmethod
    def parse(cls, text: str) -> "ProcessIdentity":
        """Read an identity that was written by `str`.

        Raises:
            ValueError: It is no such text.
        """
        host, _, process = text.rpartition(" ")
        pid, _, started = process.partition("/")
        return cls(host, int(pid), float(started))


def identity(pid: int | None = None) -> ProcessIdentity:
    """The identity of a process of this host; of this process where no number is given."""
    process = psutil.Process(pid)
    return ProcessIdentity(platform.node(), process.pid, process.create_time())


def is_this_process(process: ProcessIdentity) -> bool:
    """Whether an identity is that of the process that asks."""
    return process.host == platform.node() and process.pid == os.getpid() and not has_ended(process)


def has_ended(process: ProcessIdentity, *, if_elsewhere: bool = False) -> bool:
    """Whether a process has ended.

    Args:
        process: Its identity.
        if_elsewhere: The answer for a process of another host, which cannot be asked; such as `is_silent` of its last
            sign of life.
    """
    if process.host != platform.node():
        return if_elsewhere
    try:
        return abs(psutil.Process(process.pid).create_time() - process.started) > SAME_START_S
    except (psutil.NoSuchProcess, ValueError):
        return True


def is_silent(seconds: float) -> bool:
    """Whether a process whose last sign of life is so many seconds old counts as gone."""
    return seconds > SILENCE_S


class Heartbeat:
    """Signs of life of this process for processes of other hosts, at most one every `every_s` seconds.

    A process with a loop of its own calls `beat` in it. One without calls `start`, which beats from a thread until
    `stop`.

    Args:
        sign: Writes one sign of life.
        every_s: Time between two signs, s.
    """

    def __init__(self, sign: Callable[[], None], every_s: float = BEAT_S) -> None:
        self._sign = sign
        self._every_s = every_s
        self._last = -every_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """Write a sign of life where one is due."""
        if time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._sign()

    def start(self) -> None:
        """Write a sign of life every `every_s` seconds from now on."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write no sign any more; none is being written once this returns."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._sign()
            except OSError:  # a network's file system may be away for a moment, and a later sign serves as well
                log.debug("a sign of life could not be written", exc_info=True)
