"""How long molecular dynamics far above the training temperature stays physical.

Vita & Schwalbe-Koda, Mach. Learn.: Sci. Technol. 4 (2023) 035031, https://doi.org/10.1088/2632-2153/acf115.
"""

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.measurement.dynamics.control import reference_control
from mlip_sweep.measurement.dynamics.failure import Limits, check_start
from mlip_sweep.measurement.dynamics.figures import survival_figure, temperature_figure
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, simulate, starting_geometry
from mlip_sweep.measurement.dynamics.spread import spread_figure, spread_table, until_failure
from mlip_sweep.measurement.dynamics.survival import Survival, survival
from mlip_sweep.measurement.dynamics.trajectories import Trajectories, write_extxyz
from mlip_sweep.measurement.evaluation import ForceField
from mlip_sweep.measurement.interface import ForceFieldMeasurement, Report
from mlip_sweep.metrics import SET, Column, Metric
from mlip_sweep.settings import settings

TIME_TO_FAILURE: Final = "md_time_to_failure_ps"  # restricted mean survival time
TIME_TO_FAILURE_LOW: Final = "md_time_to_failure_ci95_low_ps"
TIME_TO_FAILURE_HIGH: Final = "md_time_to_failure_ci95_high_ps"
TIME_TO_FAILURE_PAPER: Final = "md_time_to_failure_paper_mean_ps"  # survivors count as duration + one timestep
SURVIVAL_FRACTION: Final = "md_survival_fraction"
DURATION: Final = "md_duration_ps"
MEAN_TEMPERATURE: Final = "md_mean_temperature_K"  # over the second half of the duration
CONTROL_SURVIVAL: Final = "md_control_survival_fraction"  # of the reference method itself
# Of a committee alone, at the atom where its members disagree most: in the median of the dynamics, and over replicas in
# the last sample before they fail.
FORCES_SPREAD: Final = "md_forces_spread_meV_A"
FORCES_SPREAD_AT_FAILURE: Final = "md_forces_spread_at_failure_meV_A"


def failures(reason: str) -> str:
    """Name of the number of replicas that failed for one reason, one of `dynamics.failure.REASONS`.

    Recorded for the reasons that were looked for: "position", "energy" and "forces" (not finite) always, the others
    where the protocol asks for them.
    """
    return f"md_failures_{reason}"


@settings
class TimeToFailure(MDProtocol, ForceFieldMeasurement):
    """Simulate replicas from the lowest-energy training geometry until they fail, and analyse when they do.

    Of a committee, how the spread of its forces rises before replicas fail is told too (`dynamics.spread`).

    The settings that determine the experiment are those of `MDProtocol`; to these come:

    Args:
        skin_A: of the neighbour list; it changes the speed only.
        max_atoms: that the model is shown at once, of all replicas.
        trajectory_every: steps between frames of the trajectories, which are kept as extended xyz; None keeps none.
        control_replicas: replicas of the reference method under the same protocol, where the data set has its
            reference at hand; 0 for none.
        cache: folder where the control is kept.
        progress: whether to show a progress bar.
    """

    skin_A: PositiveFloat = 2.0  # noqa: N815 (the unit)
    max_atoms: PositiveInt = 1024
    trajectory_every: PositiveInt | None = None
    control_replicas: NonNegativeInt = 30
    cache: str | Path = "~/.cache/mlip-sweep"
    progress: bool = True

    metrics = (
        Metric(
            TIME_TO_FAILURE,
            "ps",
            better="higher",
            column=Column(
                "to failure\nps [95 %]", form="{:.2f}", priority=5, low=TIME_TO_FAILURE_LOW, high=TIME_TO_FAILURE_HIGH
            ),
            headline="time to failure: {:.3g} ps [{:.3g}, {:.3g}] of {:g} ps",
            headline_with=(TIME_TO_FAILURE_LOW, TIME_TO_FAILURE_HIGH, DURATION),
        ),
        Metric(TIME_TO_FAILURE_LOW, "ps", better="higher"),
        Metric(TIME_TO_FAILURE_HIGH, "ps", better="higher"),
        Metric(TIME_TO_FAILURE_PAPER, "ps", better="higher"),
        Metric(SURVIVAL_FRACTION, better="higher", column=Column("survive", form="{:.0%}", priority=2)),
        Metric(DURATION, "ps"),
        Metric(MEAN_TEMPERATURE, "K"),
        Metric(CONTROL_SURVIVAL),
        Metric(FORCES_SPREAD, "meV/Å", headline="spread of the committee's forces: {:.3g} meV/Å"),
        Metric(FORCES_SPREAD_AT_FAILURE, "meV/Å", headline="spread before a failure: {:.3g} meV/Å"),
        Metric(failures(SET), better="lower"),
    )

    @property
    def protocol(self) -> MDProtocol:
        """The settings that determine the experiment, without those that say how it is run."""
        return MDProtocol(**{field.name: getattr(self, field.name) for field in fields(MDProtocol)})

    def check(self, dataset: Dataset) -> None:
        """Refuse a protocol whose start has failed already, or under which no replica could fail."""
        start = starting_geometry(dataset)
        check_start(start, self.limits(start))

    def records(self, name: str, dataset: Dataset) -> bool:
        """Failures that are looked for; the control where the reference is at hand; of one potential no spread."""
        if name in (FORCES_SPREAD, FORCES_SPREAD_AT_FAILURE):
            return False
        if name == CONTROL_SURVIVAL:
            return bool(self.control_replicas) and dataset.reference is not None
        if name.startswith(failures("")):
            return name in map(failures, self.limits(starting_geometry(dataset)).reasons)
        return super().records(name, dataset)

    def __call__(self, model: ForceField, dataset: Dataset) -> Report:
        """Measure a model, which is left in the mode it was in.

        Raises:
            SettingError: the start has failed already, or no replica could fail.
            InputError: the reference is not installed.
        """
        start = starting_geometry(dataset)
        trajectories = simulate(
            model,
            start,
            self,
            skin_A=self.skin_A,
            max_atoms=self.max_atoms,
            trajectory_every=self.trajectory_every,
            progress=self.progress,
        )
        timestep_ps = self.timestep_fs / 1000.0
        times = trajectories.last_time_ps(self.timestep_fs)
        analysis = survival(times, trajectories.failed, duration_ps=self.n_steps * timestep_ps, timestep_ps=timestep_ps)
        limits = self.limits(start)
        report = Report(
            metrics=_metrics(analysis, trajectories, self, limits),
            arrays={
                "time_fs": trajectories.time_fs,
                "temperature_K": trajectories.temperature,
                "potential_energy_eV": trajectories.potential_energy,
                **({} if trajectories.forces_spread is None else {"forces_spread_eV_A": trajectories.forces_spread}),
            },
            tables={
                "replicas": pd.DataFrame(
                    {
                        "replica": np.arange(self.replicas),
                        "time_ps": times,
                        "failed": trajectories.failed,
                        "reason": trajectories.reason,
                        "seed": self.seed,
                    }
                ),
                "criteria": pd.DataFrame(
                    [
                        (reason, limits.described(reason), trajectories.reason.count(reason))
                        for reason in limits.reasons
                    ],
                    columns=["criterion", "limit", "failures"],
                ),
                "survival": analysis.curve.reset_index(),
            },
            figures={
                "survival": survival_figure(analysis, self),
                "temperature": temperature_figure(trajectories, self),
            },
            files={
                f"trajectories/replica_{k:02d}.xyz": partial(
                    write_extxyz, start=start, trajectories=trajectories, replica=k, timestep_fs=self.timestep_fs
                )
                for k in range(self.replicas)
                if self.trajectory_every is not None
            },
            notes=_notes(analysis, start, dataset, self),
        )
        if trajectories.forces_spread is not None:
            _add_spread(report, trajectories, trajectories.forces_spread, self.timestep_fs)
        if self.control_replicas and dataset.reference is not None:
            control = reference_control(
                dataset, self.protocol, self.control_replicas, cache=Path(self.cache), progress=self.progress
            )
            report.metrics[CONTROL_SURVIVAL] = control.survival_fraction
            if control.survival_fraction < 1.0:
                lost = sum(reason != "" for reason in control.reason)
                report.notes.append(
                    f"the reference itself fails in {lost} of {self.control_replicas} replicas: "
                    "this system is no test of a model"
                )
        return report


def _add_spread(report: Report, trajectories: Trajectories, spread: NDArray[np.float64], timestep_fs: float) -> None:
    """Add to a report how the spread of a committee, (K, R) eV/Å, rises before replicas fail."""
    failed_at = np.where(trajectories.failed, trajectories.last_step * timestep_fs, np.nan)
    aligned = until_failure(trajectories.time_fs, spread, failed_at)
    typical = float(np.nanmedian(spread)) if np.isfinite(spread).any() else float("nan")
    report.metrics[FORCES_SPREAD] = 1000.0 * typical
    if not aligned.empty:
        report.metrics[FORCES_SPREAD_AT_FAILURE] = 1000.0 * float(aligned.iloc[0].median())
        report.tables["spread_before_failure"] = spread_table(aligned)
        report.figures["spread_before_failure"] = spread_figure(aligned, typical)


def _metrics(analysis: Survival, trajectories: Trajectories, protocol: MDProtocol, limits: Limits) -> dict[str, float]:
    late = trajectories.temperature[trajectories.time_fs >= 500.0 * protocol.duration_ps]
    return {
        TIME_TO_FAILURE: analysis.restricted_mean,
        TIME_TO_FAILURE_LOW: analysis.low,
        TIME_TO_FAILURE_HIGH: analysis.high,
        TIME_TO_FAILURE_PAPER: analysis.paper_mean,
        SURVIVAL_FRACTION: analysis.fraction,
        DURATION: protocol.n_steps * protocol.timestep_fs / 1000.0,
        MEAN_TEMPERATURE: float(np.nanmean(late)) if np.isfinite(late).any() else float("nan"),
        **{failures(reason): float(trajectories.reason.count(reason)) for reason in limits.reasons},
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
    if len({tuple(sorted(frame.atomic_numbers.tolist())) for frame in dataset.train_clean}) > 1:
        notes.append(f"training frames differ in composition: started from the lowest energy per atom, {start.origin}")
    return notes
