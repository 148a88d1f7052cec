"""Figure of predictions against labels."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip_sweep.data.frames import Frame

Predicted = tuple[Sequence[Frame], NDArray[np.float64], NDArray[np.float64]]
MAX_POINTS = 4000  # of one set in one panel; more only make the file larger


def parity_figure(sets: Mapping[str, Predicted]) -> Figure:
    """Energy per atom and force components, predicted against labelled, one colour a set.

    Args:
        sets: label to frames, energies (S,) eV and forces (N, 3) eV/Å. Energies are shown above the lowest label.
    """
    figure = Figure(figsize=(8.0, 4.2))
    figure.subplots_adjust(left=0.085, right=0.99, bottom=0.12, top=0.93, wspace=0.19)
    energy_axes, forces_axes = figure.subplots(1, 2)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(sets)))
    lowest = min(frame.energy / len(frame) for frames, _, _ in sets.values() for frame in frames)
    # The last sets, the hottest, spread the widest: drawn first, they do not hide the others.
    for order, ((label, (frames, energies, forces)), colour) in enumerate(zip(sets.items(), colours, strict=True)):
        atoms = np.array([len(frame) for frame in frames])
        labels = np.array([frame.energy for frame in frames])
        style = {"color": colour, "s": 6, "alpha": 0.6, "linewidths": 0, "zorder": 3 - 0.1 * order}
        per_atom = 1000 * (labels / atoms - lowest), 1000 * (energies / atoms - lowest)
        components = np.concatenate([frame.forces for frame in frames]).ravel(), forces.ravel()
        _scatter(energy_axes, *per_atom, {**style, "label": f"{label}: {_rms(*per_atom):.1f} meV/atom"})
        _scatter(forces_axes, *components, {**style, "label": f"{label}: {1000 * _rms(*components):.0f} meV/Å"})
    energy_axes.set(xlabel="energy label (meV/atom above the lowest)", ylabel="prediction (meV/atom)", title="energy")
    forces_axes.set(xlabel="force label (eV/Å)", ylabel="prediction (eV/Å)", title="forces")
    for axes in (energy_axes, forces_axes):
        axes.axline((0, 0), slope=1, color="black", linewidth=0.8, zorder=4)
        low, high = (f(*axes.get_xlim(), *axes.get_ylim()) for f in (min, max))
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.spines[["top", "right"]].set_visible(False)
        legend = axes.legend(
            markerscale=2.5, fontsize="small", frameon=False, loc="upper left", title="RMSE", alignment="left"
        )
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)
    return figure


def _rms(labels: NDArray[np.float64], predictions: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((predictions - labels) ** 2)))


def _scatter(axes: Axes, labels: NDArray[np.float64], predictions: NDArray[np.float64], style: dict) -> None:
    every = max(1, len(labels) // MAX_POINTS)
    axes.scatter(labels[::every], predictions[::every], rasterized=True, **style)
