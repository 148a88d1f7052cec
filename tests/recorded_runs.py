"""Runs as a sweep would record them, from models made of two numbers: error at the minimum and width of the valley."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from mlip_sweep.comparison.runs import Landscape, Replicas, runs_table
from mlip_sweep.comparison.verdict import verdict
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T, rmse_forces
from mlip_sweep.measurement.dynamics.survival import survival
from mlip_sweep.measurement.dynamics.time_to_failure import (
    SURVIVAL_FRACTION,
    TIME_TO_FAILURE,
    TIME_TO_FAILURE_HIGH,
    TIME_TO_FAILURE_LOW,
)
from mlip_sweep.measurement.interface import Report
from mlip_sweep.measurement.landscape.entropy import EntropySettings, entropy_of
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR
from mlip_sweep.tracking.read import StoredRun
from mlip_sweep.tracking.run import record

DURATION = 6.0  # ps


def landscape_report(error, width, seed):
    """Valleys sqrt(error² + (t/width)²), of slightly different widths along the directions."""
    t = np.linspace(-0.25, 0.25, 81)
    widths = width * np.random.default_rng(seed).uniform(0.8, 1.25, (8, 1))
    forces = np.sqrt(error**2 + (t / widths) ** 2)  # eV/Å
    energy = 0.1 * forces  # eV/atom
    found = entropy_of(energy, forces, EntropySettings())
    metrics = {LOSS_ENTROPY: found.total, LOSS_ENTROPY_STDERR: found.total_stderr}
    return Report(metrics=metrics, arrays={"t": t, "energy": energy, "forces": forces})


def accuracy_report(error):
    """Forces errors that grow with temperature, from `error` eV/Å at 300 K."""
    rmse = {"300K": 1000 * error, "600K": 1600 * error, "1200K": 3000 * error}
    metrics = {rmse_forces(label): value for label, value in rmse.items()}
    return Report(metrics={**metrics, RMSE_FORCES_HIGH_T: float(np.hypot(1600, 3000) * error / np.sqrt(2))})


def stability_report(times):
    """Replicas that fail at `times`, or are censored at the end."""
    times = np.asarray(times, float)
    failed = times < DURATION
    times = np.minimum(times, DURATION)
    found = survival(times, failed, duration_ps=DURATION, timestep_ps=0.001)
    metrics = {
        TIME_TO_FAILURE: found.restricted_mean,
        TIME_TO_FAILURE_LOW: found.low,
        TIME_TO_FAILURE_HIGH: found.high,
        SURVIVAL_FRACTION: found.fraction,
    }
    table = pd.DataFrame({"replica": range(len(times)), "time_ps": times, "failed": failed, "reason": ""})
    return Report(metrics=metrics, tables={"replicas": table})


def record_run(uri, experiment, name, error, width, times, parent=None, params=None, seed=0):
    """One finished run; its id."""
    with record(uri=uri, experiment=experiment, name=name, params=params or {}, parent_run_id=parent) as rec:
        with rec.phase("train"):
            pass
        rec.report("landscape", landscape_report(error, width, seed))
        rec.report("accuracy", accuracy_report(error))
        rec.report("stability", stability_report(times))
    return rec.run_id


def stored(run_id, params, metrics, tags=None, status="FINISHED"):
    """A run as it is read back."""
    params = {name: str(value) for name, value in params.items()}
    return StoredRun(run_id, run_id, status, datetime.now(UTC), params, dict(metrics), dict(tags or {}))


def verdict_of(models, seeds=(0,)):
    """The verdict on made-up runs.

    Args:
        models: label to a function from the seed to (error eV/Å, width, times ps); times may be None.
        seeds: that each is trained with.
    """
    runs, landscapes, replicas = [], {}, {}
    for label, of_seed in models.items():
        for seed in seeds:
            error, width, times = of_seed(seed)
            run_id = f"{label}-{seed}"
            landscape = landscape_report(error, width, 1)
            metrics = landscape.metrics | accuracy_report(error).metrics
            landscapes[run_id] = Landscape(**landscape.arrays)
            if times is not None:
                stability = stability_report(times)
                metrics |= stability.metrics
                table = stability.tables["replicas"]
                replicas[run_id] = Replicas(table["time_ps"].to_numpy(), table["failed"].to_numpy())
            params = {"model": label, "seed": seed, "seeds.model": seed, "seeds.order": seed}
            runs.append(stored(run_id, params, metrics))
    return verdict(runs_table(runs), replicas), landscapes, replicas
