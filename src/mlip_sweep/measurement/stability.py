"""How long molecular dynamics far above the training temperature stays physical: PROTOCOL "MD time-to-failure".

Vita & Schwalbe-Koda, Mach. Learn.: Sci. Technol. 4 (2023) 035031, https://doi.org/10.1088/2632-2153/acf115.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlip_sweep import keys
from mlip_sweep.data.frames import Dataset, Frame
from mlip_sweep.measurement.control import reference_control
from mlip_sweep.measurement.dynamics import REASONS, Trajectories, bonds_of
from mlip_sweep.measurement.evaluation import ForceField
from mlip_sweep.measurement.interface import Report, checked_by
from mlip_sweep.measurement.md_protocol import MDProtocol, simulate, starting_geometry
from mlip_sweep.measurement.plots_stability import survival_figure, temperature_figure
from mlip_sweep.measurement.survival import Survival, survival


def check_protocol(dataset: Dataset, **settings: Any) -> None:
    """Refuse a protocol that cannot work, or whose start has failed already; settings as of `time_to_failure`.

    Raises:
        InputError: naming the setting.
    """
    names = {field.name for field in fields(MDProtocol)}
    protocol = MDProtocol(**{name: value for name, value in settings.items() if name in names})
    bonds_of(starting_geometry(dataset), protocol.max_bond_A)


@checked_by(check_protocol)
def time_to_failure(
    model: ForceField,
    dataset: Dataset,
    *,
    temperature_K: float = 1600.0,
    duration_ps: float = 6.0,
    timestep_fs: float = 1.0,
    thermostat_fs: float = 250.0,
    replicas: int = 30,
    max_bond_A: float = 2.0,
    velocities: str = "maxwell",
    seed: int = 0,
    skin_A: float = 2.0,
    control_replicas: int = 0,
    cache: str | Path = "~/.cache/mlip-sweep",
    progress: bool = True,
) -> Report:
    """Simulate replicas from the lowest-energy training geometry until they fail, and analyse when they do.

    Args:
        model: left in the mode it was in.
        dataset: gives the start, and the reference for the control.
        temperature_K: of the Berendsen thermostat.
        duration_ps: where replicas are censored.
        timestep_fs: fs.
        thermostat_fs: the thermostat's time constant.
        replicas: how many.
        max_bond_A: a bond of the starting geometry longer than this is a failure.
        velocities: "maxwell" or "paper" (see `MDProtocol`).
        seed: of the velocities.
        skin_A: of the neighbour list; it changes the speed only.
        control_replicas: replicas of the reference method under the same protocol, where the data set has its
            reference at hand; 0 for none.
        cache: folder where the control is kept.
        progress: show a progress bar.

    Raises:
        InputError: a setting that cannot work, a start that has failed already, or a reference that is not installed.
    """
    protocol = MDProtocol(
        temperature_K, duration_ps, timestep_fs, thermostat_fs, replicas, max_bond_A, velocities, seed
    )
    start = starting_geometry(dataset)
    found = simulate(model, start, protocol, skin_A=skin_A, progress=progress)
    times = found.last_time_ps(timestep_fs)
    analysis = survival(
        times, found.failed, duration_ps=protocol.n_steps * timestep_fs / 1000.0, timestep_ps=timestep_fs / 1000.0
    )
    report = Report(
        metrics=_metrics(analysis, found, protocol),
        arrays={
            "time_fs": found.time_fs,
            "temperature_K": found.temperature,
            "potential_energy_eV": found.potential_energy,
        },
        tables={
            "replicas": pd.DataFrame(
                {
                    "replica": np.arange(replicas),
                    "time_ps": times,
                    "failed": found.failed,
                    "reason": found.reason,
                    "seed": seed,
                }
            ),
            "survival": analysis.curve.reset_index(),
        },
        figures={
            "survival": survival_figure(analysis, protocol),
            "temperature": temperature_figure(found, protocol),
        },
        notes=_notes(analysis, start, dataset, protocol),
    )
    if control_replicas and dataset.reference is not None:
        control = reference_control(dataset, protocol, control_replicas, cache=Path(cache), progress=progress)
        report.metrics[keys.MD_CONTROL_SURVIVAL] = control.survival_fraction
        if control.survival_fraction < 1.0:
            lost = sum(reason != "" for reason in control.reason)
            report.notes.append(
                f"the reference itself fails in {lost} of {control_replicas} replicas: "
                "this system is no test of a model"
            )
    return report


def _metrics(analysis: Survival, found: Trajectories, protocol: MDProtocol) -> dict[str, float]:
    late = found.temperature[found.time_fs >= 500.0 * protocol.duration_ps]
    return {
        keys.MD_TIME_TO_FAILURE: analysis.restricted_mean,
        keys.MD_TIME_TO_FAILURE_LOW: analysis.low,
        keys.MD_TIME_TO_FAILURE_HIGH: analysis.high,
        keys.MD_TIME_TO_FAILURE_PAPER: analysis.paper_mean,
        keys.MD_SURVIVAL_FRACTION: analysis.fraction,
        keys.MD_DURATION: protocol.n_steps * protocol.timestep_fs / 1000.0,
        keys.MD_TEMPERATURE: float(np.nanmean(late)) if np.isfinite(late).any() else float("nan"),
        **{keys.md_failures(reason): float(found.reason.count(reason)) for reason in REASONS},
    }


def _notes(analysis: Survival, start: Frame, dataset: Dataset, protocol: MDProtocol) -> list[str]:
    notes = []
    if protocol.velocities == "paper":
        notes.append(
            "replicas share one start at rest and differ by rounding only: "
            "the interval, which is for independent draws, does not hold"
        )
    if analysis.conservative:
        notes.append(
            f"all {protocol.replicas} replicas end at the same time: "
            "the interval is the widest that this allows, not an estimate"
        )
    if not len(bonds_of(start, protocol.max_bond_A)):
        notes.append("the starting geometry has no bonds: only numbers that are not finite count as failures")
    if len({tuple(sorted(frame.atomic_numbers.tolist())) for frame in dataset.train_clean}) > 1:
        notes.append(f"training frames differ in composition: started from the lowest energy per atom, {start.origin}")
    return notes
