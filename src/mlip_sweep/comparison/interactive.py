"""Figures to hover over, for the report: one group of runs, in the order of its verdict.

They show what `figures.py` draws for papers, and what needs a mouse: every run by its name, learning curves, and the
errors on each test set.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from lifelines import KaplanMeierFitter
from numpy.typing import NDArray

from mlip_sweep.comparison.figures import beside_time, entropy_settings, not_shown, pool
from mlip_sweep.comparison.runs import Landscape, Replicas
from mlip_sweep.comparison.statistics import Estimate, estimate
from mlip_sweep.comparison.style import Style, line_width, styles_of
from mlip_sweep.comparison.tables import pooled_forces
from mlip_sweep.comparison.verdict import MEASURES, Choice, Verdict
from mlip_sweep.measurement.accuracy import ALL_T, HIGH_T, TRAIN, TRAIN_CLEAN
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.metrics import SET
from mlip_sweep.models.targets import ENERGY, FORCES, Quantity
from mlip_sweep.training.metrics import VALIDATION_FORCES, VALIDATION_LOSS

HISTORIES: Final = {VALIDATION_FORCES: "validation forces RMSE (meV/Å)", VALIDATION_LOSS: "validation loss"}
POINTS = 2000  # of all learning curves in one figure together
FEWEST_POINTS = 10  # of one curve
LOG_FROM = 10.0  # ratio of the largest to the smallest value, from which on an axis is logarithmic
LOG_TICKS = 4  # for so few Plotly labels 1, 2 and 5, or decades, where it would label each of 1 to 9
HEIGHT = 400  # pixels
GRID, AXIS, TEXT = "#E4E4E4", "#8A8A8A", "#222222"
FONT = "system-ui, sans-serif"
BACKGROUND = "white"

Histories = Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]]
"""By metric and run id, the steps and values of a training."""


@dataclass(frozen=True)
class Interactive:
    """A figure of the report.

    Attributes:
        name: in one word, the same in every report.
        title: above it.
        note: what a reader has to know of it.
        figure: its traces carry the key of their choice as `legendgroup`.
    """

    name: str
    title: str
    note: str
    figure: go.Figure


def interactive_figures(
    found: Verdict, landscapes: Mapping[str, Landscape], replicas: Mapping[str, Replicas], histories: Histories
) -> list[Interactive]:
    """All figures that the runs of a group give, what matters most first.

    Args:
        found: the verdict on the group.
        landscapes: by run id.
        replicas: by run id.
        histories: by metric and run id.
    """
    drawn = [
        _survival(found, replicas),
        *(_against_time(found, name) for name in (LOSS_ENTROPY, pooled_forces(found.runs))),
        *(_landscape(found, landscapes, loss) for loss in ("energy", "forces")),
        *(_errors(found, quantity) for quantity in (FORCES, ENERGY)),
        *(_learning(found, histories.get(name, {}), name) for name in HISTORIES),
    ]
    return [one for one in drawn if one is not None]


def _survival(found: Verdict, replicas: Mapping[str, Replicas]) -> Interactive | None:
    """Kaplan–Meier curves; a mark stands where replicas were censored."""
    figure = _figure("time (ps)", "fraction of replicas that survive")
    for place, (choice, style) in enumerate(_shown(found, lambda choice: _has(choice, replicas))):
        pooled = pool([replicas[run] for run in choice.runs["run_id"] if run in replicas])
        fit = KaplanMeierFitter().fit(pooled.time, event_observed=pooled.failed)
        fraction = fit.survival_function_.iloc[:, 0]
        interval = fit.confidence_interval_survival_function_.reindex(fraction.index).to_numpy()
        at_risk = fit.event_table["at_risk"].reindex(fraction.index).to_numpy()
        figure.add_scatter(
            x=fraction.index.to_numpy(),
            y=fraction.to_numpy(),
            customdata=np.column_stack([interval, at_risk]),
            hovertemplate=_named(choice.label)
            + "%{y:.0%} survive %{x:.3g} ps<br>95 %: %{customdata[0]:.0%} to %{customdata[1]:.0%}"
            "<br>%{customdata[2]:.0f} replicas at risk",
            **_line(choice, style, place, shape="hv"),
        )
        ended, counts = np.unique(pooled.time[~pooled.failed], return_counts=True)
        figure.add_scatter(
            x=ended,
            y=fraction.reindex(ended, method="ffill").to_numpy(),
            customdata=counts,
            mode="markers",
            marker={"symbol": "line-ns", "size": 11, "line": {"width": 2, "color": style.colour}},
            hovertemplate=_named(choice.label)
            + "%{customdata} replicas survived until the end, %{x:.3g} ps (censored)",
            legendgroup=choice.key,
        )
    if not figure.data:
        return None
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    figure.update_xaxes(rangemode="tozero")
    note = "Kaplan–Meier, the replicas of all seeds together; | marks replicas that were censored, that is survived."
    return Interactive("survival", "Survival in dynamics", note, figure)


def _against_time(found: Verdict, name: str) -> Interactive | None:
    """A measure against time to failure: every run a dot, every choice its mean ± standard error."""
    words, unit, form = next((one.words, one.unit, _d3(one.form)) for one in MEASURES if one.metric == name)
    runs = found.runs
    if TIME_TO_FAILURE not in runs or name not in runs or runs[name].notna().sum() < 2:
        return None
    _, left_out = beside_time(found)
    hidden = {choice.key for choice in left_out}
    logarithmic = name != LOSS_ENTROPY and _spans(runs.loc[~runs["choice"].isin(hidden), name].to_numpy(float))
    figure = _figure(f"{words} ({unit})", "time to failure (ps)", log_x=logarithmic)
    shown = _shown(
        found,
        lambda choice: (
            choice.key not in hidden and bool(choice.runs[[name, TIME_TO_FAILURE]].notna().all(axis=1).any())
        ),
    )
    for choice, style in shown:
        both = choice.runs.dropna(subset=[name, TIME_TO_FAILURE])
        if len(both) > 1:
            figure.add_scatter(
                x=both[name],
                y=both[TIME_TO_FAILURE],
                customdata=np.column_stack([both["seed"], both["run_id"].str[:6]]),
                mode="markers",
                marker={"color": style.colour, "size": 6, "opacity": 0.5},
                hovertemplate=_named(choice.label)
                + f"%{{x:{form}}} {unit}, %{{y:.3g}} ps<br>seed %{{customdata[0]}}, run %{{customdata[1]}}",
                legendgroup=choice.key,
            )
    for choice, style in shown:  # means above all dots
        x, y = choice.estimates[name], choice.estimates[TIME_TO_FAILURE]
        told = f"{_plus_minus(x, form)} {unit}, {_plus_minus(y, '.3g')} ps<br>"
        ids = list(choice.runs["run_id"])
        told += f"mean of {x.n} seeds" if len(ids) > 1 else f"run {ids[0][:6]}"
        figure.add_scatter(
            x=[x.mean],
            y=[y.mean],
            error_x=_error_bar(x, style, positive=logarithmic),
            error_y=_error_bar(y, style, positive=True),
            mode="markers",
            marker={"color": style.colour, "symbol": style.symbol, "size": 11, "line": {"color": "white", "width": 1}},
            hovertemplate=_named(choice.label) + told,
            legendgroup=choice.key,
        )
    figure.update_yaxes(rangemode="tozero")
    note = "A choice is its mean over seeds ± standard error; where it has several runs, they are dots."
    if left_out:
        note += f" {_capital(not_shown(left_out))}."
    return Interactive(f"time_to_failure_{_word(name)}", f"{_capital(words)} and time to failure", note, figure)


def _landscape(found: Verdict, landscapes: Mapping[str, Landscape], loss: str) -> Interactive | None:
    """The mean landscape of each choice, over directions and seeds, with the thermal error of S."""
    thermal = entropy_settings(found)
    letter, unit, temperature = {
        "energy": ("E", "meV/atom", thermal.temperature_energy),
        "forces": ("F", "meV/Å", thermal.temperature_forces),
    }[loss]
    figure = _figure("displacement t (norm of the parameters)", f"{loss} RMSE ({unit})", log_y=True)
    for place, (choice, style) in enumerate(_shown(found, lambda choice: _has(choice, landscapes))):
        curves = [landscapes[run] for run in choice.runs["run_id"] if run in landscapes]
        mean = 1000.0 * np.mean([getattr(one, loss).mean(axis=0) for one in curves], axis=0)
        figure.add_scatter(
            x=curves[0].t,
            y=np.where(mean > 0, mean, np.nan),
            hovertemplate=_named(choice.label) + f"%{{y:.3g}} {unit} at t = %{{x:.3g}}",
            **_line(choice, style, place),
        )
    if not figure.data:
        return None
    figure.add_shape(
        type="line",
        xref="paper",
        x0=0,
        x1=1,
        y0=1000.0 * temperature,
        y1=1000.0 * temperature,
        line={"color": AXIS, "dash": "dot", "width": 1.5},
    )
    figure.add_annotation(
        xref="paper",
        x=1,
        y=np.log10(1000.0 * temperature),
        text=f"T<sub>{letter}</sub>",
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
    )
    note = (
        f"Mean over directions and seeds. T_{letter} = {1000.0 * temperature:g} {unit} is the error at which S looks: "
        "what lies far above it counts for nothing."
    )
    return Interactive(f"landscape_{loss}", f"Loss landscape, {loss}", note, figure)


def _errors(found: Verdict, quantity: Quantity) -> Interactive | None:
    """RMSE on every set of frames, choices side by side."""
    before, after = quantity.metric("rmse", SET).split(SET)
    pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}")
    matches = [match for name in map(str, found.runs) if (match := pattern.fullmatch(name))]
    sets = sorted({match[1] for match in matches} - {ALL_T, HIGH_T}, key=_set_place)
    known = [label for label in sets if found.runs[quantity.metric("rmse", label)].notna().any()]
    if not known:
        return None
    values = found.runs[[quantity.metric("rmse", label) for label in known]].to_numpy(float)
    figure = _figure("set of frames", f"{quantity.name} RMSE ({quantity.milli_unit})", log_y=_spans(values))
    for choice, style in _shown(found, lambda choice: True):
        estimates = [estimate(choice.of_seeds(quantity.metric("rmse", label))) for label in known]
        figure.add_scatter(
            x=known,
            y=[one.mean for one in estimates],
            customdata=[_plus_minus(one, ".4g") for one in estimates],
            error_y={
                "type": "data",
                "array": [one.stderr if np.isfinite(one.stderr) else 0.0 for one in estimates],
                "thickness": 1.5,
                "width": 0,
            },
            mode="markers",
            marker={"color": style.colour, "symbol": style.symbol, "size": 9},
            hovertemplate=_named(choice.label) + f"%{{customdata}} {quantity.milli_unit} on %{{x}}",
            legendgroup=choice.key,
            offsetgroup=choice.key,
        )
    figure.update_layout(scattermode="group", scattergap=0.25)
    figure.update_xaxes(type="category", categoryarray=known, categoryorder="array", showgrid=False)
    figure.update_yaxes(rangemode="tozero")
    for place in range(1, len(known)):  # between the sets
        figure.add_vline(x=place - 0.5, line={"color": GRID, "width": 1})
    note = "Mean over seeds ± standard error" + (
        f"; {TRAIN}: the frames that were trained on." if TRAIN in known else "."
    )
    return Interactive(f"errors_{quantity.name}", f"Errors by set of frames, {quantity.name}", note, figure)


def _learning(
    found: Verdict, history: Mapping[str, tuple[Sequence[int], Sequence[float]]], name: str
) -> Interactive | None:
    """A metric of the validation against the epoch, one line a run; those that did not finish included."""
    styles, labels = styles_of(found.choices), {choice.key: choice.label for choice in found.choices}
    runs = pd.concat([found.runs, found.unfinished])
    drawn = [row for _, row in runs.iterrows() if row["run_id"] in history and len(history[row["run_id"]][1]) > 1]
    if not drawn:
        return None
    figure = _figure("epoch", HISTORIES[name], log_y=True)
    for row in drawn:
        values = np.asarray(history[row["run_id"]][1], float)
        kept = thinned(values, max(FEWEST_POINTS, POINTS // len(drawn)))
        key = str(row["choice"])
        style = styles.get(key, Style())
        state = "" if row["status"] == "FINISHED" else f", {row['status']}"
        figure.add_scatter(
            x=kept + 1,
            y=np.where(values[kept] > 0, values[kept], np.nan),
            mode="lines",
            line={"color": style.colour, "dash": style.dash, "width": 1.3 if style.named else 0.8},
            hovertemplate=_named(labels.get(key, row["name"]))
            + f"%{{y:.4g}} at epoch %{{x}}<br>seed {row['seed']}, run {row['run_id'][:6]}{state}",
            legendgroup=key,
        )
    note = "One line a run. The weights of the lowest validation loss are kept, not those of the end."
    return Interactive(f"learning_{_word(name)}", f"Learning curves, {HISTORIES[name].split(' (')[0]}", note, figure)


def thinned(values: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Places of at most `most` values, evenly spread, with the first, the last and the lowest among them.

    Args:
        values: (P,).
        most: at least 3.
    """
    if len(values) <= most:
        return np.arange(len(values))
    even = np.linspace(0, len(values) - 1, most - 1).round().astype(int)
    lowest = [int(np.nanargmin(values))] if np.isfinite(values).any() else []
    return np.unique([*even, *lowest])


def _figure(x: str, y: str, *, log_x: bool = False, log_y: bool = False) -> go.Figure:
    axis = {"gridcolor": GRID, "linecolor": AXIS, "ticks": "outside", "tickcolor": AXIS, "zeroline": False}
    logarithmic = {"type": "log", "tickformat": "~g", "nticks": LOG_TICKS}
    return go.Figure(
        layout={
            "template": "none",
            "height": HEIGHT,
            "margin": {"l": 64, "r": 16, "t": 12, "b": 52},
            "font": {"family": FONT, "size": 12, "color": TEXT},
            "paper_bgcolor": BACKGROUND,
            "plot_bgcolor": BACKGROUND,
            "showlegend": False,  # the page has one legend for all figures of a group
            "hovermode": "closest",
            "hoverlabel": {"namelength": -1, "font": {"family": FONT}},
            "xaxis": {**axis, "title": {"text": x}, **(logarithmic if log_x else {})},
            "yaxis": {**axis, "title": {"text": y}, **(logarithmic if log_y else {})},
        }
    )


def _shown(found: Verdict, wanted: Callable[[Choice], bool]) -> list[tuple[Choice, Style]]:
    """The choices that are wanted, with their look."""
    styles = styles_of(found.choices)
    return [(choice, styles[choice.key]) for choice in found.choices if wanted(choice)]


def _has(choice: Choice, measured: Mapping[str, object]) -> bool:
    return not set(choice.runs["run_id"]).isdisjoint(measured)


def _line(choice: Choice, style: Style, place: int, shape: str = "linear") -> dict[str, object]:
    width = line_width(style, place)
    return {
        "mode": "lines",
        "line": {"color": style.colour, "dash": style.dash, "width": width, "shape": shape},
        "legendgroup": choice.key,
    }


def _named(label: str) -> str:
    """The beginning of a hover text: which choice it is, and no second box that says so."""
    return f"<extra></extra><b>{escape(label)}</b><br>"


def _error_bar(known: Estimate, style: Style, *, positive: bool) -> dict[str, object]:
    """± one standard error; of what is positive it does not reach down to zero, which a logarithm cannot show."""
    if not np.isfinite(known.stderr):
        return {"visible": False}
    down = min(known.stderr, 0.99 * known.mean) if positive else known.stderr
    bar = {"array": [known.stderr], "arrayminus": [down], "color": style.colour}
    return {"type": "data", "symmetric": False, "thickness": 1.5, "width": 0, **bar}


def _plus_minus(known: Estimate, form: str) -> str:
    return f"{known.mean:{form}} ± {known.stderr:{form}}" if np.isfinite(known.stderr) else f"{known.mean:{form}}"


def _spans(values: NDArray[np.float64]) -> bool:
    """Whether positive values differ by so much that an axis had better be logarithmic."""
    known = values[np.isfinite(values)]
    return len(known) > 0 and bool(known.min() > 0 and known.max() > LOG_FROM * known.min())


def _set_place(label: str) -> tuple[bool, float, str]:
    """Sorts sets of frames: the training frames, then by temperature."""
    number = re.search(r"\d+", label)
    return label not in (TRAIN, TRAIN_CLEAN), float(number[0]) if number else float("inf"), label


def _d3(form: str) -> str:
    """A form such as "{:.2f}" as Plotly writes it."""
    return form.strip("{}:")


def _word(name: str) -> str:
    return re.sub(r"\W+", "_", name)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
