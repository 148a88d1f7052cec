"""The numbers of Vita & Schwalbe-Koda (2023) beside one's own runs of the same models.

Mach. Learn.: Sci. Technol. 4 (2023) 035031, doi:10.1088/2632-2153/acf115, CC BY 4.0. `published_models.csv` holds what
follows from the tables of https://github.com/jvita/data_efficiency_in_IAPS by this project's own functions: loss
entropies (their equations 6 to 8), times to failure of 30 replicas at 1600 K (a survivor of 6 ps counts as 6.001), RMSE
on the test sets of 3BPA, and slopes of learning curves. Every model was trained once.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from omegaconf import OmegaConf

from mlip_sweep.comparison.choices import PUBLISHED
from mlip_sweep.comparison.statistics import correlation
from mlip_sweep.comparison.style import plain
from mlip_sweep.comparison.verdict import HIGH_T, TIME, Choice, S, Verdict
from mlip_sweep.config import config_folder

TABLE: Final = Path(__file__).with_name("published_models.csv")
TIME_COLUMN: Final = "time_to_failure_ps"
ARCHITECTURES: Final = {"nequip": "NequIP", "mace": "MACE"}
COLOURS: Final = {"nequip": "#0072B2", "mace": "#D55E00"}


def published_models() -> pd.DataFrame:
    """One row a published model, indexed by its name in `conf/published`.

    Columns: published_name, S_E, S_F, S (nat), time_to_failure_ps (mean), time_q25_ps, time_median_ps, time_q75_ps,
    replicas, rmse_energy_meV_atom, rmse_forces_meV_A, learning_slope (of ln RMSE against ln n).
    """
    return pd.read_csv(TABLE, index_col="model")


def beside_published(found: Verdict) -> pd.DataFrame:
    """The published numbers and one's own means over seeds, one row a published model that was run.

    Columns: S, time_to_failure_ps and rmse_forces_meV_A, each with the suffixes _published, _mean and _stderr; seeds.
    Empty where none of the choices is a published model.
    """
    theirs = published_models()
    rows = []
    for choice, name in _of_paper(found.choices):
        row: dict[str, object] = {"model": name, "seeds": len(choice.seeds)}
        for column, measure in (("S", S), (TIME_COLUMN, TIME), ("rmse_forces_meV_A", HIGH_T)):
            known = choice.estimates[measure.metric]
            row |= {
                f"{column}_published": theirs.loc[name, column],
                f"{column}_mean": known.mean,
                f"{column}_stderr": known.stderr,
            }
        rows.append(row)
    if not rows:
        return pd.DataFrame()
    order = list(theirs.index)
    return pd.DataFrame(rows).sort_values("model", key=lambda names: names.map(order.index)).reset_index(drop=True)


def published_prediction_figure(table: pd.DataFrame) -> Figure:
    """Time to failure against S and against the forces error, published and one's own (their figure 5, a and b).

    Args:
        table: as `beside_published` gives it.
    """
    figure = Figure(figsize=(9.0, 7.0), layout="constrained")
    theirs = published_models()
    columns = (("S", "loss entropy S (nat)"), ("rmse_forces_meV_A", "high-T forces RMSE (meV/Å)"))
    for (left, right), (column, words) in zip(figure.subplots(2, 2), columns, strict=True):
        _scatter(left, theirs[column], theirs[TIME_COLUMN])
        own = table.set_index("model")
        values, times = (own[f"{name}_mean"] for name in (column, TIME_COLUMN))
        _scatter(right, values, times, own[f"{column}_stderr"], own[f"{TIME_COLUMN}_stderr"])
        for axes in (left, right):
            axes.set(xlabel=words, ylabel="time to failure (ps)", xscale="linear" if column == "S" else "log")
        if column == "S":
            seeds = " or ".join(map(str, sorted(set(table["seeds"]))))
            left.set_title("published: 3BPA, 1600 K, one training each")
            right.set_title(f"here: mean ± standard error over {seeds} seeds")
    handles = [
        Line2D([], [], color=COLOURS[key], marker="o", linestyle="none", label=name)
        for key, name in ARCHITECTURES.items()
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False)
    return figure


def published_times_figure(table: pd.DataFrame) -> Figure:
    """Times to failure by model, published beside one's own, in the order of the paper (its figures 3b and 4b).

    Args:
        table: as `beside_published` gives it.
    """
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


def _of_paper(choices: Sequence[Choice]) -> list[tuple[Choice, str]]:
    """The choices that are published models, with their names; not those for which something else was chosen on top."""
    known = set(published_models().index)
    found = []
    for choice in choices:
        params = choice.runs["params"].iloc[0]
        name = str(params.get(PUBLISHED, ""))
        if name in known and all(params.get(group, value) == value for group, value in chosen_by(name).items()):
            found.append((choice, name))
    return found


@cache
def chosen_by(name: str) -> Mapping[str, str]:
    """What a published model chooses of config groups, such as {"optimizer": "adam"}; not what depends on the scale."""
    config: Any = OmegaConf.to_container(OmegaConf.load(config_folder("conf") / PUBLISHED / f"{name}.yaml"))
    chosen: dict[str, str] = {}
    for entry in config.get("defaults", []):
        if isinstance(entry, str):
            chosen |= {} if entry == "_self_" else chosen_by(entry)
        else:
            chosen |= {str(key).removeprefix("override /"): str(value) for key, value in entry.items()}
    return {group: value for group, value in chosen.items() if "$" not in value}


def _scatter(
    axes: Axes, x: pd.Series, times: pd.Series, x_stderr: pd.Series | None = None, times_stderr: pd.Series | None = None
) -> None:
    """One dot a model, indexed by its name, with the rank correlation of each architecture in words."""
    for place, (architecture, colour) in enumerate(COLOURS.items()):
        of_one = x.index.str.startswith(architecture)
        if not of_one.any():
            continue
        axes.errorbar(
            x[of_one],
            times[of_one],
            xerr=None if x_stderr is None else x_stderr[of_one],
            yerr=None if times_stderr is None else times_stderr[of_one],
            fmt="o",
            color=colour,
            markersize=5,
            elinewidth=0.8,
        )
        known = correlation(x[of_one], times[of_one])
        text = f"Spearman {known.spearman:+.2f}, n = {known.n}"
        if np.isfinite(known.spearman_low):
            text += f", 95 %: {known.spearman_low:+.2f} to {known.spearman_high:+.2f}"
        axes.text(0.03, 0.97 - 0.07 * place, text, transform=axes.transAxes, color=colour, fontsize=8, va="top")
    axes.margins(y=0.22)  # room for the words
    axes.set_ylim(bottom=0.0)
    plain(axes)
