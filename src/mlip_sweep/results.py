"""What a run has found: recorded, told to a reader, returned to a search."""

import logging
from collections.abc import Mapping, Sequence

from mlip_sweep import keys
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.interface import Report
from mlip_sweep.tracking.run import RunRecord
from mlip_sweep.tracking.store import ui_hint

log = logging.getLogger(__name__)


class Results:
    """Takes the reports of measurements: records them, and keeps their metrics."""

    def __init__(self, rec: RunRecord) -> None:
        self._rec = rec
        self.metrics: dict[str, float] = {}

    def __call__(self, name: str, report: Report) -> None:
        """Record one report."""
        self._rec.report(name, report)
        self.metrics |= report.metrics
        log.info("%s: measured in %.0f s", name, report.metrics.get(keys.wall_time(name), float("nan")))
        for note in report.notes:
            log.warning("%s: %s", name, note)

    def conclude(self, name: str, *, tell_where: bool = True) -> None:
        """Say what was found, on the terminal and on the run's page, and where it is kept."""
        text = headline(self.metrics)
        self._rec.description(text)
        for line in text.splitlines():
            log.info("%s %s", name, line)
        if tell_where:
            log.info("stored: run %s; %s", self._rec.run_id, ui_hint(self._rec.uri, self._rec.run_id))


def headline(found: Mapping[str, float]) -> str:
    """What a reader wants first, as a Markdown list; what was not measured is left out."""
    failure = (keys.MD_TIME_TO_FAILURE, keys.MD_TIME_TO_FAILURE_LOW, keys.MD_TIME_TO_FAILURE_HIGH, keys.MD_DURATION)
    lines = [
        ("loss entropy S = {:.2f} ± {:.2f}", (keys.LOSS_ENTROPY, keys.LOSS_ENTROPY_STDERR)),
        ("forces RMSE, high T: {:.0f} meV/Å", (keys.RMSE_FORCES_HIGH_T,)),
        ("time to failure: {:.3g} ps [{:.3g}, {:.3g}] of {:g} ps", failure),
    ]
    return "\n".join("- " + text.format(*map(found.get, names)) for text, names in lines if names[0] in found)


def returned(found: Mapping[str, float], wanted: str | Sequence[str]) -> float | list[float]:
    """What a run returns to a search, as the config's `objective` asks for it: a number, or a list.

    Raises:
        InputError: there is no such metric, or it is not finite.
    """
    if isinstance(wanted, str):
        return objective(wanted, found)
    return [objective(name, found) for name in wanted]


def objective(name: str, found: Mapping[str, float]) -> float:
    """One number of those that were found.

    Raises:
        InputError: there is no such metric, or it is not finite.
    """
    if name not in found:
        raise InputError(f"objective={name}: this run has no such metric; it has {', '.join(sorted(found))}")
    value = float(found[name])
    if value != value or abs(value) == float("inf"):
        raise InputError(f"objective={name}: its value is {value}, which no search can use; look at the run's figures")
    return value
