"""The table that a person chooses a potential by, on the terminal and as CSV."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mlip_sweep.comparison.runs import Replicas, declared_metrics
from mlip_sweep.measurement.accuracy import RMSE_FORCES_ALL_T, RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.survival import log_rank
from mlip_sweep.measurement.dynamics.time_to_failure import (
    TIME_TO_FAILURE,
)
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.metrics import SET, Column, Metric, declaration_of
from mlip_sweep.training.metrics import VALIDATION_FORCES

LOG_RANK = "log_rank_p_against_best"
WALL_TIME = "wall_time_s"
POOLED = (RMSE_FORCES_HIGH_T, RMSE_FORCES_ALL_T, VALIDATION_FORCES)  # the first that was measured
DASH = "–"
NAME_WIDTH = 26  # characters that are left for the names, which are folded
GAP = 3  # between columns


def summarise(runs: pd.DataFrame, replicas: Mapping[str, Replicas]) -> pd.DataFrame:
    """One row a run, the most trustworthy first.

    The order is that of the longest restricted mean time-to-failure; runs that are equal in it, or were not measured,
    follow the lowest forces RMSE and then the highest S. Runs that did not finish stand last, unranked.

    Args:
        runs: as `read_runs` gives them.
        replicas: by run id, for the log-rank test of each run against the best; p is not corrected for the
            number of runs.

    Returns:
        rank, run_id, name, status, error, then metrics under their own names, `log_rank_p_against_best`, `wall_time_s`.
    """
    table = runs.drop(columns=[c for c in runs.columns if c.startswith(("param.", "wall_time/"))] + ["started"])
    wall = [c for c in runs.columns if c.startswith("wall_time/")]
    table[WALL_TIME] = runs[wall].sum(axis=1, min_count=1) if wall else np.nan
    order = {TIME_TO_FAILURE: False, pooled_forces(runs): True, LOSS_ENTROPY: False}
    table["_unfinished"] = table["status"] != "FINISHED"
    by = ["_unfinished", *(name for name in order if name in table)]
    table = table.sort_values(
        by, ascending=[True, *(order[name] for name in by[1:])], kind="stable", na_position="last"
    )
    finished = ~table.pop("_unfinished")
    table.insert(0, "rank", np.where(finished, finished.cumsum(), np.nan))
    table["rank"] = table["rank"].astype("Int64")
    measured = [run for run in table.loc[finished, "run_id"] if run in replicas]
    p_values = {
        run: log_rank(
            replicas[measured[0]].time, replicas[measured[0]].failed, replicas[run].time, replicas[run].failed
        )
        for run in measured[1:]
    }
    table[LOG_RANK] = table["run_id"].map(p_values).astype(float)
    return table.reset_index(drop=True)


def pooled_forces(runs: pd.DataFrame) -> str:
    """Name of the forces RMSE that runs are judged by: high-T where it was measured, else all-T, else validation."""
    return next((name for name in POOLED if name in runs and runs[name].notna().any()), POOLED[0])


def terminal_table(
    table: pd.DataFrame, title: str = "", width: int = 120, declared: Sequence[Metric] | None = None
) -> Table:
    """The summary for a terminal of `width` characters; where it is narrow, the most telling columns only.

    Args:
        table: as `summarise` returns it.
        title: above the table.
        width: of the terminal.
        declared: say which metrics are shown, and how; None for those that this program declares.
    """
    shown = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    shown.add_column("#", justify="right")
    shown.add_column("run", overflow="fold", min_width=NAME_WIDTH)
    columns = _fitting(_columns(table, declared_metrics() if declared is None else declared), table, width)
    for column in columns:
        shown.add_column(column.heading, justify="right", no_wrap=True)
    for _, row in table.iterrows():
        cells = [escape(column.text(row)) for column in columns]
        if row["status"] == "FINISHED":
            shown.add_row(str(row["rank"]), escape(row["name"]), *cells)
        else:
            state = f"{escape(row['name'])}\n[red]{row['status']}[/red] [dim]{escape(row['error'])}[/dim]"
            shown.add_row(DASH, state, *cells)
    return shown


@dataclass(frozen=True)
class _Shown:
    """A metric of the table and how it is written, with its uncertainty where the row has it."""

    name: str
    column: Column

    @property
    def heading(self) -> str:
        return self.column.heading

    def text(self, row: pd.Series) -> str:
        value = row[self.name]
        if pd.isna(value):
            return DASH
        if self.name == WALL_TIME:
            return _duration(value)
        text = self.column.form.format(value)
        if pd.notna(row.get(self.column.error)):
            text += " ± " + self.column.form.format(row[self.column.error])
        low, high = row.get(self.column.low), row.get(self.column.high)
        if pd.notna(low) and pd.notna(high):
            text += f" [{self.column.form.format(low)}, {self.column.form.format(high)}]"
        return text


def _columns(table: pd.DataFrame, declared: Sequence[Metric]) -> list[_Shown]:
    """What the declarations want to be shown, as far as a run has it; of the pooled forces errors one is enough."""
    pooled = pooled_forces(table)
    shown: list[_Shown] = []
    for metric in declared:
        if metric.column is None or (metric.name in POOLED and metric.name != pooled):
            continue
        names = [name for name in table.columns if declaration_of(name, declared) is metric]
        shown += [_Shown(name, _of_set(metric, name)) for name in sorted(names, key=_leading_number)]
        if metric.name == TIME_TO_FAILURE:
            shown.append(_Shown(LOG_RANK, Column("p vs\n#1", "{:.2g}", priority=3)))
    shown.append(_Shown(WALL_TIME, Column("wall\ntime", priority=1)))
    return [one for one in shown if one.name in table and table[one.name].notna().any()]


def _of_set(metric: Metric, name: str) -> Column:
    """The column of one set of frames, of a metric that is declared for all of them."""
    column = metric.column or Column(name)
    before, _, after = metric.name.partition(SET)
    label = name.removeprefix(before).removesuffix(after) if SET in metric.name else ""
    return replace(column, heading=column.heading.replace(SET, label))


def _fitting(columns: list[_Shown], table: pd.DataFrame, width: int) -> list[_Shown]:
    """The columns that leave room for the names, dropped by priority and from the left where that is equal."""
    widths = {
        column.name: GAP + max(len(line) for line in [*column.heading.split("\n"), *map(column.text, _rows(table))])
        for column in columns
    }
    kept = list(columns)
    while len(kept) > 1 and sum(widths[column.name] for column in kept) > width - NAME_WIDTH - GAP - 4:
        kept.remove(min(kept, key=lambda shown: shown.column.priority))
    return kept


def _rows(table: pd.DataFrame) -> Iterator[pd.Series]:
    return (row for _, row in table.iterrows())


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


def _leading_number(name: str) -> tuple[float, str]:
    """Sorts the sets of a metric by temperature: the first number in its name, then the name."""
    match = re.search(r"\d+", name)
    return float(match[0]) if match else float("inf"), name
