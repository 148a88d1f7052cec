"""Survival analysis of times to failure that are censored where a simulation ends."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Survival:
    """Summary of R replicas; times in ps.

    Attributes:
        restricted_mean: ∫₀^duration S(t) dt, S the Kaplan–Meier estimate.
        low, high: its 95 % confidence interval.
        conservative: whether the interval is the bound for times that are all the same, see `survival`.
        fraction: of replicas that survived.
        paper_mean: mean over replicas, survivors counted as duration + one timestep.
        curve: index time, columns "survival", "low", "high" (95 %, log–log Greenwood, as lifelines computes it).
    """

    restricted_mean: float
    low: float
    high: float
    conservative: bool
    fraction: float
    paper_mean: float
    curve: pd.DataFrame


def survival(
    times_ps: NDArray[np.float64], failed: NDArray[np.bool_], *, duration_ps: float, timestep_ps: float
) -> Survival:
    """Analyse R times, (R,) ps: of failure where `failed`, else the whole duration.

    Replicas are censored at the end of the simulation only. The restricted mean survival time is then the mean of the
    times, and its interval is Student's. Where all R times are the same their spread says nothing about the spread that
    more replicas would show; then the interval is the widest that agrees with R equal draws: a share of up to
    p = 1 − 0.025^{1/R} of all replicas (Clopper & Pearson, https://doi.org/10.1093/biomet/26.4.404) may fail anywhere
    between 0 and the duration.
    """
    from lifelines import KaplanMeierFitter  # 2.6 s to import, and only needed here
    from lifelines.utils import restricted_mean_survival_time

    fitter = KaplanMeierFitter(label="survival").fit(times_ps, failed)
    mean = float(restricted_mean_survival_time(fitter, t=duration_ps))
    conservative = bool(np.ptp(times_ps) == 0.0)
    if conservative:
        share = 1.0 - 0.025 ** (1.0 / len(times_ps))
        low, high = mean - share * mean, mean + share * (duration_ps - mean)
    else:
        # lifelines' own variance is that of a single time, integrated numerically over a step function.
        error = float(np.std(times_ps, ddof=1) / np.sqrt(len(times_ps)))
        reach = error * float(stats.t.ppf(0.975, len(times_ps) - 1))
        low, high = max(0.0, mean - reach), min(duration_ps, mean + reach)
    curve = fitter.survival_function_.join(fitter.confidence_interval_)
    curve.columns = ["survival", "low", "high"]
    curve.index.name = "time_ps"
    return Survival(
        restricted_mean=mean,
        low=low,
        high=high,
        conservative=conservative,
        fraction=float(np.mean(~failed)),
        paper_mean=float(np.where(failed, times_ps, duration_ps + timestep_ps).mean()),
        curve=curve,
    )


def log_rank(
    times_a: NDArray[np.float64],
    observed_a: NDArray[np.bool_],
    times_b: NDArray[np.float64],
    observed_b: NDArray[np.bool_],
) -> float:
    """Probability, under equal rates, of the log-rank statistic of two models; 1 where neither ever fails.

    Args:
        times_a: times of failure or censoring of one model's replicas.
        observed_a: whether each is a failure.
        times_b: the same of the other model.
        observed_b: likewise.
    """
    from lifelines.statistics import logrank_test  # slow to import

    if not (np.any(observed_a) or np.any(observed_b)):
        return 1.0
    return float(logrank_test(times_a, times_b, observed_a, observed_b).p_value)
