"""The published figures again, with one's own runs beside them (figs 3 to 5 of doi:10.1088/2632-2153/acf115)."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlip_sweep.comparison.published import (
    SLOPE_COLUMN,
    TIME_COLUMN,
    choices_of_paper,
    published_landscapes,
    published_models,
)
from mlip_sweep.comparison.runs import Landscape
from mlip_sweep.comparison.statistics import correlation
from mlip_sweep.comparison.style import logarithmic, plain
from mlip_sweep.comparison.verdict import Verdict

ARCHITECTURES: Final = {"nequip": "NequIP", "mace": "MACE"}
COLOURS: Final = {"nequip": "#0072B2", "mace": "#D55E00"}
MEASURES: Final = (("S", "loss entropy S (nat)"), ("rmse_forces_meV_A", "high-T forces RMSE (meV/Å)"))


def published_landscapes_figure(found: Verdict, landscapes: Mapping[str, Landscape]) -> Figure | None:
    """Landscapes, published beside one's own, each model in the colour of its rank by the published S (figures 3a, 4a).

    None where no published model has a landscape of one's own.

    Args:
        found: the verdict on a group.
        landscapes: by run id.
    """
    own: dict[str, list[Landscape]] = {}
    for choice, model in choices_of_paper(found.choices):
        own.setdefault(model, []).extend(landscapes[run] for run in choice.runs["run_id"] if run in landscapes)
    own = {model: curves for model, curves in own.items() if curves}
    if not own:
        return None
    present = [key for key in ARCHITECTURES if any(model.startswith(key) for model in own)]
    theirs, entropies = published_landscapes(), published_models()["S"]
    order = sorted(own, key=lambda model: entropies[model])
    colours = ScalarMappable(BoundaryNorm(np.arange(len(order) + 1) - 0.5, 256), "viridis_r")
    figure = Figure(figsize=(2.4 + 5.6 * len(present), 6.4), layout="constrained")
    grid = figure.subplots(2, 2 * len(present), sharex=True, squeeze=False)
    for rank, model in enumerate(order):
        place = 2 * present.index(model.partition("_")[0])
        published = theirs[theirs["model"] == model]
        for row, (loss, column) in enumerate((("energy", "energy_eV_atom"), ("forces", "forces_eV_A"))):
            line = {"color": colours.to_rgba(np.array(rank)), "linewidth": 1.0}
            grid[row, place].plot(published["t"], 1000.0 * published[column], **line)
            mean = np.mean([getattr(one, loss).mean(axis=0) for one in own[model]], axis=0)
            grid[row, place + 1].plot(own[model][0].t, 1000.0 * mean, **line)
    for place, axes in enumerate(grid.flat):
        logarithmic(axes, "y", at=(1,))
        plain(axes)
        if place < 2 * len(present):
            name = ARCHITECTURES[present[place // 2]]
            axes.set_title(f"{name}, {'here' if place % 2 else 'published'}")
        else:
            axes.set_xlabel("displacement t")
    for axes, words in zip(grid[:, 0], ("energy RMSE (meV/atom)", "forces RMSE (meV/Å)"), strict=True):
        axes.set_ylabel(words)
    bar = figure.colorbar(colours, ax=grid, label="by published S (nat)", fraction=0.03, aspect=40)
    bar.set_ticks(range(len(order)), labels=[f"{entropies[model]:.2f}  {model}" for model in order])
    bar.ax.tick_params(labelsize=8, length=0)
    return figure


def published_prediction_figure(table: pd.DataFrame) -> Figure | None:
    """Time to failure against S and against the forces error, published and one's own (figures 5a and b).

    Args:
        table: as `beside_published` gives it; None without times to failure.
    """
    return _against_measures(table, TIME_COLUMN, "time to failure (ps)") if _has_times(table) else None


def published_times_figure(table: pd.DataFrame) -> Figure | None:
    """Times to failure by model, published beside one's own, in the order of the paper (figures 3b and 4b).

    Args:
        table: as `beside_published` gives it; None without times to failure.
    """
    if not _has_times(table):
        return None
    figure = Figure(figsize=(9.0, 1.2 + 0.24 * len(table)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(table))[::-1]
    theirs = published_models()
    for place, (_, own) in zip(places, table.iterrows(), strict=True):
        model, colour = theirs.loc[own["model"]], COLOURS[own["model"].partition("_")[0]]
        left.plot([model["time_q25_ps"], model["time_q75_ps"]], [place, place], color=colour, linewidth=5, alpha=0.35)
        left.plot(model["time_median_ps"], place, "|", color=colour, markersize=11)
        left.plot(model[TIME_COLUMN], place, "o", color=colour, markersize=5)
        right.errorbar(
            own[f"{TIME_COLUMN}_mean"],
            place,
            xerr=own[f"{TIME_COLUMN}_stderr"],
            fmt="o",
            color=colour,
            markersize=5,
        )
    left.set_yticks(places, [name.replace("_", " ", 1) for name in table["model"]])
    left.set(title="published", xlabel="time to failure (ps)\nmean, median, quartiles of 30 replicas")
    right.set(title="here", xlabel="time to failure (ps)\nmean ± standard error over seeds")
    for axes in (left, right):
        axes.set_xlim(left=0)
        plain(axes)
    return figure


def published_slopes_figure(table: pd.DataFrame) -> Figure:
    """Learning slopes against S and the forces error on the most frames, published and one's own (figures 5c and d).

    Args:
        table: as `slopes_beside_published` gives it.
    """
    return _against_measures(table, SLOPE_COLUMN, "learning slope")


def _against_measures(table: pd.DataFrame, outcome: str, words: str) -> Figure:
    """A column against S and against the forces error: left published, right one's own, whose columns are `_mean`."""
    figure = Figure(figsize=(9.0, 7.0), layout="constrained")
    theirs, own = published_models().dropna(subset=[outcome]), table.set_index("model")
    for (left, right), (measure, measure_words) in zip(figure.subplots(2, 2), MEASURES, strict=True):
        _scatter(left, theirs[measure], theirs[outcome])
        means, stderrs = ([own[f"{name}_{kind}"] for name in (measure, outcome)] for kind in ("mean", "stderr"))
        _scatter(right, *means, *stderrs)
        for axes in (left, right):
            axes.set(xlabel=measure_words, ylabel=words)
            if measure != "S":
                logarithmic(axes, "x")
        if measure == "S":
            seeds = " or ".join(map(str, sorted(set(table["seeds"]))))
            left.set_title("published: 3BPA, 1600 K, one training each")
            right.set_title(f"here: mean ± standard error over {seeds} seeds")
    handles = [
        Line2D([], [], color=COLOURS[key], marker="o", linestyle="none", label=name)
        for key, name in ARCHITECTURES.items()
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False)
    return figure


def _has_times(table: pd.DataFrame) -> bool:
    return bool(table[f"{TIME_COLUMN}_mean"].notna().any())


def _scatter(
    axes: Axes, x: pd.Series, y: pd.Series, x_stderr: pd.Series | None = None, y_stderr: pd.Series | None = None
) -> None:
    """One dot a model, indexed by its name, with the rank correlation of each architecture in words."""
    for place, (architecture, colour) in enumerate(COLOURS.items()):
        of_one = x.index.str.startswith(architecture)
        if not of_one.any():
            continue
        axes.errorbar(
            x[of_one],
            y[of_one],
            xerr=None if x_stderr is None else x_stderr[of_one],
            yerr=None if y_stderr is None else y_stderr[of_one],
            fmt="o",
            color=colour,
            markersize=5,
            elinewidth=0.8,
        )
        known = correlation(x[of_one], y[of_one])
        if not np.isfinite(known.spearman):
            continue
        text = f"Spearman {known.spearman:+.2f}, n = {known.n}"
        if np.isfinite(known.spearman_low):
            text += f", 95 %: {known.spearman_low:+.2f} to {known.spearman_high:+.2f}"
        axes.text(0.03, 0.97 - 0.07 * place, text, transform=axes.transAxes, color=colour, fontsize=8, va="top")
    axes.margins(y=0.22)  # room for the words
    if y.min() >= 0:
        axes.set_ylim(bottom=0.0)
    plain(axes)
