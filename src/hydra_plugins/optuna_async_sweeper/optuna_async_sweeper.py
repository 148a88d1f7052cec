"""The sweeper class that Hydra looks for. Imported at every start of Hydra, so it leaves Optuna to the sweep itself."""

import sys
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from optuna_async.config import Program, SweepSettings, register

register()


class OptunaAsyncSweeper(Sweeper):
    """Searches with Optuna, several trials at once; a slot gets its next trial as soon as it is free.

    Args:
        **settings: The keys of `hydra.sweeper`, which `SweepSettings` explains.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = SweepSettings(**settings)
        self._program: Program | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra knows of the program before the sweep."""
        self._program = Program(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Run the study up to its total of trials.

        Args:
            arguments: The overrides of the command line.

        Raises:
            CompactHydraException: The settings are unusable, too many trials failed, or every trial failed; Hydra shows
                it as one line.
            SystemExit: Ctrl-C; status 130.
        """
        if self._program is None:
            raise RuntimeError("Hydra calls setup() before sweep()")
        try:
            from optuna_async.sweeper import sweep

            sweep(self._settings, self._program, arguments)
        except KeyboardInterrupt as interrupt:
            sys.last_value = interrupt  # as for one that nobody catches: what runs at the end of Python looks there
            name = self._settings.study_name or self._program.config.hydra.job.name
            kept = self._settings.storage is not None
            after = "the same command goes on" if kept else "nothing is kept with hydra.sweeper.storage=null"
            print(f"study {name!r} was interrupted; {after}", file=sys.stderr)
            raise SystemExit(130) from None
