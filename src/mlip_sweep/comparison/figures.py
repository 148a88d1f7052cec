"""Figures of a comparison: landscapes, survival, and what predicts it (figs 3–4 of doi:10.1088/2632-2153/acf115).

Each shows the choices of one group in the order of the verdict; a choice stands for all its seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from lifelines import KaplanMeierFitter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlip_sweep.comparison.findings import correlations_of_choices
from mlip_sweep.comparison.runs import Landscape, Replicas
from mlip_sweep.comparison.style import NAMED, OTHERS, Style, line_width, logarithmic, plain, styles_of
from mlip_sweep.comparison.tables import pooled_forces, ranks
from mlip_sweep.comparison.verdict import Choice, Verdict
from mlip_sweep.measurement.accuracy import RMSE_FORCES_ALL_T, RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.entropy import EntropySettings
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY

LABEL_CHARACTERS = 60


def landscape_figure(found: Verdict, landscapes: Mapping[str, Landscape]) -> Figure | None:
    """Mean energy and forces landscapes of all choices, over directions and seeds; None without any.

    Args:
        found: the verdict on a group.
        landscapes: by run id.
    """
    shown = _with(found, landscapes)
    if not shown:
        return None
    figure = Figure(figsize=(_width(shown), _height(shown)), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for place, (choice, style) in enumerate(_styles(found, shown)):
        curves = [landscapes[run] for run in choice.runs["run_id"] if run in landscapes]
        line = _line(style, place)
        for axes, loss in zip(panels, ("energy", "forces"), strict=True):
            mean = np.mean([getattr(one, loss).mean(axis=0) for one in curves], axis=0)
            axes.plot(curves[0].t, 1000.0 * np.where(mean > 0, mean, np.nan), **line)
    thermal = entropy_settings(found)
    values = (
        ("Energy", "E", "meV/atom", thermal.temperature_energy),
        ("Forces", "F", "meV/Å", thermal.temperature_forces),
    )
    for axes, (name, letter, unit, temperature) in zip(panels, values, strict=True):
        logarithmic(axes, "y", at=(1,))
        axes.axhline(1000.0 * temperature, color="0.35", linestyle=":", linewidth=1)
        axes.annotate(
            f"$T_{letter}$", (1.0, 1000.0 * temperature), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
        axes.set_xlabel("displacement t (norm of the parameters)")
        axes.set_ylabel(f"{name} RMSE, mean over directions ({unit})")
        plain(axes)
    _legend(figure, found, shown)
    return figure


def survival_figure(found: Verdict, replicas: Mapping[str, Replicas]) -> Figure | None:
    """Times to failure as boxes, and Kaplan–Meier curves, replicas of all seeds together; None without any.

    Args:
        found: the verdict on a group.
        replicas: by run id.
    """
    shown = _with(found, replicas)
    if not shown:
        return None
    pooled = [pool([replicas[run] for run in choice.runs["run_id"] if run in replicas]) for choice in shown]
    height = max(_height(shown), 1.4 + 0.27 * len(shown))
    figure = Figure(figsize=(_width(shown), height), layout="constrained")
    boxes, curves = figure.subplots(1, 2)
    styles = _styles(found, shown)
    drawn = boxes.boxplot(
        [one.time for one in pooled],
        orientation="horizontal",
        widths=0.6,
        patch_artist=True,
        showmeans=True,
        medianprops={"color": "black"},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "#606060"},
    )
    for patch, (_, style) in zip(drawn["boxes"], styles, strict=True):
        patch.set(facecolor=style.colour, alpha=0.5)
    boxes.set_yticks(range(1, len(shown) + 1), [_rank(found, choice) for choice in shown])
    boxes.invert_yaxis()
    boxes.set_ylabel("rank")
    boxes.set_xlabel("time to failure or end (ps), ◇ mean")
    for place, ((_, style), one) in enumerate(zip(styles, pooled, strict=True)):
        fit = KaplanMeierFitter().fit(one.time, event_observed=one.failed)
        steps = fit.survival_function_.iloc[:, 0]
        curves.step(steps.index, steps.to_numpy(), where="post", **_line(style, place))
    curves.set_ylim(-0.03, 1.03)
    curves.set_xlabel("time (ps)")
    curves.set_ylabel("fraction of replicas that survive")
    for axes in (boxes, curves):
        axes.set_xlim(left=0)
        plain(axes)
    _legend(figure, found, shown)
    return figure


def prediction_figure(found: Verdict) -> Figure | None:
    """S and forces RMSE, each against time to failure: a choice as its mean, its runs as dots; None for fewer than two.

    Args:
        found: the verdict on a group.
    """
    if found.runs.empty or TIME_TO_FAILURE not in found.runs:
        return None
    forces = pooled_forces(found.runs)
    axis = {
        LOSS_ENTROPY: "loss entropy S (nat)",
        forces: f"forces RMSE, {_set_label(forces)} (meV/Å)",
    }
    present = [name for name in axis if name in found.runs and found.runs[name].notna().any()]
    shown, left_out = beside_time(found)
    if len(shown) < 2 or not present:
        return None
    size = (_width(shown, len(present)), _height(shown) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(present), sharey=True))
    for axes, name in zip(panels, present, strict=True):
        for choice, style in _styles(found, shown):
            x, y = choice.estimates.get(name), choice.estimates[TIME_TO_FAILURE]
            if x is None or not np.isfinite(x.mean):
                continue
            if len(choice.runs) > 1:
                dots = choice.runs
                axes.plot(dots[name], dots[TIME_TO_FAILURE], ".", color=style.colour, alpha=0.5, markersize=5, zorder=1)
            axes.errorbar(
                x.mean,
                y.mean,
                xerr=[[x.stderr], [x.stderr]] if np.isfinite(x.stderr) else None,
                yerr=[[min(y.stderr, y.mean)], [y.stderr]] if np.isfinite(y.stderr) else None,
                color=style.colour,
                marker=style.marker,
                markeredgecolor="white",
                markersize=8,
                elinewidth=1,
            )
        axes.set_xlabel(axis[name])
        plain(axes)
    panels[0].set_ylabel("time to failure (ps), ± standard error")
    told = [f"{label}: {value}" for label, value in correlations_of_choices(found.choices).items()]
    if left_out:
        told.append(not_shown(left_out))
    figure.suptitle("\n".join(told), fontsize=8, x=0.01, ha="left")
    _legend(figure, found, shown, points=True)
    return figure


def beside_time(found: Verdict) -> tuple[list[Choice], list[Choice]]:
    """The choices to draw against their time to failure, and those to leave out.

    Choices that have not learnt lie ten times as far away, and would crowd the others together. Where fewer than two
    have learnt, all are drawn.
    """
    measured = [choice for choice in found.choices if len(choice.of_seeds(TIME_TO_FAILURE))]
    learnt = [choice for choice in measured if choice.learnt]
    if len(learnt) < 2:
        return measured, []
    return learnt, [choice for choice in measured if not choice.learnt]


def not_shown(left_out: Sequence[Choice]) -> str:
    """The choices that a figure leaves out, in words."""
    return f"not shown, since they have not learnt: {', '.join(choice.label for choice in left_out)}"


def pool(replicas: Sequence[Replicas]) -> Replicas:
    """The replicas of several runs as those of one."""
    return Replicas(np.concatenate([one.time for one in replicas]), np.concatenate([one.failed for one in replicas]))


def entropy_settings(found: Verdict) -> EntropySettings:
    """T_E and T_F that the loss entropy of a group was measured with, as far as they are recorded."""
    usual = EntropySettings()
    params: Mapping[str, str] = found.runs["params"].iloc[0] if len(found.runs) else {}
    names = ("temperature_energy", "temperature_forces", "alpha")
    return EntropySettings(
        *(float(params.get(f"measurement.landscape.{name}", getattr(usual, name))) for name in names)
    )


def _with(found: Verdict, measured: Mapping[str, object]) -> list[Choice]:
    """The choices of which at least one run was measured."""
    return [choice for choice in found.choices if set(choice.runs["run_id"]) & set(measured)]


def _styles(found: Verdict, choices: Sequence[Choice]) -> list[tuple[Choice, Style]]:
    """Some choices with their look."""
    known = styles_of(found.choices)
    return [(choice, known[choice.key]) for choice in choices]


def _line(style: Style, place: int) -> dict[str, object]:
    return {"color": style.colour, "linestyle": style.dashes, "linewidth": line_width(style, place)}


def _rank(found: Verdict, choice: Choice) -> str:
    return next(rank for rank, one in zip(ranks(found), found.choices, strict=True) if one is choice)


def _legend(figure: Figure, found: Verdict, choices: Sequence[Choice], *, points: bool = False) -> None:
    """Labels beside the panels, in the order of the table."""
    handles, names, others = [], [], 0
    for choice, style in _styles(found, choices):
        if not style.named:
            others += 1
            continue
        if points:
            handles.append(
                Line2D([], [], color=style.colour, marker=style.marker, linestyle="none", markeredgecolor="white")
            )
        else:
            handles.append(
                Line2D([], [], color=style.colour, linestyle=style.dashes, linewidth=1.7)  # type: ignore[arg-type]
            )
        names.append(f"{_rank(found, choice)}  {_clipped(choice.label)}")
    if others:
        handles.append(Line2D([], [], color=OTHERS, linestyle="-"))
        names.append(f"{others} more")
    figure.legend(handles, names, loc="outside right center", fontsize=8, frameon=False, title="rank, choice")


def _set_label(forces: str) -> str:
    return {RMSE_FORCES_HIGH_T: "high-T test sets", RMSE_FORCES_ALL_T: "all test sets"}.get(forces, "validation")


def _clipped(name: str) -> str:
    """A name without its middle where it is long: the last choice often is what tells runs apart."""
    half = (LABEL_CHARACTERS - 1) // 2
    return name if len(name) <= LABEL_CHARACTERS else f"{name[:half]}…{name[-half:]}"


def _width(choices: Sequence[Choice], panels: int = 2) -> float:
    """Inches for the panels and the longest name beside them."""
    return 3.8 * panels + 0.9 + 0.068 * max(len(_clipped(choice.label)) + 4 for choice in choices)


def _height(choices: Sequence[Choice]) -> float:
    """Inches that leave room for the legend."""
    return max(3.8, 0.6 + 0.19 * min(len(choices), NAMED + 1))
