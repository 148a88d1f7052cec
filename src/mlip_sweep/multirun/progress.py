"""A progress bar over the runs of a grid, for sweeps whose runs work in silence or in other processes."""

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from math import prod
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from tqdm import tqdm

from mlip_sweep.tracking import read

SECONDS = 3.0  # between two looks at the store
OVER = ("FINISHED", "FAILED", "KILLED")


def grid_size(config: Any) -> int | None:
    """Number of runs of Hydra's grid sweeper; None for another sweeper, whose number is its own affair."""
    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_", "")).endswith(".BasicSweeper"):
        return None
    return combinations(
        [*(f"{key}={value}" for key, value in (sweeper.params or {}).items()), *config.hydra.overrides.task]
    )


def combinations(overrides: Sequence[str]) -> int:
    """How many combinations overrides such as `model=nequip,mace` make; of one key the last counts."""
    parser = OverridesParser.create()
    parsed = {override.key_or_group: override for override in map(parser.parse_override, overrides)}
    return prod(len(list(override.sweep_iterator())) for override in parsed.values() if override.is_sweep_override())


class SweepBar:
    """Counts the runs of a sweep in the store, from a thread of its own, until it is closed."""

    def __init__(self, uri: str, experiment: str, parent: str, total: int) -> None:
        self._place = (uri, experiment, parent)
        self._since = datetime.now(UTC)
        self._bar = tqdm(total=total, desc="sweep", unit="run", leave=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking, and clear the line."""
        self._stop.set()
        self._thread.join()
        self._bar.close()

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS):
            try:
                runs = read.stored_runs(*self._place)
            except Exception:  # the store is busy, or a server away for a moment: the bar is not worth a sweep
                continue
            # A run that an earlier start has left unfinished is done again.
            states = Counter(run.status for run in runs if run.status == "FINISHED" or run.started >= self._since)
            lost = states["FAILED"] + states["KILLED"]
            self._bar.set_postfix_str(
                f"{states['RUNNING']} at work" + (f", {lost} failed" if lost else ""), refresh=False
            )
            self._bar.update(sum(states[state] for state in OVER) - self._bar.n)
            self._bar.refresh()
