"""Figures of one landscape: lines and planes."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mlip_sweep.measurement.axes import plain_ticks
from mlip_sweep.measurement.landscape.adaptive import SampledLandscape
from mlip_sweep.measurement.landscape.entropy import Entropy, EntropySettings
from mlip_sweep.measurement.landscape.grid import PlaneLosses

ENERGY_COLOR, FORCES_COLOR, STRESS_COLOR = "#0072B2", "#D55E00", "#009E73"


def lines_figure(landscape: SampledLandscape, settings: EntropySettings, entropy: Entropy) -> Figure:
    """Every direction thin, their mean thick, and the thermal error as a line: below it a point counts fully.

    Ticks below the curves show where the lines were evaluated, if not everywhere.
    """
    curves = landscape.curves
    nodes = np.unique([t for line in landscape.lines for t in line.t])
    panels = [
        ("Energy RMSE (meV/atom)", curves.energy, ENERGY_COLOR),
        ("Forces RMSE (meV/Å)", curves.forces, FORCES_COLOR),
    ]
    if curves.stress is not None:
        panels.append(("Stress RMSE (meV/Å³)", curves.stress, STRESS_COLOR))
    figure = Figure(figsize=(4.5 * len(panels), 4))
    figure.subplots_adjust(left=0.15 / len(panels), right=0.99, bottom=0.2, top=0.86, wspace=0.18)
    every = figure.subplots(1, len(panels))
    for axes, (label, losses, color) in zip(every, panels, strict=True):
        axes.set_yscale("log")
        axes.plot(curves.t, 1000 * losses.T, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(curves.t, 1000 * losses.mean(axis=0), color=color, linewidth=2.2, label="mean over directions")
        axes.vlines(nodes, 0.0, 0.03, color="0.2", linewidth=0.8, transform=axes.get_xaxis_transform())
        axes.set_xlabel("t (norm of the parameters)")
        axes.set_ylabel(label)
    entropies = [
        ("E", settings.temperature_energy, entropy.energy, entropy.energy_stderr),
        ("F", settings.temperature_forces, entropy.forces, entropy.forces_stderr),
    ]
    for axes, (symbol, temperature, value, stderr) in zip(every, entropies, strict=False):
        axes.axhline(1000 * temperature, color="0.4", linestyle="--", linewidth=1, label=f"$T_{symbol}$")
        error = "" if np.isnan(stderr) else f" ± {stderr:.2f}"
        axes.set_title(f"$S_{symbol}$ = {value:.2f}{error}", fontsize=11)
    for axes in every:
        plain_ticks(axes.yaxis)
        axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    total_error = "" if np.isnan(entropy.total_stderr) else f" ± {entropy.total_stderr:.2f}"
    figure.suptitle(
        f"Loss landscape: S = {entropy.total:.2f}{total_error}, {len(curves.energy)} directions, "
        f"{len(curves.t)} points, {landscape.evaluations} evaluations"
    )
    return figure


def plane_figure(surface: PlaneLosses) -> Figure:
    """Contours of the energy loss, of the forces loss, and of their sum under other weights (the paper's figure 2b)."""
    figure = Figure(figsize=(20.0, 3.9), layout="constrained")
    sums = [(weight, 1000 * surface.weighted(1.0, weight)) for weight in (0.1, 1.0, 10.0)]
    panels = [
        ("Energy RMSE (meV/atom)", 1000 * surface.energy),
        *((rf"$\ell_E + {weight:g}\,\ell_F$ (meV)", values) for weight, values in sums),
        ("Forces RMSE (meV/Å)", 1000 * surface.forces),
    ]
    for axes, (label, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        finite = values[np.isfinite(values) & (values > 0)]
        levels = np.geomspace(finite.min(), finite.max(), 24)
        drawn = axes.contourf(surface.t, surface.t, values.T, levels=levels, norm=LogNorm(), cmap="viridis")
        axes.plot(0, 0, marker="+", color="white", markersize=9)
        axes.set_title(label, fontsize=11)
        axes.set_xlabel("$t_1$")
        axes.set_ylabel("$t_2$")
        axes.set_aspect("equal")
        ticks = np.geomspace(finite.min(), finite.max(), 5)
        figure.colorbar(
            drawn,
            ax=axes,
            shrink=0.85,
            ticks=ticks,
            format=lambda value, _: f"{value:.2g}" if value < 10 else f"{value:.0f}",
        )
    return figure
