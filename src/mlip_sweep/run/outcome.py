"""What a run has found: recorded, told to a reader, returned to a search."""

import io
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.chosen import shipped_measurements
from mlip_sweep.measurement.interface import Measurement, Report
from mlip_sweep.metrics import Metric, objective_metric, wall_time
from mlip_sweep.tracking.read import SEPARATOR
from mlip_sweep.tracking.run import FRAMES, RunRecord

if TYPE_CHECKING:
    from mlip_sweep.run.plan import Plan

log = logging.getLogger(__name__)


class Outcome:
    """Takes the reports of measurements: records them, and keeps their metrics.

    Args:
        rec: of the run.
        name: by which a reader knows the run.
        alone: whether all is told of it, and where it is kept; a run of a sweep is told in one line, among others.

    Attributes:
        metrics: all that were measured so far, by name.
        declared: the declarations of the measurements that were taken.
        summaries: tables for a reader, by the names of the measurements.
    """

    def __init__(self, rec: RunRecord, name: str, *, alone: bool = True) -> None:
        self._rec = rec
        self._name = name
        self._alone = alone
        self.metrics: dict[str, float] = {}
        self.declared: list[Metric] = []
        self.summaries: dict[str, pd.DataFrame] = {}

    def __call__(self, name: str, measurement: Measurement, report: Report) -> None:
        """Record one report."""
        self._rec.report(name, report)
        if type(measurement) not in shipped_measurements().values():
            self._rec.declare(name, measurement.metrics)  # so that a comparison knows what these numbers are
        self.metrics |= report.metrics
        self.declared += measurement.metrics
        if report.summary is not None:
            self.summaries[name] = report.summary
        if self._alone:
            log.info("%s: measured in %.0f s", name, report.metrics.get(wall_time(name), math.nan))
        for note in report.notes:
            log.warning("%s: %s", name if self._alone else f"{self._name}: {name}", note)

    def summarise(self) -> None:
        """Say what was found, on the terminal and on the run's page, and where it is kept."""
        lines = headlines(self.metrics, self.declared)
        tables = [as_markdown(table) for table in self.summaries.values()]
        self._rec.description("\n\n".join(part for part in (headline_table(lines), *tables, self._context()) if part))
        if not self._alone:
            log.info("%s: %s", self._name, "; ".join(lines) or "done")
            return
        for line in lines:
            log.info("%s: %s", self._name, line)
        for table in self.summaries.values():
            log.info("%s:\n%s", self._name, as_text(table))
        if where := self._rec.where():
            log.info("stored: run %s; %s", self._rec.run_id, where)

    def _context(self) -> str:
        """What the numbers are of, and where those to compare them with are: one line, since MLflow shows few."""
        tags = self._rec.tags
        told = {"weights": tags.get("weights"), "frames": tags.get(FRAMES), "measured again": tags.get("measured")}
        parts = [f"{label}: {text}" for label, text in told.items() if text]
        if page := self._rec.page_of_sweep():
            parts.append(f"[all runs of the sweep]({page})")
        return SEPARATOR.join(parts)

    def conclude(self, plan: "Plan") -> float | list[float]:
        """Summarise, and record and return what the config's `objective` asks for.

        Raises:
            InputError: there is no such metric, or it is not finite.
        """
        self.summarise()
        values = returned_values(self.metrics, plan.resolved["objective"])
        self._rec.metrics(
            {objective_metric(key): objective_value(key, self.metrics) for key in plan.settings.objectives}
        )
        return values


def headlines(metrics: Mapping[str, float], declared: Iterable[Metric]) -> list[str]:
    """What a reader wants first, one line each; what was not measured is left out."""
    return [
        metric.headline.format(*(metrics.get(key, math.nan) for key in (metric.name, *metric.headline_with)))
        for metric in declared
        if metric.headline and metric.name in metrics
    ]


def headline_table(lines: Sequence[str]) -> str:
    """Headlines as a Markdown table: what they tell of beside the numbers; "" where there are none."""
    if not lines:
        return ""
    parts = [re.split(": | = ", line.replace("|", r"\|"), maxsplit=1) for line in lines]
    # MLflow draws a table without space between its columns.
    rows = [f"| {part[0]}&emsp; | **{part[-1]}** |" for part in parts]
    return "\n".join(["| | |", "| :--- | :--- |", *rows])


def as_markdown(table: pd.DataFrame) -> str:
    """A table for a page of MLflow's UI; numbers with one decimal, counts as they are."""
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    rows += [[f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.to_numpy()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_text(table: pd.DataFrame) -> str:
    """A table for a terminal or a log; numbers with one decimal, counts as they are."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in table.columns:
        shown.add_column(str(name), justify="left" if table[name].dtype == object else "right")
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row))
    console = Console(file=io.StringIO(), width=100)
    console.print(shown)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def returned_values(metrics: Mapping[str, float], wanted: str | Sequence[str]) -> float | list[float]:
    """What a run returns to a search, as the config's `objective` asks for it: a number, or a list.

    Raises:
        InputError: there is no such metric, or it is not finite.
    """
    if isinstance(wanted, str):
        return objective_value(wanted, metrics)
    return [objective_value(name, metrics) for name in wanted]


def objective_value(name: str, metrics: Mapping[str, float]) -> float:
    """One number of those that were measured.

    Raises:
        InputError: there is no such metric, or it is not finite.
    """
    if name not in metrics:
        raise InputError(f"objective={name}: this run has no such metric; it has {', '.join(sorted(metrics))}")
    value = float(metrics[name])
    if not math.isfinite(value):
        raise InputError(f"objective={name}: its value is {value}, which no search can use; look at the run's figures")
    return value
