"""The table that a person chooses a potential by, on the terminal and as CSV: one row a choice, or one row a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mlip_sweep.comparison.runs import DESCRIPTION, declared_metrics
from mlip_sweep.comparison.statistics import NORMAL_95, Estimate, estimate
from mlip_sweep.comparison.verdict import MEASURES, Verdict
from mlip_sweep.measurement.accuracy import RMSE_FORCES_ALL_T, RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.metrics import SET, Column, Metric, declaration_of, more_is_better
from mlip_sweep.training.metrics import VALIDATION_FORCES

WALL_TIME = "wall_time_s"
WALL_TIMES = "wall_time/"  # beginning of the metrics that it is the sum of
POOLED = (RMSE_FORCES_HIGH_T, RMSE_FORCES_ALL_T, VALIDATION_FORCES)  # the first that was measured is shown
DASH = "–"
NOT_LEARNT = " †"
NOT_LEARNT_TOLD = "† has not learnt (forces error above half of the forces themselves): S says nothing of a minimum yet"
TELLING = 4  # least priority of a column that narrow places show
NAME_WIDTH = 26  # characters that are left for the names, which are folded
GAP = 3  # between columns
SHORT_NAME = 14  # characters of a metric's name that stand in one line
SORTED = 10  # priority of the column that the table is sorted by: above all others


def table_of_verdicts(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row a run, in the order of the choices and their seeds; runs that have not finished stand last.

    Returns:
        group, rank (of the choice), choice, seed, run_id, name, status, error, learnt, then metrics under their own
        names, and `wall_time_s`.
    """
    parts = []
    for found in verdicts:
        of_choices = [
            choice.runs.assign(rank=choice.rank, choice=choice.label).sort_values("seed") for choice in found.choices
        ]
        parts += [part.assign(group=found.title) for part in [*of_choices, found.unfinished.assign(choice="")]]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    table[WALL_TIME] = wall_time_of(table)
    first = ["group", "rank", "choice", "seed", "run_id", "name", "status", "error", "learnt"]
    table = table.reindex(columns=[*first, *(name for name in table if name not in (*first, *DESCRIPTION))])
    table["rank"] = table["rank"].astype("Int64")
    return table.drop(columns=[name for name in table if str(name).startswith(WALL_TIMES)])


def choices_table(found: Verdict) -> pd.DataFrame:
    """One row a choice, in the order of the verdict.

    Returns:
        rank, choice, runs, seeds, learnt; for each measure NAME of the verdict NAME (mean over seeds), NAME_stderr,
        NAME_ci95_low, NAME_ci95_high, NAME_spread (standard deviation between seeds); `difference` from the best in the
        verdict's own measure with its interval, `p` after Holm's correction, and `seeds_needed`.
    """
    rows = []
    for choice in found.choices:
        row: dict[str, object] = {
            "group": found.title,
            "rank": choice.rank,
            "choice": choice.label,
            "runs": len(choice.runs),
            "seeds": " ".join(choice.seeds),
            "learnt": choice.learnt,
        }
        for measure in MEASURES:
            known = choice.estimates[measure.metric]
            if known.n:
                row |= {
                    measure.metric: known.mean,
                    f"{measure.metric}_stderr": known.stderr,
                    f"{measure.metric}_ci95_low": known.low,
                    f"{measure.metric}_ci95_high": known.high,
                    f"{measure.metric}_spread": known.spread,
                }
        if choice.difference is not None:
            row |= {
                "difference": choice.difference.mean,
                "difference_ci95_low": choice.difference.low,
                "difference_ci95_high": choice.difference.high,
                "p": choice.p,
                "seeds_needed": choice.difference.seeds_needed,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def pooled_forces(runs: pd.DataFrame) -> str:
    """Name of the forces RMSE that is shown: high-T where it was measured, else all-T, else validation."""
    return next((name for name in POOLED if name in runs and runs[name].notna().any()), POOLED[0])


def wall_time_of(runs: pd.DataFrame) -> pd.Series:
    """What each run took in all, s."""
    phases = [name for name in runs if str(name).startswith(WALL_TIMES)]
    return runs[phases].sum(axis=1, min_count=1) if phases else pd.Series(np.nan, index=runs.index)


def order_by(found: Verdict, name: str, declared: Sequence[Metric]) -> list[int]:
    """Places of the choices by the mean of a metric over their seeds, the better first and those without it last.

    Args:
        found: the verdict on a group.
        name: of the metric, or `wall_time_s`, the sum over all runs; "" for the order of the verdict.
        declared: say which of two is the better; of a metric without a declaration, less is.
    """
    if name == WALL_TIME:
        values = [float(wall_time_of(choice.runs).sum()) for choice in found.choices]
    elif name:
        values = [float(choice.of_seeds(name).mean()) for choice in found.choices]
    else:
        return list(range(len(found.choices)))
    costs = -np.array(values) if more_is_better(name, declared) else np.array(values)
    return [int(place) for place in np.argsort(costs, kind="stable")]  # NaN comes last


def order_in_words(name: str, declared: Sequence[Metric]) -> str:
    """What `order_by` a metric does, in words; "" for the order of the verdict."""
    return f"sorted by {name}, {'highest' if more_is_better(name, declared) else 'lowest'} first" if name else ""


def terminal_table(
    found: Verdict, title: str = "", width: int = 120, declared: Sequence[Metric] | None = None, sort: str = ""
) -> Table:
    """The choices for a terminal of `width` characters; where it is narrow, the most telling columns only.

    Args:
        found: the verdict on a group.
        title: above the table.
        width: of the terminal.
        declared: say which metrics are shown, and how; None for those that this program declares.
        sort: metric by which the choices are sorted; "" for their order in the verdict. Ranks stay.
    """
    declared = declared_metrics() if declared is None else declared
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    cells = table_cells(found, declared, sort)
    columns = _fitting(cells, width)
    table.add_column("#", justify="right")
    table.add_column("choice" if _several_seeds(found) else "run", overflow="fold", min_width=NAME_WIDTH)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    told = ranks(found)
    for place in order_by(found, sort, declared):
        label = escape(found.choices[place].label)
        table.add_row(told[place], label, *(escape(column.texts[place]) for column in columns))
    for _, row in found.unfinished.iterrows():
        state = f"{escape(row['name'])}\n[red]{row['status']}[/red] [dim]{escape(row['error'])}[/dim]"
        table.add_row(DASH, state, *[DASH] * len(columns))
    if not all(choice.learnt for choice in found.choices):
        table.caption = NOT_LEARNT_TOLD
        table.caption_justify = "left"
    return table


def markdown_table(found: Verdict, declared: Sequence[Metric]) -> str:
    """The choices as a table for a page of MLflow's UI, which has room for the most telling columns."""
    columns = [column for column in table_cells(found, declared) if column.priority >= TELLING]
    rows = [["#", "choice", *(column.heading.replace("\n", " ") for column in columns)], ["---"] * (len(columns) + 2)]
    for place, (choice, rank) in enumerate(zip(found.choices, ranks(found), strict=True)):
        rows.append([rank, choice.label, *(column.texts[place] for column in columns)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    note = [] if all(choice.learnt for choice in found.choices) else ["", NOT_LEARNT_TOLD]
    return "\n".join([*lines, *note])


def ranks(found: Verdict) -> list[str]:
    """Ranks as people write them: "1=" for those that share the first place."""
    shared = bool(found.tied)
    return ["1=" if choice.rank == 1 and shared else str(choice.rank) for choice in found.choices]


@dataclass(frozen=True)
class Cells:
    """One column of a table of choices.

    Attributes:
        heading: with line breaks.
        texts: one a choice.
        values: numbers to sort by, one a choice.
        priority: columns of low priority are left out first.
        name: of the metric; "" for what is none.
    """

    heading: str
    texts: list[str]
    values: list[float]
    priority: int
    name: str = ""


def table_cells(found: Verdict, declared: Sequence[Metric], sort: str = "") -> list[Cells]:
    """What the declarations want to be shown, as far as a run has it; of the pooled forces errors one is enough.

    Args:
        found: the verdict on a group.
        declared: say which metrics are shown, and how.
        sort: metric by which the choices are sorted: it is shown whatever its declaration says.
    """
    runs = found.runs
    if runs.empty:
        return []
    cells = [_seeds_cells(found)] if _several_seeds(found) else []
    for metric, name, column in _shown(runs, declared):
        cells.append(_metric_cells(found, name, column))
        if found.measure is not None and metric.name == found.measure.metric and len(found.choices) > 1:
            cells.append(_p_cells(found))
    seconds = [float(wall_time_of(choice.runs).sum()) for choice in found.choices]
    cells.append(Cells("wall\ntime", [duration(value) for value in seconds], seconds, priority=1, name=WALL_TIME))
    if sort in runs and sort not in {one.name for one in cells}:
        cells.insert(0, _metric_cells(found, sort, Column(_folded(sort))))
    return [replace(one, priority=SORTED) if sort and one.name == sort else one for one in cells]


def run_cells(runs: pd.DataFrame, declared: Sequence[Metric]) -> list[Cells]:
    """The same metrics for single runs, as each recorded them.

    Args:
        runs: as `runs.runs_table` has them, finished or not.
        declared: say which metrics are shown, and how.
    """
    cells = []
    for _, name, column in _shown(runs, declared):
        texts = [_text(_estimate(runs.iloc[[place]], name, column), column) for place in range(len(runs))]
        cells.append(Cells(column.heading, texts, [float(value) for value in runs[name]], column.priority, name))
    seconds = [float(value) for value in wall_time_of(runs)]
    texts = [duration(value) if np.isfinite(value) else DASH for value in seconds]
    return [*cells, Cells("wall\ntime", texts, seconds, priority=1, name=WALL_TIME)]


def _shown(runs: pd.DataFrame, declared: Sequence[Metric]) -> list[tuple[Metric, str, Column]]:
    """What the declarations want to be shown, as far as a run has it: each metric by its name, with its column."""
    pooled, shown = pooled_forces(runs), []
    for metric in declared:
        if metric.column is None or (metric.name in POOLED and metric.name != pooled):
            continue
        names = [
            name for name in map(str, runs) if declaration_of(name, declared) is metric and runs[name].notna().any()
        ]
        shown += [(metric, name, _of_set(metric, name)) for name in sorted(names, key=_leading_number)]
    return shown


def _folded(name: str) -> str:
    """A long name of a metric in two lines."""
    breaks = [match.end() for match in re.finditer(r"[_/]", name)]
    if len(name) <= SHORT_NAME or not breaks:
        return name
    middle = min(breaks, key=lambda place: abs(place - len(name) / 2))
    return f"{name[:middle]}\n{name[middle:]}"


def _several_seeds(found: Verdict) -> bool:
    return any(len(choice.runs) > 1 for choice in found.choices)


def _seeds_cells(found: Verdict) -> Cells:
    counts = [len(choice.seeds) for choice in found.choices]
    return Cells("seeds", [str(n) for n in counts], [float(n) for n in counts], priority=6)


def _p_cells(found: Verdict) -> Cells:
    values = [choice.p for choice in found.choices]
    return Cells("p vs\nbest", [DASH if np.isnan(p) else f"{p:.2g}" for p in values], values, priority=4)


def _metric_cells(found: Verdict, name: str, column: Column) -> Cells:
    estimates = [_estimate(choice.runs, name, column) for choice in found.choices]
    texts = []
    for choice, known in zip(found.choices, estimates, strict=True):
        text = _text(known, column)
        texts.append(text + NOT_LEARNT if name == LOSS_ENTROPY and not choice.learnt and text != DASH else text)
    return Cells(column.heading, texts, [known.mean for known in estimates], column.priority, name)


def _estimate(runs: pd.DataFrame, name: str, column: Column) -> Estimate:
    """Over the seeds of one choice, with the measurement's own uncertainty where it has one."""
    stderrs = pd.Series(np.nan, index=runs.index)
    if column.error in runs:
        stderrs = runs[column.error]
    elif column.low in runs and column.high in runs:
        stderrs = (runs[column.high] - runs[column.low]) / (2 * NORMAL_95)
    by_seed = pd.DataFrame({"seed": runs["seed"], "value": runs[name], "stderr": stderrs}).groupby("seed").mean()
    found = estimate(by_seed["value"], by_seed["stderr"])
    if len(runs) == 1 and column.low in runs and column.high in runs:  # the interval as it was measured
        return replace(found, low=float(runs[column.low].iloc[0]), high=float(runs[column.high].iloc[0]))
    return found


def _text(known: Estimate, column: Column) -> str:
    if np.isnan(known.mean):
        return DASH
    text = column.form.format(known.mean)
    if column.low and np.isfinite(known.low) and np.isfinite(known.high):
        low = max(0.0, known.low) if known.mean >= 0 else known.low  # a time is not negative
        return f"{text} [{column.form.format(low)}, {column.form.format(known.high)}]"
    return f"{text} ± {column.form.format(known.stderr)}" if np.isfinite(known.stderr) else text


def _of_set(metric: Metric, name: str) -> Column:
    """The column of one set of frames, of a metric that is declared for all of them."""
    column = metric.column or Column(name)
    before, _, after = metric.name.partition(SET)
    label = name.removeprefix(before).removesuffix(after) if SET in metric.name else ""
    return replace(column, heading=column.heading.replace(SET, label))


def _fitting(cells: Sequence[Cells], width: int) -> list[Cells]:
    """The columns that leave room for the names, dropped by priority and from the left where that is equal."""
    widths = {id(one): GAP + max(map(len, [*one.heading.split("\n"), *one.texts])) for one in cells}
    kept = list(cells)
    while len(kept) > 1 and sum(widths[id(one)] for one in kept) > width - NAME_WIDTH - GAP - 4:
        kept.remove(min(kept, key=lambda one: one.priority))
    return kept


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


def _leading_number(name: str) -> tuple[float, str]:
    """Sorts the sets of a metric by temperature: the first number in its name, then the name."""
    match = re.search(r"\d+", name)
    return float(match[0]) if match else float("inf"), name
