"""What a comparison says in words; where the measures disagree, it says so."""

from itertools import combinations

import numpy as np
import pandas as pd

from mlip_sweep.comparison.statistics import Correlation, correlation
from mlip_sweep.comparison.tables import LOG_RANK, pooled_forces
from mlip_sweep.measurement.dynamics.time_to_failure import SURVIVAL_FRACTION, TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR

SIGNIFICANT = 0.05


def correlations(table: pd.DataFrame) -> dict[str, Correlation]:
    """How S and the forces RMSE each go with time-to-failure, and with one another, over the finished runs."""
    finished = table[table["status"] == "FINISHED"]
    forces = pooled_forces(table)
    pairs = {
        "S and time-to-failure": (LOSS_ENTROPY, TIME_TO_FAILURE),
        "forces RMSE and time-to-failure": (forces, TIME_TO_FAILURE),
        "S and forces RMSE": (LOSS_ENTROPY, forces),
    }
    return {label: correlation(finished[x], finished[y]) for label, (x, y) in pairs.items() if {x, y} <= set(finished)}


def findings(table: pd.DataFrame) -> list[str]:
    """One line each, from the table of `summarise`."""
    finished = table[table["status"] == "FINISHED"]
    lines = [*_favourites(finished), *_disagreement(finished), *_indistinguishable(finished), *_survivors(finished)]
    lines += [f"{label}: {found}" for label, found in correlations(table).items() if found.n >= 3]
    lost = table[table["status"] != "FINISHED"]
    if len(lost):
        counts = ", ".join(f"{count} {status}" for status, count in lost["status"].value_counts().items())
        lines.append(f"{len(lost)} of {len(table)} runs did not finish ({counts}) and are not ranked")
    return lines


def _favourites(finished: pd.DataFrame) -> list[str]:
    measures = {
        "longest time-to-failure": (TIME_TO_FAILURE, "idxmax"),
        "lowest forces RMSE": (pooled_forces(finished), "idxmin"),
        "highest S": (LOSS_ENTROPY, "idxmax"),
    }
    best = {}
    for label, (name, which) in measures.items():
        if name in finished and finished[name].notna().sum() >= 2:
            best[label] = _known_as(finished.loc[getattr(finished[name], which)()])
    if not best:
        return []
    if len(set(best.values())) == 1:
        return [f"{', '.join(best)}: {next(iter(best.values()))}" + (" (they agree)" if len(best) > 1 else "")]
    return ["the measures do not choose the same run: " + "; ".join(f"{label}: {name}" for label, name in best.items())]


def _disagreement(finished: pd.DataFrame) -> list[str]:
    """Pairs of runs that S and the forces RMSE put in opposite orders."""
    forces = pooled_forces(finished)
    if not {LOSS_ENTROPY, forces} <= set(finished):
        return []
    known = finished.dropna(subset=[LOSS_ENTROPY, forces])
    if len(known) < 2:
        return []
    entropy, rmse = known[LOSS_ENTROPY].to_numpy(), known[forces].to_numpy()
    stderr = known[LOSS_ENTROPY_STDERR].to_numpy() if LOSS_ENTROPY_STDERR in known else np.zeros(len(known))
    stderr = np.nan_to_num(stderr)
    pairs = list(combinations(range(len(known)), 2))
    opposite = [(i, j) for i, j in pairs if (entropy[i] - entropy[j]) * (rmse[i] - rmse[j]) > 0]
    if not opposite:
        return [f"S and the forces RMSE agree on the order of the runs (pairs compared: {len(pairs)})"]
    clear = sum(abs(entropy[i] - entropy[j]) > 2 * np.hypot(stderr[i], stderr[j]) for i, j in opposite)
    return [
        f"S and the forces RMSE disagree on {len(opposite)} of {len(pairs)} pairs of runs; "
        f"in {clear} of them S differs by more than two standard errors"
    ]


def _indistinguishable(finished: pd.DataFrame) -> list[str]:
    close = finished.loc[finished[LOG_RANK] >= SIGNIFICANT, "rank"]
    if close.empty:
        return []
    ranks = ", ".join(f"#{rank}" for rank in close)
    return [f"survival does not tell {ranks} from #1 (log-rank p ≥ {SIGNIFICANT}, not corrected for several runs)"]


def _known_as(row: pd.Series) -> str:
    return f"#{row['rank']} ({row['name']})"


def _survivors(finished: pd.DataFrame) -> list[str]:
    if SURVIVAL_FRACTION not in finished:
        return []
    whole = int((finished[SURVIVAL_FRACTION] == 1.0).sum())
    if whole < 2:
        return []
    return [
        f"in {whole} runs every replica survived, so their time-to-failure is a lower bound and does not order them: "
        "measure longer or hotter"
    ]
