"""The plugin that Hydra finds; the work is done in `_core`, which is imported once a sweep starts."""

from collections.abc import Mapping
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.optuna_async_sweeper import config as _config  # noqa: F401  registers the config


class OptunaAsyncSweeper(Sweeper):
    """Searches with Optuna, several trials at once; a slot is refilled as soon as it is free.

    Args:
        sampler: config of an Optuna sampler.
        pruner: config of an Optuna pruner.
        direction: "minimize", "maximize", or a list of them.
        storage: where the study is kept; see `_storage.open_storage`.
        study_name: of the study in the storage.
        n_trials: total number of trials of the study, those of earlier starts included.
        n_jobs: trials at once.
        max_failure_rate: share of n_trials that may fail before the study stops.
        timeout_s: longest time of one trial, seconds; None for no limit.
        params: search space, parameter to a sweep in Hydra's override language, or a fixed value.
        custom_search_space: dotted name of a function (config, trial) that suggests more parameters.
    """

    hydra_context: HydraContext  # these three are set before the sweep
    task_function: TaskFunction
    config: DictConfig

    def __init__(
        self,
        sampler: DictConfig,
        pruner: DictConfig,
        direction: Any,
        storage: Any,
        study_name: str | None,
        n_trials: int,
        n_jobs: int,
        max_failure_rate: float,
        timeout_s: float | None,
        params: Mapping[str, Any],
        custom_search_space: str | None,
    ) -> None:
        self.sampler = sampler
        self.pruner = pruner
        self.direction = direction
        self.storage = storage
        self.study_name = study_name
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.max_failure_rate = max_failure_rate
        self.timeout_s = timeout_s
        self.params = params
        self.custom_search_space = custom_search_space

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives before the sweep."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        """Run the study up to its total of trials.

        Args:
            arguments: overrides of the command line.

        Raises:
            CompactHydraException: the settings do not serve, too many trials failed, or none was completed; Hydra shows
                it as a line.
        """
        from hydra_plugins.optuna_async_sweeper._core import sweep

        sweep(self, arguments)
