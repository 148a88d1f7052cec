"""The loss entropy under other settings, from what a landscape has stored: nothing is evaluated again."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.interpolate import CubicSpline

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.axes import plain_ticks
from mlip_sweep.measurement.landscape.entropy import Entropy, EntropySettings, entropy_of
from mlip_sweep.measurement.landscape.grid import LineLosses, grid
from mlip_sweep.measurement.landscape.interpolation import Array, from_arrays

FACTORS = np.geomspace(0.25, 4.0, 9)  # on T_E and on T_F
ALPHAS = np.linspace(0.0, 1.0, 11)
WINDOWS = np.linspace(0.2, 1.0, 9)  # parts of the window that was evaluated
N_BOOTSTRAP = 100

Stored = Mapping[str, Array]
"""The arrays of a landscape: t, energy, forces, and of the adaptive method node_t, node_energy, node_forces."""


def reanalyse(
    stored: Stored,
    settings: EntropySettings,
    *,
    points: int | None = None,
    window: float | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Entropy:
    """Entropy of a stored landscape (`landscape/curves.npz` of a run) with other temperatures, weight, window or grid.

    Args:
        stored: the arrays.
        settings: T_E, T_F and α.
        points: of the grid; None for as many as there were.
        window: largest |t|; None for what it was.
        n_bootstrap: resamples for the standard errors.
        seed: of the bootstrap.

    Raises:
        InputError: the window is wider than the one that was evaluated.
    """
    lines = on_grid(stored, points=points, window=window)
    return entropy_of(lines.energy, lines.forces, settings, n_bootstrap=n_bootstrap, seed=seed)


def on_grid(stored: Stored, *, points: int | None = None, window: float | None = None) -> LineLosses:
    """The losses of a stored landscape on another grid; arguments and errors as `reanalyse`.

    From the products that the adaptive method keeps; where every point was evaluated, from splines of the MSE.
    """
    t = stored["t"]
    if points is None and window is None:
        return LineLosses(t, stored["energy"], stored["forces"])
    widest = float(t.max())
    if window is not None and not 0 < window <= widest * (1 + 1e-9):
        raise InputError(f"window={window} of a stored landscape: give a positive number up to {widest:g}, its own")
    new = grid(points or len(t), min(window or widest, widest))
    if "node_t" in stored:
        energy, forces = zip(*(line.rmse(new) for line in from_arrays(stored)), strict=True)
        return LineLosses(new, np.array(energy), np.array(forces))
    return LineLosses(new, _respaced(t, stored["energy"], new), _respaced(t, stored["forces"], new))


def _respaced(t: Array, losses: Array, new: Array) -> Array:
    """(D, G) RMSE on another grid; straight from point to point along a line with lost points."""
    return np.array(
        [
            np.sqrt(np.maximum(CubicSpline(t, loss**2)(new), 0.0))
            if np.isfinite(loss).all()
            else np.interp(new, t, loss)
            for loss in losses
        ]
    )


def sensitivity(stored: Stored, settings: EntropySettings, *, seed: int = 0) -> pd.DataFrame:
    """S against each of its settings in turn, the others as they are.

    Returns:
        Columns varied ("temperature_energy", "temperature_forces", "alpha", "window"), value, S, stderr.
    """
    window = float(stored["t"].max())
    cases: list[tuple[str, float, EntropySettings, float | None]] = []
    for name in ("temperature_energy", "temperature_forces"):
        cases += [(name, v, replace(settings, **{name: v}), None) for v in FACTORS * getattr(settings, name)]
    cases += [("alpha", v, replace(settings, alpha=v), None) for v in ALPHAS]
    cases += [("window", v, settings, v) for v in WINDOWS * window]
    rows = []
    for name, value, changed, smaller in cases:
        entropy = reanalyse(stored, changed, window=smaller, n_bootstrap=N_BOOTSTRAP, seed=seed)
        rows.append((name, float(value), entropy.total, entropy.total_stderr))
    return pd.DataFrame(rows, columns=["varied", "value", "S", "stderr"])


def sensitivity_figure(table: pd.DataFrame, settings: EntropySettings) -> Figure:
    """S against thermal errors, weight and window, with its standard error as a band."""
    figure = Figure(figsize=(11.5, 3.6))
    figure.subplots_adjust(left=0.055, right=0.99, bottom=0.14, top=0.91, wspace=0.04)
    panels = [
        ([("temperature_energy", 1000.0, "$T_E$ (meV/atom)"), ("temperature_forces", 1000.0, "$T_F$ (meV/Å)")], "T"),
        ([("alpha", 1.0, "weight α of the energy")], "alpha"),
        ([("window", 1.0, "window, largest |t|")], "window"),
    ]
    for axes, (curves, kind) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        for (name, unit, label), color in zip(curves, ("#0072B2", "#D55E00"), strict=False):
            part = table[table["varied"] == name]
            used = getattr(settings, name, part["value"].max()) * unit
            axes.fill_between(
                part["value"] * unit, part["S"] - part["stderr"], part["S"] + part["stderr"], color=color, alpha=0.2
            )
            axes.plot(part["value"] * unit, part["S"], color=color, marker="o", markersize=3, label=label)
            axes.axvline(used, color=color, linestyle=":", linewidth=1)
        if kind == "T":
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
            axes.set_xlabel("thermal error")
            axes.legend(frameon=False, fontsize=9)
        else:
            axes.set_xlabel(curves[0][2])
    figure.axes[0].set_ylabel("loss entropy S")
    figure.suptitle("What S depends on; dotted: the values used", fontsize=11)
    return figure
