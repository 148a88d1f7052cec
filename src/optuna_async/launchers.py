"""Trials through a launcher of Hydra: a launch for each, or for several where the launcher does them better at once.

A launcher that starts jobs elsewhere, such as submitit for Slurm, is given them one by one. One with an attribute
`jobs_together` is given so many at once.
"""

import queue
import threading
from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from optuna_async import outcome as outcomes
from optuna_async.outcome import Outcome


class LauncherThreads:
    """Launches that wait for their jobs, each in a thread of its own; Optuna is not touched there.

    Args:
        n_jobs: Number of trials at once.
        launcher: A launcher that is set up for the sweep.
    """

    def __init__(self, n_jobs: int, launcher: Launcher) -> None:
        self._n_jobs = n_jobs
        self._launcher = launcher
        self._at_once = int(getattr(launcher, "jobs_together", 1))
        self._running = 0
        self._waiting: list[tuple[int, list[str]]] = []  # to be launched
        self._ended: queue.Queue[tuple[int, Outcome]] = queue.Queue()

    @property
    def free(self) -> int:
        """The number of slots without a trial. Trials that run together end together, before others begin."""
        if self._at_once > 1 and self._running:
            return 0
        return self._n_jobs - self._running - len(self._waiting)

    def start(self, number: int, overrides: list[str]) -> None:
        """Launch a trial as the job of its number, soon."""
        self._waiting.append((number, overrides))

    def _launch_waiting(self) -> None:
        """Launch what waits: together where numbers follow one another, since a launch counts on from its first."""
        launches: list[list[tuple[int, list[str]]]] = []
        for number, overrides in self._waiting:
            last = launches[-1] if launches else []
            if last and number == last[-1][0] + 1 and len(last) < self._at_once:
                last.append((number, overrides))
            else:
                launches.append([(number, overrides)])
        self._running += len(self._waiting)
        self._waiting = []
        groups = [launches] if self._at_once > 1 else [[launch] for launch in launches]
        for group in groups:
            # A daemon, for the sweep must be able to end while a job waits in a queue.
            threading.Thread(target=self._launch, args=(group,), daemon=True).start()

    def _launch(self, launches: Sequence[Sequence[tuple[int, list[str]]]]) -> None:
        """Launch one after another, and hand on what becomes of each trial."""
        for trials in launches:
            numbers = [number for number, _ in trials]
            try:
                jobs = self._launcher.launch([overrides for _, overrides in trials], initial_job_idx=numbers[0])
                ended = [_outcome(job) for job in jobs]
            except BaseException as error:
                ended = [outcomes.of_launch_error(error)] * len(numbers)
            for number, outcome in zip(numbers, ended, strict=True):
                self._ended.put((number, outcome))

    def wait(self, timeout_s: float) -> list[tuple[int, Outcome]]:
        """The numbers and outcomes of the trials that have ended, after at most `timeout_s`."""
        self._launch_waiting()
        try:
            ended = [self._ended.get(timeout=timeout_s)]
            while not self._ended.empty():
                ended.append(self._ended.get())
        except queue.Empty:
            return []
        self._running -= len(ended)
        return ended

    def close(self) -> None:
        """Do nothing: jobs that still wait or run belong to their queue."""


def _outcome(job: JobReturn) -> Outcome:
    """What became of a job."""
    if job.status == JobStatus.COMPLETED:
        return Outcome(values=job._return_value)
    return outcomes.of_exception(job._return_value)
