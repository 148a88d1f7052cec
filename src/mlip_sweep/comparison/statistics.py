"""Statistics across runs: slopes of learning curves, and correlations with their uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mlip_sweep.errors import InputError

NAN = float("nan")
FEWEST_FOR_INTERVAL = 5  # resamples of fewer points are hardly different, and their interval far too narrow


@dataclass(frozen=True)
class Correlation:
    """How two columns go together; each interval holds the middle 95 % of the bootstrap. NaN where it is undefined."""

    n: int
    pearson: float
    pearson_low: float
    pearson_high: float
    spearman: float
    spearman_low: float
    spearman_high: float

    def __str__(self) -> str:
        if not np.isfinite(self.pearson):
            return f"correlation undefined (n = {self.n})"
        if not np.isfinite(self.pearson_low):
            few = f"n = {self.n}, too few for intervals"
            return f"Pearson {self.pearson:.2f}, Spearman {self.spearman:.2f}, {few}"
        return (
            f"Pearson {self.pearson:.2f} [{self.pearson_low:.2f}, {self.pearson_high:.2f}], "
            f"Spearman {self.spearman:.2f} [{self.spearman_low:.2f}, {self.spearman_high:.2f}], n = {self.n}"
        )


def learning_slope(n_train: Sequence[float] | ArrayLike, forces_rmse: Sequence[float] | ArrayLike) -> float:
    """Slope of a learning curve: least squares of ln(forces RMSE) against ln(n).

    Args:
        n_train: numbers of training structures, (P,).
        forces_rmse: forces RMSE pooled over the test sets, in any unit, (P,).

    Returns:
        The slope, negative where more data helps; NaN for fewer than two different n.

    Raises:
        InputError: a value is not positive, or the lengths differ.

    Source: fig. 5 of doi:10.1088/2632-2153/acf115. Its text prints the inverse; its published numbers are this slope.
    """
    n, rmse = np.asarray(n_train, float), np.asarray(forces_rmse, float)
    if n.shape != rmse.shape:
        raise InputError(f"learning curve: {n.size} values of n_train but {rmse.size} of the forces RMSE; give pairs")
    usable = np.isfinite(n) & np.isfinite(rmse)
    n, rmse = n[usable], rmse[usable]
    if (n <= 0).any() or (rmse <= 0).any():
        raise InputError(
            f"learning curve: n_train={n.tolist()} with forces RMSE {rmse.tolist()}: give positive numbers"
        )
    if np.unique(n).size < 2:
        return NAN
    return float(stats.linregress(np.log(n), np.log(rmse)).slope)


def correlation(x: ArrayLike, y: ArrayLike, n_bootstrap: int = 2000, seed: int = 0) -> Correlation:
    """Pearson's and Spearman's correlation with bootstrap percentile intervals, over pairs where both are finite.

    Resamples in which one column is constant say nothing and are left out. Fewer than three pairs, or a constant
    column, give NaN; fewer than five give no intervals.

    Args:
        x: (P,).
        y: (P,).
        n_bootstrap: how many resamples of the pairs.
        seed: of the resampling.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    usable = np.isfinite(a) & np.isfinite(b)
    a, b = a[usable], b[usable]
    n = int(a.size)
    if n < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(n, NAN, NAN, NAN, NAN, NAN, NAN)
    point = float(stats.pearsonr(a, b)[0]), float(stats.spearmanr(a, b)[0])
    if n < FEWEST_FOR_INTERVAL:
        return Correlation(n, point[0], NAN, NAN, point[1], NAN, NAN)
    chosen = np.random.default_rng(seed).integers(n, size=(n_bootstrap, n))
    pearson = _interval(_pearson_rows(a[chosen], b[chosen]))
    spearman = _interval(_pearson_rows(stats.rankdata(a[chosen], axis=1), stats.rankdata(b[chosen], axis=1)))
    return Correlation(n, point[0], *pearson, point[1], *spearman)


def _pearson_rows(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of each row of (B, P) with the same row of another, NaN where one is constant."""
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    product = (a * b).sum(axis=1)
    # Rounding leaves a constant row with a norm of about 1e-16 of its values, hence not exactly zero.
    constant = norm <= 1e-12 * np.max(norm, initial=0.0)
    return np.where(constant, NAN, product / np.where(constant, 1.0, norm))


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if values.size == 0:
        return NAN, NAN
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
