"""Figures of the stability measurement."""

import numpy as np
from matplotlib.figure import Figure

from mlip_sweep.measurement.dynamics.protocol import MDProtocol
from mlip_sweep.measurement.dynamics.survival import Survival
from mlip_sweep.measurement.dynamics.trajectories import Trajectories

MODEL, TARGET, FAINT = "#2a5d9f", "#c2572b", "#9db8d9"
WARMING = 2.4  # time constants after which a thermostat has closed nine tenths of the gap


def survival_figure(analysis: Survival, protocol: MDProtocol) -> Figure:
    """Kaplan–Meier curve with its 95 % band, and the restricted mean survival time with its interval."""
    figure = Figure(figsize=(5.0, 3.4))
    figure.subplots_adjust(left=0.12, right=0.98, bottom=0.24, top=0.91)
    axes = figure.subplots()
    curve = analysis.curve
    time = np.append(curve.index.to_numpy(), protocol.duration_ps)
    survived, low, high = (np.append(curve[c].to_numpy(), curve[c].iloc[-1]) for c in ("survival", "low", "high"))
    axes.fill_between(time, low, high, step="post", color=MODEL, alpha=0.18, linewidth=0, label="95 % interval")
    axes.step(time, survived, where="post", color=MODEL, linewidth=1.8, label="Kaplan–Meier estimate")
    axes.errorbar(
        analysis.restricted_mean,
        -0.07,
        xerr=[[analysis.restricted_mean - analysis.low], [analysis.high - analysis.restricted_mean]],
        fmt="o",
        color=TARGET,
        capsize=3,
        markersize=5,
        label=f"restricted mean {analysis.restricted_mean:.3g} ps",
    )
    axes.set(
        xlim=(0.0, 1.02 * protocol.duration_ps),
        ylim=(-0.14, 1.05),
        yticks=np.linspace(0.0, 1.0, 6),
        xlabel="time (ps)",
        ylabel="fraction of replicas intact",
        title=f"{protocol.replicas} replicas at {protocol.temperature_K:g} K",
    )
    axes.locator_params(axis="x", nbins=5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="lower center",
        ncols=3,
        fontsize="small",
        frameon=False,
        columnspacing=1.0,
        handlelength=1.4,
    )
    return figure


def temperature_figure(trajectories: Trajectories, protocol: MDProtocol) -> Figure:
    """Kinetic temperature of every replica until it fails, and the mean over those that are left.

    Velocities are drawn at the target, and half of their energy goes into the stretched bonds at once; until the
    thermostat has brought it back, replicas are colder than the target, and fail at the temperature that they have.
    """
    figure = Figure(figsize=(5.0, 3.4))
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.14, top=0.97)
    axes = figure.subplots()
    time = trajectories.time_fs / 1000.0
    axes.plot(time, trajectories.temperature, color=FAINT, linewidth=0.5, alpha=0.6, rasterized=True)
    alive = np.isfinite(trajectories.temperature).any(axis=1)
    mean = np.nanmean(trajectories.temperature[alive], axis=1)
    axes.plot(time[alive], mean, color=MODEL, linewidth=1.6, label="mean of the intact replicas")
    target = "velocities drawn at" if protocol.thermostat == "none" else "thermostat"
    if protocol.thermostat != "none":
        warm_ps = min(WARMING * protocol.thermostat_fs / 1000.0, protocol.duration_ps)
        axes.axvspan(0.0, warm_ps, color="0.92", zorder=0, label=f"warming up ({WARMING:g} time constants)")
    axes.axhline(protocol.temperature_K, color=TARGET, linewidth=1.0, linestyle="--", label=target)
    axes.set(
        xlim=(0.0, protocol.duration_ps),
        ylim=(0.0, None),
        xlabel="time (ps)",
        ylabel="kinetic temperature (K)",
    )
    axes.locator_params(axis="x", nbins=5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize="small", frameon=False)
    return figure
