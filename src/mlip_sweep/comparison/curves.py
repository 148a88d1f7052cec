"""How choices change along an axis that a sweep varies: the number of training frames, label noise, or temperature.

Figures 1a, 1b and 5 of doi:10.1088/2632-2153/acf115. Choices that differ in the axis alone are one curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlip_sweep.comparison.choices import choice_of, labels
from mlip_sweep.comparison.statistics import Estimate, estimate, learning_slope
from mlip_sweep.comparison.style import COLOURS, MARKERS, logarithmic, plain
from mlip_sweep.comparison.verdict import Verdict
from mlip_sweep.measurement.accuracy import (
    EXTRAPOLATION_SLOPE,
    RMSE_FORCES_ALL_T,
    TRAIN,
    TRAIN_CLEAN,
    rmse_forces,
)
from mlip_sweep.measurement.landscape.loss_entropy import UNEXPLAINED_FORCES
from mlip_sweep.models.targets import ENERGY

N_TRAIN: Final = "dataset.n_train"
FORCES_NOISE: Final = "dataset.noise.forces_sigma"
ENERGY_NOISE: Final = "dataset.noise.energy_sigma"
LITERATURE: Final = Path(__file__).with_name("literature_3bpa.csv")  # published errors on 3BPA, with their sources


@dataclass(frozen=True)
class Curve:
    """Runs that differ in one axis and in their seeds alone.

    Attributes:
        label: what tells it from the other curves.
        runs: with a column `axis`.
    """

    label: str
    runs: pd.DataFrame

    def along(self, metric: str) -> dict[float, Estimate]:
        """A metric over seeds at each value of the axis."""
        known = self.runs.dropna(subset=[metric]) if metric in self.runs else self.runs.iloc[:0]
        values = sorted(set(known["axis"].astype(float)))
        return {value: estimate(known[known["axis"] == value].groupby("seed")[metric].mean()) for value in values}


def curves_of(found: Verdict, axis: str) -> list[Curve]:
    """The curves along a parameter, those with at least two values of it.

    Args:
        found: the verdict on a group.
        axis: the parameter.
    """
    runs = found.runs
    if runs.empty:
        return []
    values = pd.to_numeric(
        pd.Series([params.get(axis) for params in runs["params"]], index=runs.index), errors="coerce"
    )
    runs = runs.assign(axis=values).dropna(subset=["axis"])
    rest = [{name: v for name, v in choice_of(params).items() if name != axis} for params in runs["params"]]
    keys = [tuple(sorted(one.items())) for one in rest]
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    several = {key: places for key, places in groups.items() if runs["axis"].iloc[places].nunique() > 1}
    named = labels([dict(key) for key in several])
    return [Curve(label, runs.iloc[places]) for label, places in zip(named, several.values(), strict=True)]


def learning_slopes(found: Verdict) -> pd.DataFrame:
    """One row a choice that was trained on several numbers of frames.

    Columns: choice, n_train (what it was trained on), seeds, learning_slope (of ln all-T forces RMSE against ln n, the
    mean over seeds), learning_slope_ci95_low, learning_slope_ci95_high.
    """
    rows = []
    for curve in curves_of(found, N_TRAIN):
        slopes = _slopes(curve)
        if not slopes:
            continue
        mean = estimate(list(slopes.values()))
        rows.append(
            {
                "choice": curve.label,
                "n_train": " ".join(f"{n:g}" for n in curve.along(RMSE_FORCES_ALL_T)),
                "seeds": mean.n,
                "learning_slope": mean.mean,
                "learning_slope_ci95_low": mean.low,
                "learning_slope_ci95_high": mean.high,
            }
        )
    return pd.DataFrame(rows)


def with_learning_slopes(found: Verdict) -> pd.DataFrame:
    """The runs on the most frames of each curve, with the learning slope of their seed as a column `learning_slope`."""
    parts = []
    for curve in curves_of(found, N_TRAIN):
        if slopes := _slopes(curve):
            known = curve.runs.dropna(subset=[RMSE_FORCES_ALL_T])
            largest = known[known["axis"] == known["axis"].max()]
            parts.append(largest.assign(learning_slope=largest["seed"].map(slopes)))
    return pd.concat(parts) if parts else pd.DataFrame()


def _slopes(curve: Curve) -> dict[str, float]:
    """The learning slope of each seed; empty where errors on the test sets are not known."""
    if RMSE_FORCES_ALL_T not in curve.runs:
        return {}
    known = curve.runs.dropna(subset=[RMSE_FORCES_ALL_T])
    return {
        str(seed): learning_slope(of_seed["axis"], of_seed[RMSE_FORCES_ALL_T])
        for seed, of_seed in known.groupby("seed")
    }


def slopes_in_words(slopes: pd.DataFrame) -> list[str]:
    """One line for the learning curves, as `learning_slopes` gives them: the steepest."""
    slopes = slopes.dropna()
    if len(slopes) < 2:
        return []
    ordered = slopes.sort_values("learning_slope")
    told = [
        f"{row['choice']} {row['learning_slope']:.2f} [{row['learning_slope_ci95_low']:.2f}, "
        f"{row['learning_slope_ci95_high']:.2f}]"
        for _, row in ordered.iterrows()
    ]
    shown = told if len(told) <= 4 else [*told[:2], "…", *told[-2:]]
    return [f"learning slopes, the steepest first: {'; '.join(shown)}"]


def curve_figures(found: Verdict) -> dict[str, Figure]:
    """By name, the figures that the axes of a group give."""
    figures = {
        "learning_curves": _learning_figure(found),
        "label_noise_forces": _noise_figure(found, FORCES_NOISE),
        "label_noise_energy": _noise_figure(found, ENERGY_NOISE),
        "extrapolation": _extrapolation_figure(found),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _learning_figure(found: Verdict) -> Figure | None:
    curves = [curve for curve in curves_of(found, N_TRAIN) if curve.along(RMSE_FORCES_ALL_T)]
    if not curves:
        return None
    figure, axes = _single()
    for place, curve in enumerate(curves):
        _draw(axes, curve.along(RMSE_FORCES_ALL_T), place, curve.label)
    axes.set(xlabel="training frames", ylabel="forces RMSE, all test sets (meV/Å)")
    logarithmic(axes, "x", "y")
    axes.legend(fontsize="small")
    return figure


def _noise_figure(found: Verdict, axis: str) -> Figure | None:
    """Errors on the training frames against the noise of their labels: noisy and original labels, and the noise."""
    curves = curves_of(found, axis)
    of_forces = axis == FORCES_NOISE
    metric = rmse_forces if of_forces else lambda label: ENERGY.metric("rmse", label)
    curves = [curve for curve in curves if curve.along(metric(TRAIN))]
    if not curves:
        return None
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, label, title in zip(panels, (TRAIN, TRAIN_CLEAN), ("noisy labels", "original labels"), strict=True):
        for place, curve in enumerate(curves):
            points = curve.along(metric(label))
            if label == TRAIN_CLEAN:  # without noise the labels are the original ones
                points = {k: v for k, v in curve.along(metric(TRAIN)).items() if k == 0.0} | points
            _draw(axes, points, place, curve.label)
        axes.set(title=title, xlabel="σ of the noise (standard deviations of the labels)")
    if of_forces and (spread := _forces_spread(curves)) is not None:
        sigma = np.array(sorted({value for curve in curves for value in curve.runs["axis"]}))
        for axes in panels:
            axes.plot(sigma, sigma * spread, "--", color="#606060", linewidth=1, label="the noise itself")
    panels[0].set_ylabel(f"{'forces' if of_forces else 'energy'} RMSE ({'meV/Å' if of_forces else 'meV/atom'})")
    panels[0].legend(fontsize="small")
    return figure


def _forces_spread(curves: Sequence[Curve]) -> float | None:
    """Root mean square of the forces of the original labels, meV/Å, as runs without noise tell it."""
    runs = pd.concat([curve.runs for curve in curves])
    clean = runs[runs["axis"] == 0.0]
    needed = [UNEXPLAINED_FORCES, rmse_forces(TRAIN)]
    if clean.empty or not set(needed) <= set(clean) or clean[needed].isna().all(axis=None):
        return None
    return float((clean[needed[1]] / clean[needed[0]]).median())


def literature() -> pd.DataFrame:
    """Published forces errors on 3BPA after training at 300 K, meV/Å, one row a model, with the slope against T."""
    table = pd.read_csv(LITERATURE)
    temperatures = np.array([300.0, 600.0, 1200.0])
    columns = [rmse_forces(f"{T:.0f}K") for T in temperatures]
    table[EXTRAPOLATION_SLOPE] = [float(np.polyfit(temperatures, row, 1)[0]) for row in table[columns].to_numpy(float)]
    return table


def _extrapolation_figure(found: Verdict) -> Figure | None:
    """Slope of the forces error against T over the error at 300 K; on 3BPA with the literature's models."""
    at_300 = rmse_forces("300K")
    runs = found.runs
    if runs.empty or not {EXTRAPOLATION_SLOPE, at_300} <= set(runs):
        return None
    shown = [
        choice for choice in found.choices if len(choice.of_seeds(at_300)) and len(choice.of_seeds(EXTRAPOLATION_SLOPE))
    ]
    if len(shown) < 2:
        return None
    figure, axes = _single()
    for place, choice in enumerate(shown):
        x, y = (estimate(choice.of_seeds(name)) for name in (at_300, EXTRAPOLATION_SLOPE))
        colour, marker = _look(place)
        axes.errorbar(
            x.mean,
            y.mean,
            xerr=_finite(x.stderr),
            yerr=_finite(y.stderr),
            color=colour,
            marker=marker,
            label=choice.label,
        )
    if any(params.get("dataset.name") == "3bpa" for params in runs["params"]):
        table = literature()
        axes.plot(table[at_300], table[EXTRAPOLATION_SLOPE], "x", color="#606060", label="literature")
        for _, row in table.iterrows():
            axes.annotate(row["model"], (row[at_300], row[EXTRAPOLATION_SLOPE]), fontsize=6, color="#606060")
    axes.set(xlabel="forces RMSE at 300 K (meV/Å)", ylabel="extrapolation slope (meV/Å/K)")
    logarithmic(axes, "x", "y")
    if len(shown) <= len(COLOURS) * 2:
        axes.legend(fontsize="x-small")
    return figure


def _single() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    plain(axes)
    return figure, axes


def _draw(axes: Axes, points: Mapping[float, Estimate], place: int, label: str) -> None:
    colour, marker = _look(place)
    axes.errorbar(
        list(points),
        [one.mean for one in points.values()],
        yerr=[_finite(one.stderr) for one in points.values()],
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=1.2,
        label=label,
    )


def _look(place: int) -> tuple[str, str]:
    return COLOURS[place % len(COLOURS)], MARKERS[(place // len(COLOURS)) % len(MARKERS)][0]


def _finite(value: float) -> float:
    """An error bar of no length where the error is not known."""
    return value if np.isfinite(value) else 0.0
