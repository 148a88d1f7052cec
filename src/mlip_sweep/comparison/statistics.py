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
    pearson = interval(pearson_rows(a[chosen], b[chosen]))
    spearman = interval(pearson_rows(stats.rankdata(a[chosen], axis=1), stats.rankdata(b[chosen], axis=1)))
    return Correlation(n, point[0], *pearson, point[1], *spearman)


def pearson_rows(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of each row of (B, P) with the same row of another, NaN where one is constant."""
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    product = (a * b).sum(axis=1)
    # Rounding leaves a constant row with a norm of about 1e-16 of its values, hence not exactly zero.
    constant = norm <= 1e-12 * np.max(norm, initial=0.0)
    return np.where(constant, NAN, product / np.where(constant, 1.0, norm))


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of resamples, those left out that are not finite; NaN where all are."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return NAN, NAN
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, with its uncertainty: NaN for one seed whose measurement has none.

    Attributes:
        mean: over seeds.
        stderr: standard error of the mean.
        low: lower end of its 95 % interval.
        high: upper end.
        spread: standard deviation between seeds; NaN for one seed.
        n: number of seeds.
    """

    mean: float
    stderr: float
    low: float
    high: float
    spread: float
    n: int


NORMAL_95 = float(stats.norm.ppf(0.975))


def estimate(values: ArrayLike, stderrs: ArrayLike | None = None) -> Estimate:
    """The mean over seeds and its uncertainty.

    Each value carries the scatter of its seed and of its own measurement, so Student's t over the values holds both. It
    is never made narrower than the measurements alone would have it, as two values that happen to be alike would.

    Args:
        values: one a seed, (K,).
        stderrs: standard errors of the measurements, (K,), NaN where one is not known; or None.
    """
    x = np.asarray(values, float)
    own = np.full(x.shape, NAN) if stderrs is None else np.asarray(stderrs, float)
    usable = np.isfinite(x)
    x, own = x[usable], own[usable]
    if x.size == 0:
        return Estimate(NAN, NAN, NAN, NAN, NAN, 0)
    mean = float(x.mean())
    measured = float(np.sqrt(np.sum(own**2)) / x.size)
    if x.size == 1:
        return Estimate(mean, measured, mean - NORMAL_95 * measured, mean + NORMAL_95 * measured, NAN, 1)
    spread = float(x.std(ddof=1))
    stderr = float(np.fmax(spread / np.sqrt(x.size), measured))
    half = float(stats.t.ppf(0.975, x.size - 1)) * stderr
    return Estimate(mean, stderr, mean - half, mean + half, spread, int(x.size))


@dataclass(frozen=True)
class Difference:
    """How two choices differ in one measure.

    Attributes:
        mean: of the differences over common seeds.
        low: lower end of its 95 % interval; NaN where no scatter between seeds is known.
        high: upper end.
        p: probability of such a difference between equals; NaN where nothing can be said.
        n: number of common seeds.
        seeds_needed: seeds that would tell a difference of this size with 80 % power; NaN where it is not known.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int
    seeds_needed: float = NAN


OWN_SCATTER = 4  # common seeds from which on a pair's own scatter is better known than that of all pairs together


def paired_differences(
    differences: Sequence[ArrayLike], scores: Sequence[ArrayLike], *, floor: float = 0.0, level: float = 0.05
) -> list[Difference]:
    """Several choices, each against the same one, by what they differ in at common seeds: Student's t.

    From four common seeds on the scatter is the pair's own. With fewer, it is pooled over all pairs, as in a randomised
    block design: two seeds of one pair alone would tell nothing.

    Args:
        differences: for each choice one value a common seed, (K_c,), in the unit that intervals are wanted in.
        scores: the same differences on the scale on which they are tested, (K_c,).
        floor: least standard deviation of a score. 1 for scores that are standard normal where seeds have no influence:
            then the scatter is never taken for less than the measurement's own, which is all there is for one seed.
        level: of significance that `seeds_needed` is for.
    """
    d = [np.asarray(values, float) for values in differences]
    z = [np.asarray(values, float) for values in scores]
    pooled_d, pooled_z = _pooled_scatter(d), _pooled_scatter(z)
    found = []
    for of_choice, tested in zip(d, z, strict=True):
        n = of_choice.size
        if n == 0:
            found.append(Difference(NAN, NAN, NAN, NAN, 0))
            continue
        own = n >= OWN_SCATTER
        scatter, freedom = _pooled_scatter([of_choice]) if own else pooled_d
        scatter_z, freedom_z = _pooled_scatter([tested]) if own else pooled_z
        half = float(stats.t.ppf(0.975, freedom) * scatter / np.sqrt(n)) if freedom else NAN
        mean, mean_z = float(of_choice.mean()), float(tested.mean())
        if not freedom_z or not np.isfinite(scatter_z):  # one seed everywhere
            p = float(2 * stats.norm.sf(abs(mean_z) * np.sqrt(n) / floor)) if floor else NAN
        else:
            spread = max(scatter_z, floor)
            if spread == 0.0:
                p = 1.0 if mean_z == 0.0 else 0.0
            else:
                p = float(2 * stats.t.sf(abs(mean_z) * np.sqrt(n) / spread, freedom_z))
        needed = seeds_needed(mean_z, max(scatter_z, floor), level=level) if freedom_z else NAN
        found.append(Difference(mean, mean - half, mean + half, p, n, needed))
    return found


def _pooled_scatter(samples: Sequence[NDArray[np.float64]]) -> tuple[float, int]:
    """Standard deviation around each sample's own mean, and its degrees of freedom; NaN and 0 without any."""
    freedom = sum(sample.size - 1 for sample in samples if sample.size)
    if freedom == 0:
        return NAN, 0
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples if sample.size)
    return float(np.sqrt(squares / freedom)), freedom


def unpaired_difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """Welch's t between two choices without a common seed; NaN for fewer than two values of one.

    Args:
        a: one value a seed, (K,).
        b: likewise, (L,).
    """
    x, y = (np.asarray(v, float)[np.isfinite(np.asarray(v, float))] for v in (a, b))
    mean = float(x.mean() - y.mean()) if x.size and y.size else NAN
    if min(x.size, y.size) < 2 or (np.ptp(x) == 0.0 and np.ptp(y) == 0.0):
        return Difference(mean, NAN, NAN, NAN, 0)
    found = stats.ttest_ind(x, y, equal_var=False)
    low, high = found.confidence_interval(0.95)
    return Difference(mean, float(low), float(high), float(found.pvalue), 0)


def seeds_needed(difference: float, scatter: float, *, level: float = 0.05, power: float = 0.8) -> float:
    """How many pairs a paired comparison needs to tell a difference.

    Args:
        difference: that is to be told.
        scatter: standard deviation of the differences of single pairs.
        level: of significance.
        power: probability of telling it.

    Returns:
        A whole number, at least 2; infinite for no difference, NaN where one of the numbers is not known.
    """
    if not np.isfinite(difference) or not np.isfinite(scatter):
        return NAN
    if difference == 0.0:
        return float("inf")
    z = stats.norm.ppf(1.0 - level / 2.0) + stats.norm.ppf(power)
    return float(max(2.0, np.ceil((z * scatter / difference) ** 2 + 0.5 * stats.norm.ppf(1.0 - level / 2.0) ** 2)))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Probabilities corrected for their number by Holm's step-down method; NaN stays, and does not count.

    Source: S. Holm, Scand. J. Stat. 6 (1979) 65.
    """
    p = np.asarray(p_values, float)
    corrected = np.full(p.shape, NAN)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - place) * p[index]))
        corrected[index] = running
    return corrected


@dataclass(frozen=True)
class Shares:
    """Parts of the variance between runs, which add to 1.

    Attributes:
        choice: between the means of the choices.
        seed: between the means of the seeds.
        rest: what is left: seeds that suit one choice more than another, and the noise of the measurement.
        choices: number of choices.
        seeds: number of seeds.
    """

    choice: float
    seed: float
    rest: float
    choices: int
    seeds: int


def variance_shares(values: ArrayLike) -> Shares | None:
    """Two-way analysis of variance without repeats: sums of squares as shares of the whole.

    Args:
        values: one row a choice, one column a seed that all of them have, (C, K).

    Returns:
        None for fewer than two choices or seeds, a value that is not finite, or no variance at all.
    """
    x = np.asarray(values, float)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        return None
    total = float(((x - x.mean()) ** 2).sum())
    if total == 0.0:
        return None
    choice = float(x.shape[1] * ((x.mean(axis=1) - x.mean()) ** 2).sum()) / total
    seed = float(x.shape[0] * ((x.mean(axis=0) - x.mean()) ** 2).sum()) / total
    return Shares(choice, seed, max(0.0, 1.0 - choice - seed), x.shape[0], x.shape[1])
