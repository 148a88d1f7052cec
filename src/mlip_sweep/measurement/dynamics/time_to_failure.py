"""How long molecular dynamics far above the training temperature stays physical: PROTOCOL "MD time-to-failure".

Vita & Schwalbe-Koda, Mach. Learn.: Sci. Technol. 4 (2023) 035031, https://doi.org/10.1088/2632-2153/acf115.
"""

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlip_sweep import keys
from mlip_sweep.data.frames import Dataset, Frame
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.control import reference_control
from mlip_sweep.measurement.dynamics.failure import Limits, bonds_of, check_start
from mlip_sweep.measurement.dynamics.figures import survival_figure, temperature_figure
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, simulate, starting_geometry
from mlip_sweep.measurement.dynamics.survival import Survival, survival
from mlip_sweep.measurement.dynamics.trajectories import Trajectories, write_extxyz
from mlip_sweep.measurement.evaluation import ForceField
from mlip_sweep.measurement.interface import Report, checked_by


def check_protocol(dataset: Dataset, trajectory_every: int | None = None, **settings: Any) -> None:
    """Refuse a protocol that cannot work, or whose start has failed already; settings as of `time_to_failure`.

    Raises:
        InputError: naming the setting.
    """
    names = {field.name for field in fields(MDProtocol)}
    protocol = MDProtocol(**{name: value for name, value in settings.items() if name in names})
    start = starting_geometry(dataset)
    check_start(start, protocol.limits(start))
    if trajectory_every is not None and trajectory_every < 1:
        raise InputError(f"measurement.stability.trajectory_every={trajectory_every}: give 1 or more steps, or null")


@checked_by(check_protocol)
def time_to_failure(
    model: ForceField,
    dataset: Dataset,
    *,
    skin_A: float = 2.0,
    max_atoms: int = 4096,
    trajectory_every: int | None = None,
    control_replicas: int = 0,
    cache: str | Path = "~/.cache/mlip-sweep",
    progress: bool = True,
    **protocol: Any,
) -> Report:
    """Simulate replicas from the lowest-energy training geometry until they fail, and analyse when they do.

    Args:
        model: left in the mode it was in.
        dataset: gives the start, and the reference for the control.
        skin_A: of the neighbour list; it changes the speed only.
        max_atoms: that the model is shown at once, of all replicas.
        trajectory_every: steps between frames of the trajectories, which are kept as extended xyz; None keeps none.
        control_replicas: replicas of the reference method under the same protocol, where the data set has its
            reference at hand; 0 for none.
        cache: folder where the control is kept.
        progress: show a progress bar.
        **protocol: settings of the experiment, see `MDProtocol`.

    Raises:
        InputError: a setting that cannot work, a start that has failed already, or a reference that is not installed.
    """
    settings = MDProtocol(**protocol)
    start = starting_geometry(dataset)
    found = simulate(
        model,
        start,
        settings,
        skin_A=skin_A,
        max_atoms=max_atoms,
        trajectory_every=trajectory_every,
        progress=progress,
    )
    timestep_ps = settings.timestep_fs / 1000.0
    times = found.last_time_ps(settings.timestep_fs)
    analysis = survival(times, found.failed, duration_ps=settings.n_steps * timestep_ps, timestep_ps=timestep_ps)
    limits = settings.limits(start)
    report = Report(
        metrics=_metrics(analysis, found, settings, limits),
        arrays={
            "time_fs": found.time_fs,
            "temperature_K": found.temperature,
            "potential_energy_eV": found.potential_energy,
        },
        tables={
            "replicas": pd.DataFrame(
                {
                    "replica": np.arange(settings.replicas),
                    "time_ps": times,
                    "failed": found.failed,
                    "reason": found.reason,
                    "seed": settings.seed,
                }
            ),
            "criteria": pd.DataFrame(
                [(reason, limits.described(reason), found.reason.count(reason)) for reason in limits.reasons],
                columns=["criterion", "limit", "failures"],
            ),
            "survival": analysis.curve.reset_index(),
        },
        figures={
            "survival": survival_figure(analysis, settings),
            "temperature": temperature_figure(found, settings),
        },
        files={
            f"trajectories/replica_{k:02d}.xyz": partial(
                write_extxyz, start=start, found=found, replica=k, timestep_fs=settings.timestep_fs
            )
            for k in range(settings.replicas)
            if trajectory_every is not None
        },
        notes=_notes(analysis, start, dataset, settings, limits),
    )
    if control_replicas and dataset.reference is not None:
        control = reference_control(dataset, settings, control_replicas, cache=Path(cache), progress=progress)
        report.metrics[keys.MD_CONTROL_SURVIVAL] = control.survival_fraction
        if control.survival_fraction < 1.0:
            lost = sum(reason != "" for reason in control.reason)
            report.notes.append(
                f"the reference itself fails in {lost} of {control_replicas} replicas: "
                "this system is no test of a model"
            )
    return report


def _metrics(analysis: Survival, found: Trajectories, protocol: MDProtocol, limits: Limits) -> dict[str, float]:
    late = found.temperature[found.time_fs >= 500.0 * protocol.duration_ps]
    return {
        keys.MD_TIME_TO_FAILURE: analysis.restricted_mean,
        keys.MD_TIME_TO_FAILURE_LOW: analysis.low,
        keys.MD_TIME_TO_FAILURE_HIGH: analysis.high,
        keys.MD_TIME_TO_FAILURE_PAPER: analysis.paper_mean,
        keys.MD_SURVIVAL_FRACTION: analysis.fraction,
        keys.MD_DURATION: protocol.n_steps * protocol.timestep_fs / 1000.0,
        keys.MD_TEMPERATURE: float(np.nanmean(late)) if np.isfinite(late).any() else float("nan"),
        **{keys.md_failures(reason): float(found.reason.count(reason)) for reason in limits.reasons},
    }


def _notes(analysis: Survival, start: Frame, dataset: Dataset, protocol: MDProtocol, limits: Limits) -> list[str]:
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
    if limits == Limits(protocol.max_bond_A) and not len(bonds_of(start)):
        notes.append("the starting geometry has no bonds: only numbers that are not finite count as failures")
    if len({tuple(sorted(frame.atomic_numbers.tolist())) for frame in dataset.train_clean}) > 1:
        notes.append(f"training frames differ in composition: started from the lowest energy per atom, {start.origin}")
    return notes
