"""Recorded runs as tables and curves."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlip_sweep.comparison.choices import choice_key, differences, group_of, seed_of, without_later_defaults
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.chosen import declared_by, shipped_measurements
from mlip_sweep.metrics import Metric
from mlip_sweep.tracking.read import SEPARATOR, SUPERSEDED, StoredRun, stored_bytes, stored_runs, stored_sweeps
from mlip_sweep.training.metrics import METRICS

LANDSCAPE = "landscape/curves.npz"
REPLICAS = "stability/replicas.csv"
DESCRIPTION = ("run_id", "name", "status", "error", "started", "group", "choice", "seed", "params")  # not metrics


@dataclass(frozen=True)
class Landscape:
    """Loss along random directions: t (G,) in norms of the parameters, energy (D, G) eV/atom, forces (D, G) eV/Å."""

    t: NDArray[np.float64]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]


@dataclass(frozen=True)
class Replicas:
    """Replicas of an MD measurement: time (R,) ps of the failure or of the end; failed (R,), False where censored."""

    time: NDArray[np.float64]
    failed: NDArray[np.bool_]


def read_runs(uri: str, experiment: str | None = None, parent: str | None = None) -> pd.DataFrame:
    """The runs of a sweep, of an experiment, or of a whole store, as `runs_table` lays them out.

    Raises:
        InputError: no such experiment, or the store does not serve.
    """
    return runs_table(stored_runs(uri, experiment, parent))


def runs_table(runs: Sequence[StoredRun]) -> pd.DataFrame:
    """One row a run, in the order given.

    Columns: run_id, name (what varied among these runs), status (MLflow's, or PRUNED), error, started; group, choice
    and seed (`comparison.choices`) and `params`, a mapping of the parameters that `without_later_defaults` leaves; each
    metric under its own name (NaN where a run has none). Runs of one name are told apart by the beginning of their ids;
    one that was interrupted and gone on with by another is left out.
    """
    params = without_later_defaults(
        [run.params or {"name": run.name} for run in runs]
    )  # without any it is a choice of its own
    rows = [
        {
            "run_id": run.run_id,
            "name": run.name,
            "status": "PRUNED" if "pruned" in run.tags else run.status,
            "error": run.tags.get("pruned", run.tags.get("error", "")),
            "started": run.started,
            "group": group_of(run),
            "choice": choice_key(own),
            "seed": seed_of(run.params),
            "params": own,
            **run.metrics,
        }
        for run, own in zip(runs, params, strict=True)
        if SUPERSEDED not in run.tags  # interrupted, and gone on with by another
    ]
    if not rows:
        return pd.DataFrame(columns=list(DESCRIPTION))
    table = pd.DataFrame(rows)
    table["name"] = _without_shared(list(table["name"]))
    twice = table["name"].duplicated(keep=False)
    table.loc[twice, "name"] = table["name"] + " (" + table["run_id"].str[:6] + ")"
    return table


def group_titles(runs: pd.DataFrame) -> dict[str, str]:
    """What tells the groups of a table of runs apart, in words; "" where there is but one."""
    params = {str(group): rows["params"].iloc[0] for group, rows in runs.groupby("group", sort=False)}
    if len(params) < 2:
        return dict.fromkeys(params, "")
    return dict(zip(params, differences(list(params.values())), strict=True))


def declared_metrics(runs: Sequence[StoredRun] = ()) -> tuple[Metric, ...]:
    """What is known of the metrics of runs: by this program's own declarations, and by those stored with the runs."""
    known = dict.fromkeys((*declared_by(shipped_measurements().values()), *METRICS))
    return tuple(known | dict.fromkeys(metric for run in runs for metric in run.declared))


def last_parent(uri: str, experiment: str | None = None) -> str:
    """The run id of the sweep that was started last, of those that have runs.

    Raises:
        InputError: there is none.
    """
    for sweep in reversed(stored_sweeps(uri, experiment)):
        if stored_runs(uri, experiment, sweep.run_id):
            return sweep.run_id
    raise InputError(f"no sweep in {uri} (experiment {experiment!r}): run one, or compare all runs with --all")


def _without_shared(names: list[str]) -> list[str]:
    """Names such as `mace · s1` without the parts that all of them have."""
    parts = [name.split(SEPARATOR) for name in names]
    shared = set(parts[0]).intersection(*parts)
    return [
        SEPARATOR.join(part for part in split if part not in shared) or name
        for split, name in zip(parts, names, strict=True)
    ]


def read_landscape(uri: str, run_id: str) -> Landscape | None:
    """The landscape that a run has stored; None where it was not measured."""
    content = stored_bytes(uri, run_id, LANDSCAPE)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as curves:
        return Landscape(t=curves["t"], energy=np.atleast_2d(curves["energy"]), forces=np.atleast_2d(curves["forces"]))


def read_replicas(uri: str, run_id: str) -> Replicas | None:
    """The replicas that a run has stored; None where it was not measured."""
    content = stored_bytes(uri, run_id, REPLICAS)
    if content is None:
        return None
    replicas = pd.read_csv(io.BytesIO(content))
    return Replicas(time=replicas["time_ps"].to_numpy(float), failed=replicas["failed"].to_numpy(bool))
