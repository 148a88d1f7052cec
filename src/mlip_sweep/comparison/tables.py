"""The table that a person chooses a potential by, on the terminal and as CSV."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mlip_sweep import keys
from mlip_sweep.comparison.runs import Replicas
from mlip_sweep.measurement.dynamics.survival import log_rank

LOG_RANK = "log_rank_p_against_best"
WALL_TIME = "wall_time_s"
POOLED = (keys.RMSE_FORCES_HIGH_T, keys.RMSE_FORCES_ALL_T, keys.VALIDATION_FORCES)  # the first that was measured
TRAINING_SETS = ("train", "train_clean")
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
    order = {keys.MD_TIME_TO_FAILURE: False, pooled_forces(runs): True, keys.LOSS_ENTROPY: False}
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


def forces_sets(table: pd.DataFrame) -> dict[str, str]:
    """Labels of the single test sets -> names of their forces RMSE, coldest first."""
    pattern = re.compile(re.escape(keys.rmse_forces("@")).replace("@", "(.+)"))
    found = {match[1]: name for name in table.columns if (match := pattern.fullmatch(name))}
    single = {label: name for label, name in found.items() if name not in POOLED and label not in TRAINING_SETS}
    return dict(sorted(single.items(), key=lambda item: (_leading_number(item[0]), item[0])))


def terminal_table(table: pd.DataFrame, title: str = "", width: int = 120) -> Table:
    """The summary for a terminal of `width` characters; where it is narrow, the most telling columns only."""
    shown = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    shown.add_column("#", justify="right")
    shown.add_column("run", overflow="fold", min_width=NAME_WIDTH)
    columns = _fitting(_columns(table), table, width)
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
class _Column:
    """How one number of a row is written, with its uncertainty where the row has it."""

    name: str
    heading: str
    form: str
    priority: int
    error: str = ""
    interval: tuple[str, str] = ("", "")

    def text(self, row: pd.Series) -> str:
        value = row[self.name]
        if pd.isna(value):
            return DASH
        if self.name == WALL_TIME:
            return _duration(value)
        text = self.form.format(value)
        if pd.notna(row.get(self.error)):
            text += " ± " + self.form.format(row[self.error])
        low, high = (row.get(bound) for bound in self.interval)
        if pd.notna(low) and pd.notna(high):
            text += f" [{self.form.format(low)}, {self.form.format(high)}]"
        return text


def _columns(table: pd.DataFrame) -> list[_Column]:
    pooled = pooled_forces(table)
    pooled_label = {keys.RMSE_FORCES_HIGH_T: "high-T", keys.RMSE_FORCES_ALL_T: "all-T"}.get(pooled, "validation")
    sets = [_Column(name, f"F {label}\nmeV/Å", "{:.1f}", 0) for label, name in forces_sets(table).items()]
    interval = (keys.MD_TIME_TO_FAILURE_LOW, keys.MD_TIME_TO_FAILURE_HIGH)
    wanted = [
        _Column(keys.LOSS_ENTROPY, "S\nnat", "{:.2f}", 6, error=keys.LOSS_ENTROPY_STDERR),
        *sets,
        _Column(pooled, f"F {pooled_label}\nmeV/Å", "{:.1f}", 5),
        _Column(keys.MD_TIME_TO_FAILURE, "to failure\nps [95 %]", "{:.2f}", 5, interval=interval),
        _Column(LOG_RANK, "p vs\n#1", "{:.2g}", 3),
        _Column(keys.MD_SURVIVAL_FRACTION, "survive", "{:.0%}", 2),
        _Column(WALL_TIME, "wall\ntime", "", 1),
    ]
    return [column for column in wanted if column.name in table and table[column.name].notna().any()]


def _fitting(columns: list[_Column], table: pd.DataFrame, width: int) -> list[_Column]:
    """The columns that leave room for the names, dropped by priority and from the left where that is equal."""
    widths = {
        column.name: GAP + max(len(line) for line in [*column.heading.split("\n"), *map(column.text, _rows(table))])
        for column in columns
    }
    kept = list(columns)
    while len(kept) > 1 and sum(widths[column.name] for column in kept) > width - NAME_WIDTH - GAP - 4:
        kept.remove(min(kept, key=lambda column: column.priority))
    return kept


def _rows(table: pd.DataFrame) -> Iterator[pd.Series]:
    return (row for _, row in table.iterrows())


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


def _leading_number(label: str) -> float:
    match = re.match(r"\d+", label)
    return float(match[0]) if match else float("inf")
