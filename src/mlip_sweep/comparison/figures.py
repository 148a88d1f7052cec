"""Figures of a comparison: landscapes, survival, and what predicts it (figs 3–4 of doi:10.1088/2632-2153/acf115)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from mlip_sweep.comparison.findings import correlations
from mlip_sweep.comparison.runs import Landscape, Replicas
from mlip_sweep.comparison.tables import pooled_forces
from mlip_sweep.measurement.accuracy import RMSE_FORCES_ALL_T, RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE, TIME_TO_FAILURE_HIGH, TIME_TO_FAILURE_LOW
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR

# Okabe & Ito's palette without its yellow, which is too light for lines; dashes tell apart what repeats a colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.4)))
MARKERS = ("o", "s", "^")
NAMED = len(COLOURS) * len(DASHES)  # runs after these are drawn in grey, without a name
OTHERS = "#B8B8B8"
LABEL_CHARACTERS = 60


def landscape_figure(table: pd.DataFrame, landscapes: Mapping[str, Landscape]) -> Figure | None:
    """Mean energy and forces landscapes of all runs, in the order of the table; None without any."""
    shown = [run for run in table["run_id"] if run in landscapes]
    if not shown:
        return None
    figure = Figure(figsize=(_width(table, shown), _height(shown)), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for run, style in _styles(shown).items():
        curves = landscapes[run]
        for axes, loss in zip(panels, (curves.energy, curves.forces), strict=True):
            mean = loss.mean(axis=0)
            axes.plot(curves.t, 1000.0 * np.where(mean > 0, mean, np.nan), **_line(style))
    for axes, name, unit in zip(panels, ("Energy", "Forces"), ("meV/atom", "meV/Å"), strict=True):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("displacement t (norm of the parameters)")
        axes.set_ylabel(f"{name} RMSE, mean over directions ({unit})")
        _plain(axes)
    _legend(figure, _names(table, shown))
    return figure


def survival_figure(table: pd.DataFrame, replicas: Mapping[str, Replicas]) -> Figure | None:
    """Times to failure as boxes, and Kaplan–Meier curves; None where no run has replicas."""
    shown = [run for run in table["run_id"] if run in replicas]
    if not shown:
        return None
    height = max(_height(shown), 1.4 + 0.27 * len(shown))
    figure = Figure(figsize=(_width(table, shown), height), layout="constrained")
    boxes, curves = figure.subplots(1, 2)
    styles = _styles(shown)
    drawn = boxes.boxplot(
        [replicas[run].time for run in shown],
        orientation="horizontal",
        widths=0.6,
        patch_artist=True,
        showmeans=True,
        medianprops={"color": "black"},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "#606060"},
    )
    for patch, style in zip(drawn["boxes"], styles.values(), strict=True):
        patch.set(facecolor=style[0], alpha=0.5)
    boxes.set_yticks(range(1, len(shown) + 1), [_rank_label(table, run) for run in shown])
    boxes.invert_yaxis()
    boxes.set_ylabel("rank")
    boxes.set_xlabel("time to failure or end (ps), ◇ mean")
    for run, style in styles.items():
        fit = KaplanMeierFitter().fit(replicas[run].time, event_observed=replicas[run].failed)
        steps = fit.survival_function_.iloc[:, 0]
        curves.step(steps.index, steps.to_numpy(), where="post", **_line(style))
    curves.set_ylim(-0.03, 1.03)
    curves.set_xlabel("time (ps)")
    curves.set_ylabel("fraction of replicas that survive")
    for axes in (boxes, curves):
        axes.set_xlim(left=0)
        _plain(axes)
    _legend(figure, _names(table, shown))
    return figure


def prediction_figure(table: pd.DataFrame) -> Figure | None:
    """S and forces RMSE, each against time-to-failure, with their correlations; None with fewer than two runs."""
    forces = pooled_forces(table)
    measures = {LOSS_ENTROPY: "S and time-to-failure", forces: "forces RMSE and time-to-failure"}
    finished = table[table["status"] == "FINISHED"]
    present = [name for name in measures if name in finished and finished[name].notna().any()]
    if TIME_TO_FAILURE not in finished or not present:
        return None
    rows = finished[finished[TIME_TO_FAILURE].notna() & finished[present].notna().any(axis=1)]
    if len(rows) < 2:
        return None
    labels = {
        LOSS_ENTROPY: "loss entropy S (nat), ± standard error",
        forces: f"forces RMSE, {_set_label(forces)} (meV/Å)",
    }
    found = correlations(table)
    shown = list(rows["run_id"])
    size = (_width(table, shown, len(present)), _height(shown) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(present), sharey=True))
    styles = _styles(shown)
    for axes, name in zip(panels, present, strict=True):
        for _, row in rows.iterrows():
            colour, _, marker = styles[row["run_id"]]
            axes.errorbar(
                row[name],
                row[TIME_TO_FAILURE],
                xerr=row.get(LOSS_ENTROPY_STDERR) if name == LOSS_ENTROPY else None,
                yerr=_time_error(row),
                color=colour,
                marker=marker,
                markeredgecolor="white",
                markersize=8,
                elinewidth=1,
            )
        axes.set_xlabel(labels[name])
        axes.set_title(str(found[measures[name]]).replace(", Spearman", "\nSpearman"), fontsize=9, loc="left")
        _plain(axes)
    panels[0].set_ylabel("time to failure (ps), restricted mean, 95 % interval")
    _legend(figure, _names(table, shown), points=True)
    return figure


Style = tuple[str, object, str]


def _styles(runs: list[str]) -> dict[str, Style]:
    """Colour, dashes and marker for each run, by its place in the table."""
    styles: dict[str, Style] = {}
    for place, run in enumerate(runs):
        if place < NAMED:
            turn = place // len(COLOURS)
            styles[run] = (COLOURS[place % len(COLOURS)], DASHES[turn], MARKERS[turn])
        else:
            styles[run] = (OTHERS, "-", ".")
    return styles


def _line(style: Style) -> dict[str, object]:
    colour, dashes, _ = style
    return {"color": colour, "linestyle": dashes, "linewidth": 1.7 if colour != OTHERS else 0.8}


def _names(table: pd.DataFrame, runs: list[str]) -> dict[str, str]:
    names = table.set_index("run_id")["name"]
    return {run: f"{_rank_label(table, run)}  {_clipped(names[run])}" for run in runs}


def _rank_label(table: pd.DataFrame, run: str) -> str:
    rank = table.loc[table["run_id"] == run, "rank"].iloc[0]
    return "–" if pd.isna(rank) else str(rank)


def _legend(figure: Figure, names: Mapping[str, str], *, points: bool = False) -> None:
    """Names beside the panels, in the order of the table."""
    handles, labels = [], []
    for run, (colour, dashes, marker) in list(_styles(list(names)).items())[:NAMED]:
        if points:
            handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", markeredgecolor="white"))
        else:
            handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=1.7))  # type: ignore[arg-type]
        labels.append(names[run])
    if len(names) > NAMED:
        handles.append(Line2D([], [], color=OTHERS, linestyle="-"))
        labels.append(f"{len(names) - NAMED} more")
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False, title="rank, run")


def _time_error(row: pd.Series) -> list[list[float]] | None:
    low, high = row.get(TIME_TO_FAILURE_LOW), row.get(TIME_TO_FAILURE_HIGH)
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return None
    value = row[TIME_TO_FAILURE]
    return [[max(value - low, 0.0)], [max(high - value, 0.0)]]


def _set_label(forces: str) -> str:
    return {RMSE_FORCES_HIGH_T: "high-T test sets", RMSE_FORCES_ALL_T: "all test sets"}.get(forces, "validation")


def _clipped(name: str) -> str:
    """A name without its middle where it is long: the last choice often is what tells runs apart."""
    half = (LABEL_CHARACTERS - 1) // 2
    return name if len(name) <= LABEL_CHARACTERS else f"{name[:half]}…{name[-half:]}"


def _width(table: pd.DataFrame, runs: list[str], panels: int = 2) -> float:
    """Inches for the panels and the longest name beside them."""
    return 3.8 * panels + 0.8 + 0.068 * max(len(name) for name in _names(table, runs).values())


def _height(runs: list[str]) -> float:
    """Inches that leave room for the legend."""
    return max(3.8, 0.6 + 0.19 * min(len(runs), NAMED + 1))


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
