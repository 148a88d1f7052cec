"""How far a multirun is, counted in the store, whatever launcher starts its runs and wherever they work.

A search by `optuna_async` counts its trials itself, and shows the same line: it knows of those that wait.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from math import prod
from types import MappingProxyType
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from mlip_sweep.composition import normalised_value
from mlip_sweep.errors import InputError
from mlip_sweep.multirun.names import parsed
from mlip_sweep.tracking import environment, read
from optuna_async.config import TARGET
from optuna_async.progress import SweepLine, SweepState

SECONDS = 3.0  # between two looks at the store, …
IDLE = 50  # … or so many times as long as a look takes
MOST_RUNS = 100_000  # of a grid


def grid_size(config: Any) -> int | None:
    """Number of runs of a multirun, from its config; None for a sweeper that does not say how many it will start."""
    sweeper = config.hydra.sweeper
    if _is_grid(sweeper):
        return combinations(_overrides(config))
    n_trials = sweeper.get("n_trials")
    return n_trials if isinstance(n_trials, int) else None


def combinations(overrides: Sequence[str]) -> int:
    """How many combinations overrides such as `model=nequip,mace` make; of one key the last counts.

    Raises:
        InputError: more than anybody would run, which Hydra would list before the first begins.
    """
    swept = _swept(overrides)
    runs = prod(sum(1 for _ in islice(override.sweep_iterator(), MOST_RUNS + 1)) for override in swept)
    if runs > MOST_RUNS:
        keys = ", ".join(override.get_key_element() for override in swept)
        raise InputError(
            f"--multirun over {keys}: more than {MOST_RUNS:,} runs; give fewer values, or search by "
            "hydra/sweeper=optuna_async"
        )
    return runs


def grid_values(config: Any) -> dict[str, frozenset[str]]:
    """What each key of a grid varies over, as `normalised_value` writes it; nothing of a sweeper that is no grid."""
    if not _is_grid(config.hydra.sweeper):
        return {}
    return {
        str(override.key_or_group): frozenset(normalised_value(str(value)) for value in override.sweep_iterator())
        for override in _swept(_overrides(config))
    }


def _is_grid(sweeper: Any) -> bool:
    return str(sweeper.get("_target_", "")).endswith(".BasicSweeper")


def _overrides(config: Any) -> list[str]:
    """Those of a sweep's file, and after them what was typed."""
    return [
        *(f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()),
        *config.hydra.overrides.task,
    ]


def _swept(overrides: Sequence[str]) -> list[Override]:
    """Those that vary; of one key the last counts."""
    last = {override.key_or_group: override for override in parsed(overrides)}
    return [override for override in last.values() if override.is_sweep_override()]


def is_search(hydra_cfg: Any) -> bool:
    """Whether `optuna_async` sweeps."""
    return hydra_cfg.sweeper.get("_target_") == TARGET


def runs_here(hydra_cfg: Any) -> bool:
    """Whether one job of a multirun at a time has the terminal: the only one, or the first of a cohort."""
    return str(hydra_cfg.launcher._target_).endswith((".BasicLauncher", ".CohortLauncher")) and not is_search(hydra_cfg)


def shares_terminal(hydra_cfg: Any) -> bool:
    """Whether a job may have to share its terminal with others, and with the line of their multirun.

    Args:
        hydra_cfg: `HydraConfig.get()`.
    """
    return hydra_cfg.mode == RunMode.MULTIRUN and not runs_here(hydra_cfg)


class SweepProgress:
    """Shows how far a multirun is, until it is closed.

    Args:
        place: URI of the store, name of the experiment, and id of the parent run.
        total: Number of runs.
        grid: The values of each key that varies, as `grid_values` gives them.
        between_runs: Whether the runs draw bars of their own on this terminal: the line is then written only when
            `a_run_has_ended` is called, in a line of its own; otherwise a thread looks after it.
        takes_finished: Whether runs that finished before this start are taken, instead of being done again.
    """

    def __init__(
        self,
        place: tuple[str, str, str],
        total: int | None,
        *,
        grid: Mapping[str, frozenset[str]] = MappingProxyType({}),
        between_runs: bool = False,
        takes_finished: bool = True,
    ) -> None:
        self._counter = RunCounter(total, grid=grid, takes_finished=takes_finished)
        self._place = place
        self._line = SweepLine("sweep", in_place=not between_runs)
        self._stop = threading.Event()
        self._thread = None if between_runs else threading.Thread(target=self._watch, daemon=True)
        if self._thread is not None:
            self._thread.start()

    def a_run_has_ended(self) -> None:
        """Say so between two runs of this process."""
        if self._thread is None:
            self._look()

    def close(self) -> None:
        """Stop looking, and clear the line."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._line.close()

    def _watch(self) -> None:
        pause = SECONDS
        while not self._stop.wait(pause):
            pause = max(SECONDS, IDLE * self._look())

    def _look(self) -> float:
        """Bring the line up to date; how long that took, s."""
        begin = time.perf_counter()
        try:
            state = self._counter.state(read.stored_runs(*self._place), datetime.now(UTC))
        except Exception:  # the store is busy, or a server away for a moment: the line is not worth a sweep
            return time.perf_counter() - begin
        self._line.show(state)
        return time.perf_counter() - begin


class RunCounter:
    """Counts the recorded runs of one start of a multirun.

    Args:
        total: Number of runs.
        grid: The values of each key that varies. Runs of other values, which a wider sweep of this name has left in the
            same parent, are not counted.
        takes_finished: Whether runs that finished before this start are taken, instead of being done again.
    """

    def __init__(
        self,
        total: int | None,
        *,
        grid: Mapping[str, frozenset[str]] = MappingProxyType({}),
        takes_finished: bool = True,
    ) -> None:
        self._total = total
        self._grid = grid
        self._takes_finished = takes_finished
        self._since = datetime.now(UTC)
        self._seen: dict[str, datetime] = {}  # when a run was first seen at work
        self._at_once = 1

    def state(self, runs: Iterable[read.StoredRun], now: datetime) -> SweepState:
        """How far the multirun is.

        Args:
            runs: The runs under its parent.
            now: The time.
        """
        ended = failed = pruned = 0
        finished_s: list[float] = []
        pruned_s: list[float] = []
        at_work_s: list[float] = []
        for run in runs:
            if read.SUPERSEDED in run.tags or not self._is_of_grid(run):  # superseded: another has taken its place
                continue
            new = run.started >= self._since
            at_work = run.status == "RUNNING" and not environment.process_has_ended(run.tags, if_unknown=False)
            if at_work:
                began = self._seen.setdefault(run.run_id, run.started if new else now)
                at_work_s.append(max(0.0, (now - began).total_seconds()))
                continue
            if not (new or run.run_id in self._seen or (run.status == "FINISHED" and self._takes_finished)):
                continue  # it was left unfinished by an earlier start, and is done again
            ended += 1
            given_up = "pruned" in run.tags
            pruned += given_up
            failed += run.status != "FINISHED" and not given_up
            if new and run.ended is not None and "continues" not in run.tags:  # the time of a whole run
                seconds = (run.ended - run.started).total_seconds()
                if run.status == "FINISHED":
                    finished_s.append(seconds)
                elif given_up:
                    pruned_s.append(seconds)
        self._at_once = max(self._at_once, len(at_work_s))
        return SweepState(
            total=self._total,
            ended=ended if self._total is None else min(ended, self._total),
            failed=failed,
            pruned=pruned,
            finished_s=tuple(finished_s),
            pruned_s=tuple(pruned_s),
            at_work_s=tuple(at_work_s),
            at_once=self._at_once,
        )

    def _is_of_grid(self, run: read.StoredRun) -> bool:
        """Whether this multirun asks for such a run; what is not recorded is not held against it."""
        return all(
            normalised_value(run.params[key]) in values for key, values in self._grid.items() if key in run.params
        )
