"""The launcher class that Hydra looks for. Imported at every start of Hydra, so it leaves all else to the launch."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CohortLauncher(Launcher):
    """Trains runs together that share an architecture (`mlip_sweep.training.cohort`).

    Args:
        size: largest number of runs that train together.
        n_jobs: cohorts at once, each in a process of its own.
    """

    def __init__(self, size: int, n_jobs: int) -> None:
        self.size = size
        self.n_jobs = n_jobs
        self.jobs_together = size * n_jobs  # a sweeper that asks is told how many jobs are best launched at once
        self._program: tuple[HydraContext, TaskFunction, DictConfig] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra knows of the program before the launch."""
        self._program = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs, and answer their returns in order."""
        from mlip_sweep.multirun.cohorts import launch
        from optuna_async.config import Program

        if self._program is None:
            raise RuntimeError("launch before setup")
        return launch(
            Program(*self._program), jobs=job_overrides, first=initial_job_idx, size=self.size, n_jobs=self.n_jobs
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_program": None}
