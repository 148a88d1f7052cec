"""Trials through a launcher of Hydra that starts processes elsewhere, such as submitit for Slurm: a launch for each."""

import queue
import threading

from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher

from optuna_async import outcome as outcomes
from optuna_async.outcome import Outcome


class LauncherThreads:
    """Launches that wait for their jobs, each in a thread of its own; Optuna is not touched there.

    Args:
        n_jobs: Number of launches at once.
        launcher: A launcher that is set up for the sweep.
    """

    def __init__(self, n_jobs: int, launcher: Launcher) -> None:
        self.free = n_jobs
        self._launcher = launcher
        self._ended: queue.Queue[tuple[int, Outcome]] = queue.Queue()

    def start(self, number: int, overrides: list[str]) -> None:
        """Launch a trial as the job of its number."""
        self.free -= 1
        # A daemon, for the sweep must be able to end while a job waits in a queue.
        threading.Thread(target=self._launch, args=(number, overrides), daemon=True).start()

    def _launch(self, number: int, overrides: list[str]) -> None:
        try:
            (done,) = self._launcher.launch([overrides], initial_job_idx=number)
            if done.status == JobStatus.COMPLETED:
                outcome = Outcome(values=done._return_value)
            else:
                outcome = outcomes.of_exception(done._return_value)
        except BaseException as error:
            outcome = outcomes.of_launch_error(error)
        self._ended.put((number, outcome))

    def wait(self, timeout_s: float) -> list[tuple[int, Outcome]]:
        """The numbers and outcomes of the trials that have ended, after at most `timeout_s`."""
        try:
            ended = [self._ended.get(timeout=timeout_s)]
            while not self._ended.empty():
                ended.append(self._ended.get())
        except queue.Empty:
            return []
        self.free += len(ended)
        return ended

    def close(self) -> None:
        """Do nothing: jobs that still wait or run belong to their queue."""
