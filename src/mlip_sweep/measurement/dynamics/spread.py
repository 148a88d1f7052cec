"""How the spread of a committee's forces rises before its dynamics fails.

The spread of a replica is that of the atom where the members of the committee disagree most
(`mlip_sweep.models.committee`). Replicas fail at times of their own, so they are put together by the time that is left
to each until it fails.
"""

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip_sweep.measurement.axes import plain_ticks
from mlip_sweep.measurement.dynamics.figures import FAINT, MODEL, TARGET

SHARE: Final = 0.5  # of the replicas that failed: times that fewer of them reach back to are left out


def until_failure(
    time_fs: NDArray[np.float64], spread: NDArray[np.float64], failed_at_fs: NDArray[np.float64]
) -> pd.DataFrame:
    """The spread of each replica by the time that was left to it.

    Args:
        time_fs: When the spread was sampled, (K,) fs, at equal intervals.
        spread: Of R replicas, (K, R) eV/Å; NaN from a replica's failure on.
        failed_at_fs: When each of them failed, (R,) fs; NaN for one that survived.

    Returns:
        A column a replica that failed, by its number, eV/Å. The index, `before_failure_fs`, holds ends of intervals: a
        value at 6 fs was sampled at most 6 fs before the failure, and further back than the value before it.
    """
    failed = np.flatnonzero(np.isfinite(failed_at_fs))
    interval = time_fs[1] - time_fs[0] if len(time_fs) > 1 else np.nan
    # Rounded, so that a sample at exactly one interval before the failure belongs to the first.
    places = np.ceil(np.round((failed_at_fs[failed] - time_fs[:, None]) / interval, 6))  # (K, F), from 1
    columns = {}
    for replica, place in zip(failed, places.T, strict=True):
        known = np.isfinite(spread[:, replica]) & (place >= 1)
        columns[int(replica)] = pd.Series(spread[known, replica], index=place[known] * interval, dtype=float)
    table = pd.DataFrame(columns).sort_index()
    table.index.name = "before_failure_fs"
    return table[table.notna().sum(axis=1) >= SHARE * len(failed)]


def spread_table(aligned: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles over replicas, eV/Å, and how many there are, at each time before the failure, fs."""
    return pd.DataFrame(
        {
            "median_eV_A": aligned.median(axis=1),
            "low_quartile_eV_A": aligned.quantile(0.25, axis=1),
            "high_quartile_eV_A": aligned.quantile(0.75, axis=1),
            "replicas": aligned.notna().sum(axis=1),
        }
    ).reset_index()


def spread_figure(aligned: pd.DataFrame, typical: float) -> Figure:
    """Spread of every replica, and the median over them, against the time before its failure.

    Args:
        aligned: As `until_failure` returns it, with at least one value.
        typical: Median over the whole dynamics of all replicas, eV/Å.
    """
    figure = Figure(figsize=(5.0, 3.4))
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.14, top=0.97)
    axes = figure.subplots()
    time_ps = aligned.index.to_numpy() / 1000.0
    axes.plot(time_ps, aligned.to_numpy(), color=FAINT, linewidth=0.5, alpha=0.6, rasterized=True)
    axes.plot(time_ps, aligned.median(axis=1), color=MODEL, linewidth=1.6, label="median over replicas")
    axes.axhline(typical, color=TARGET, linewidth=1.0, linestyle="--", label="median of the whole dynamics")
    axes.set(
        xlim=(time_ps.max(), 0.0),
        yscale="log",
        xlabel="time before failure (ps)",
        ylabel="largest spread of an atom's force (eV/Å)",
    )
    plain_ticks(axes.yaxis)
    axes.locator_params(axis="x", nbins=5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", fontsize="small", frameon=False)
    return figure
