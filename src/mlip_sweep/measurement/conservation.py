"""How well a potential conserves the energy in dynamics without a thermostat, which needs no label.

A potential whose surface is not smooth on the scale of a timestep gains or loses energy. The ratio is that of the
conservation test of https://github.com/ddmms/ml-peg.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final

import numpy as np
import pandas as pd
from ase import units
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import UNLIMITED
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, initial_momenta, starting_geometry
from mlip_sweep.measurement.evaluation import ForceField
from mlip_sweep.measurement.interface import ForceFieldMeasurement, Report
from mlip_sweep.metrics import SET, Metric
from mlip_sweep.settings import Seed, settings

FEWEST_SAMPLES: Final = 10  # of a replica that was lost on the way; fewer give no slope


LOST_REPLICAS: Final = "nve_lost_replicas"


def drift_ratio(label: str) -> str:
    """Name of the drift ratio at a temperature such as "300K"."""
    return f"nve_drift_ratio_{label}"


def drift(label: str) -> str:
    """Name of the drift of the total energy at a temperature."""
    return f"nve_drift_{label}_meV_atom_ps"


Temperatures = Annotated[
    tuple[PositiveFloat, ...],
    BeforeValidator(lambda value: tuple(map(float, value)) if isinstance(value, list | tuple) else (value,)),
    Field(min_length=1),
]


@settings
class Conservation(ForceFieldMeasurement):
    """Drift of the total energy at constant energy, from the lowest-energy training geometry.

    Drift ratio = |slope of the total energy over time| · duration / standard deviation of the kinetic energy: 1 means
    that the drift is as large as what the kinetic energy fluctuates by. The mean over replicas, with its standard
    error. All temperatures are simulated together, as one batch.

    Args:
        temperatures_K: of the velocities.
        duration_ps: of every replica.
        timestep_fs: the timestep.
        replicas: at each temperature.
        skin_A: of the neighbour list; it changes the speed only.
        max_atoms: that the model is shown at once.
        seed: of the velocities.
        progress: whether to show a progress bar.
    """

    temperatures_K: Temperatures = (300.0, 1600.0)  # noqa: N815 (the unit)
    duration_ps: PositiveFloat = 5.0
    timestep_fs: PositiveFloat = 0.5
    replicas: Annotated[int, Field(ge=2)] = 8
    skin_A: PositiveFloat = 2.0  # noqa: N815
    max_atoms: PositiveInt = 1024
    seed: Seed = 0
    progress: bool = True

    metrics = (
        Metric(drift_ratio(SET), better="lower"),
        Metric(f"{drift_ratio(SET)}_stderr"),
        Metric(drift(SET), "meV/atom/ps", better="lower"),
        Metric(LOST_REPLICAS, better="lower"),
    )

    def records(self, name: str, dataset: Dataset) -> bool:
        """Drifts at the temperatures that are set."""
        labels = [f"{kelvin:g}K" for kelvin in self.temperatures_K]
        at_each = (
            *map(drift_ratio, labels),
            *(f"{drift_ratio(label)}_stderr" for label in labels),
            *map(drift, labels),
        )
        return name in (*at_each, LOST_REPLICAS)

    def __call__(self, model: ForceField, dataset: Dataset) -> Report:
        """Measure a model, which is left in the mode it was in."""
        start = starting_geometry(dataset)
        protocol = MDProtocol(replicas=self.replicas, thermostat="none", seed=self.seed)
        momenta = [initial_momenta(start, replace(protocol, temperature_K=T)) for T in self.temperatures_K]
        n_steps = max(2 * FEWEST_SAMPLES, round(1000.0 * self.duration_ps / self.timestep_fs))
        trajectories = molecular_dynamics(
            model,
            start,
            np.concatenate(momenta),
            n_steps=n_steps,
            timestep_fs=self.timestep_fs,
            limits=UNLIMITED,
            skin_A=self.skin_A,
            max_atoms=self.max_atoms,
            sample_every=max(1, n_steps // 1000),
            progress=self.progress,
            label="constant energy",
        )
        time_ps = trajectories.time_fs / 1000.0
        kinetic = 1.5 * len(start) * units.kB * trajectories.temperature  # (K, R) eV
        total = kinetic + trajectories.potential_energy
        metrics, rows = {}, []
        for place, temperature in enumerate(self.temperatures_K):
            columns = range(place * self.replicas, (place + 1) * self.replicas)
            found = np.array([drifts(time_ps, total[:, k], kinetic[:, k]) for k in columns])  # (R, 2)
            label = f"{temperature:g}K"
            known = found[np.isfinite(found).all(axis=1)]
            n = len(known)
            metrics[drift_ratio(label)] = float(known[:, 1].mean()) if n else float("nan")
            metrics[f"{drift_ratio(label)}_stderr"] = float(known[:, 1].std(ddof=1) / n**0.5) if n > 1 else float("nan")
            metrics[drift(label)] = float(1000.0 * known[:, 0].mean() / len(start)) if n else float("nan")
            rows += [(label, k, *found[k]) for k in range(self.replicas)]
        metrics[LOST_REPLICAS] = float(trajectories.failed.sum())
        return Report(
            metrics=metrics,
            arrays={"time_fs": trajectories.time_fs, "total_energy_eV": total, "kinetic_energy_eV": kinetic},
            tables={"drift": pd.DataFrame(rows, columns=["temperature", "replica", "drift_eV_ps", "drift_ratio"])},
            figures={"total_energy": _figure(time_ps, total / len(start), self.temperatures_K, self.replicas)},
        )


def drifts(
    time_ps: NDArray[np.float64], total: NDArray[np.float64], kinetic: NDArray[np.float64]
) -> tuple[float, float]:
    """|slope| of the total energy (eV/ps), and that times the duration over the scatter of the kinetic energy.

    Args:
        time_ps: (K,).
        total: total energy of one replica, (K,) eV; NaN from where it was lost.
        kinetic: likewise.
    """
    known = np.isfinite(total) & np.isfinite(kinetic)
    if known.sum() < FEWEST_SAMPLES:
        return float("nan"), float("nan")
    t = time_ps[known]
    slope = abs(float(np.polyfit(t - t.mean(), total[known] - total[known][0], 1)[0]))
    scatter = float(kinetic[known].std())
    return slope, slope * float(np.ptp(t)) / scatter if scatter > 0 else float("nan")


def _figure(
    time_ps: NDArray[np.float64], total: NDArray[np.float64], temperatures: Sequence[float], replicas: int
) -> Figure:
    """Total energy of every replica since its start."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, temperature in enumerate(temperatures):
        of_one = total[:, place * replicas : (place + 1) * replicas]
        lines = axes.plot(time_ps, 1000.0 * (of_one - of_one[0]), color=f"C{place}", linewidth=0.8)
        lines[0].set_label(f"{temperature:g} K")
    axes.set(xlabel="time (ps)", ylabel="total energy since the start (meV/atom)")
    axes.legend()
    return figure
