"""Which potential to trust, how surely, and by what.

Within a group (`choices.group_of`) the choices are judged by what was measured, in this order:

1. time to failure in dynamics, where the reference method itself survives the protocol: it is the thing itself;
2. else the forces error above the training temperature, or on all test sets;
3. else the loss entropy S, which says how flat the minimum is on the training frames, and no more.

Each choice stands for all its seeds. It is compared with the best one within seeds, that is between runs with the same
initial weights and the same batches, since the seed holds more of the spread between runs than most choices do:

- times to failure by the log-rank test, which takes replicas that survived as what they are, censored: one standard
  normal score a seed;
- S by its difference over the standard errors of both, errors by the logarithm of their ratio: one score a seed;
- the scores by Student's t over the seeds (`statistics.paired_differences`). Where each choice has one seed, replicas
  and directions are all there is: the answer is one about these runs, not about the choices. Errors of one seed each
  cannot be told apart.
- p values are corrected by Holm's method for the number of choices that are compared with the best.

What cannot be told from the best at the level of 5 % stands beside it. The number of seeds that would tell it follows
from the differences that were seen, for a power of 80 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from mlip_sweep.comparison.choices import choice_of, labels
from mlip_sweep.comparison.runs import Replicas
from mlip_sweep.comparison.statistics import (
    NAN,
    NORMAL_95,
    Difference,
    Estimate,
    Shares,
    estimate,
    holm,
    paired_differences,
    unpaired_difference,
    variance_shares,
)
from mlip_sweep.measurement.accuracy import RMSE_FORCES_ALL_T, RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import (
    CONTROL_SURVIVAL,
    TIME_TO_FAILURE,
    TIME_TO_FAILURE_HIGH,
    TIME_TO_FAILURE_LOW,
)
from mlip_sweep.measurement.inference_time import INFERENCE_TIME
from mlip_sweep.measurement.landscape.learnt import UNLEARNT_ABOVE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR, UNEXPLAINED_FORCES
from mlip_sweep.training.metrics import PARAMETERS, VALIDATION_FORCES

LEVEL: Final = 0.05  # of significance
CONTROL_FAILS_BELOW: Final = 0.9  # survival of the reference method, under which dynamics is no test of a model


@dataclass(frozen=True)
class Measure:
    """Something that choices are judged by.

    Attributes:
        metric: its name.
        words: what people call it.
        unit: of the metric.
        form: of a number.
        more_is_better: which of two is the better.
        stderr: metric that holds the standard error of one run, or "".
        interval: metrics that hold the ends of the 95 % interval of one run, or ().
    """

    metric: str
    words: str
    unit: str
    form: str
    more_is_better: bool = False
    stderr: str = ""
    interval: tuple[str, ...] = ()

    def stderrs(self, runs: pd.DataFrame) -> pd.Series:
        """Standard error of each run's measurement, NaN where none is recorded."""
        if self.stderr in runs:
            return runs[self.stderr]
        if self.interval and set(self.interval) <= set(runs):
            low, high = self.interval
            return (runs[high] - runs[low]) / (2 * NORMAL_95)
        return pd.Series(NAN, index=runs.index)


TIME = Measure(
    TIME_TO_FAILURE,
    "time to failure",
    "ps",
    "{:.2f}",
    more_is_better=True,
    interval=(TIME_TO_FAILURE_LOW, TIME_TO_FAILURE_HIGH),
)
HIGH_T = Measure(RMSE_FORCES_HIGH_T, "forces error above the training temperature", "meV/Å", "{:.0f}")
ALL_T = Measure(RMSE_FORCES_ALL_T, "forces error on all test sets", "meV/Å", "{:.0f}")
S = Measure(LOSS_ENTROPY, "S", "nat", "{:.2f}", more_is_better=True, stderr=LOSS_ENTROPY_STDERR)
VALIDATION = Measure(VALIDATION_FORCES, "validation forces error", "meV/Å", "{:.0f}")
ORDER: Final = (TIME, HIGH_T, ALL_T, S)  # that choices are judged by
MEASURES: Final = (TIME, HIGH_T, ALL_T, S, VALIDATION)


@dataclass(frozen=True)
class Choice:
    """One choice of a group, over all its seeds.

    Attributes:
        key: the same for all its runs.
        label: what tells it from the others.
        architecture: the parameter `model`.
        runs: its finished runs, as `runs.runs_table` has them.
        estimates: by metric.
        rank: 1 for the best and all that cannot be told from it, else its place.
        difference: from the best in the measure of the verdict; None for the best itself.
        p: of the difference, corrected by Holm's method; NaN where nothing can be said.
    """

    key: str
    label: str
    architecture: str
    runs: pd.DataFrame
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    rank: int = 1
    difference: Difference | None = None
    p: float = NAN

    @property
    def seeds(self) -> list[str]:
        """Its seeds, in order."""
        return sorted(set(self.runs["seed"]), key=lambda seed: (len(seed), seed))

    @property
    def tied(self) -> bool:
        """Whether it cannot be told from the best."""
        return self.rank == 1 and self.difference is not None

    @property
    def learnt(self) -> bool:
        """Whether every run of it has learnt, as far as it is known."""
        return bool(self.runs["learnt"].all())

    def of_seeds(self, metric: str) -> pd.Series:
        """A metric by seed; of several runs with one seed their mean."""
        if metric not in self.runs:
            return pd.Series(dtype=float)
        return self.runs.groupby("seed")[metric].mean().dropna()


@dataclass(frozen=True)
class Verdict:
    """What a comparison says of one group.

    Attributes:
        group: key of the group.
        title: what tells it from the other groups; "" where there is one.
        measure: that the choices are judged by; None where none of `ORDER` was measured.
        choices: the best first, then by rank.
        run_id: the run to take: of the best choice, the one with the best value; "" where nothing has finished.
        cheapest: of the best and what cannot be told from it, the one that costs least in use; None if not known.
        shares: parts of the variance between runs, by metric, where choices have common seeds.
        unfinished: runs of the group that have not finished.
    """

    group: str
    title: str
    measure: Measure | None
    choices: Sequence[Choice]
    run_id: str
    cheapest: Choice | None
    shares: Mapping[str, Shares]
    unfinished: pd.DataFrame

    @property
    def best(self) -> Choice | None:
        """The best choice."""
        return self.choices[0] if self.choices else None

    @property
    def tied(self) -> list[Choice]:
        """The choices that cannot be told from the best."""
        return [choice for choice in self.choices if choice.tied]

    @property
    def runs(self) -> pd.DataFrame:
        """The finished runs of all choices, in their order."""
        return pd.concat([choice.runs for choice in self.choices]) if self.choices else pd.DataFrame()


def verdicts(runs: pd.DataFrame, replicas: Mapping[str, Replicas], titles: Mapping[str, str]) -> list[Verdict]:
    """One verdict a group, the group with the most finished runs first.

    Args:
        runs: as `runs.runs_table` has them.
        replicas: by run id.
        titles: by group, as `runs.group_titles` gives them.
    """
    found = [
        verdict(of_group.reset_index(drop=True), replicas, titles.get(str(group), ""))
        for group, of_group in runs.groupby("group", sort=False)
    ]
    return sorted(found, key=lambda one: -len(one.runs))


def verdict(runs: pd.DataFrame, replicas: Mapping[str, Replicas], title: str = "") -> Verdict:
    """The verdict on the runs of one group.

    Args:
        runs: as `runs.runs_table` has them.
        replicas: by run id.
        title: of the group.
    """
    finished = runs[runs["status"] == "FINISHED"]
    measure = measure_of(finished)
    choices = _choices(finished)
    if measure is not None:
        choices = sorted(choices, key=lambda choice: _order(choice, measure))
        choices = _compared(choices, measure, replicas)
    best = choices[0] if choices else None
    return Verdict(
        group=str(runs["group"].iloc[0]),
        title=title,
        measure=measure,
        choices=choices,
        run_id=_best_run(best, measure) if best else "",
        cheapest=_cheapest([choice for choice in choices if choice.rank == 1]),
        shares={m.metric: shares for m in MEASURES if (shares := shares_of(choices, m)) is not None},
        unfinished=runs[runs["status"] != "FINISHED"],
    )


def measure_of(finished: pd.DataFrame) -> Measure | None:
    """What runs of one group are judged by: the first of `ORDER` that was measured, and that can be."""
    for measure in ORDER:
        if measure.metric in finished and finished[measure.metric].notna().any():
            if measure is TIME and not control_survives(finished):
                continue
            return measure
    return None


def control_survives(finished: pd.DataFrame) -> bool:
    """Whether the reference method survives the dynamics itself; where it was not tried, it is given the benefit."""
    if CONTROL_SURVIVAL not in finished or finished[CONTROL_SURVIVAL].isna().all():
        return True
    return bool(finished[CONTROL_SURVIVAL].mean() >= CONTROL_FAILS_BELOW)


def favourite(choices: Sequence[Choice], measure: Measure) -> Choice | None:
    """The choice that a measure alone would take; None where fewer than two have it."""
    known = [c for c in choices if np.isfinite(c.estimates[measure.metric].mean) and (c.learnt or measure is not S)]
    if len(known) < 2:
        return None
    return min(known, key=lambda choice: _cost(choice, measure))


def learnt(runs: pd.DataFrame) -> pd.Series:
    """Whether each run's model has learnt (`landscape.learnt`); True where it was not measured."""
    if UNEXPLAINED_FORCES not in runs:
        return pd.Series(True, index=runs.index)
    return ~(runs[UNEXPLAINED_FORCES] > UNLEARNT_ABOVE)


def _choices(finished: pd.DataFrame) -> list[Choice]:
    finished = finished.assign(learnt=learnt(finished))
    by_key = {str(key): group for key, group in finished.groupby("choice", sort=False)}
    named = labels([choice_of(group["params"].iloc[0]) for group in by_key.values()])
    return [
        Choice(
            key=key,
            label=label,
            architecture=str(group["params"].iloc[0].get("model", "")),
            runs=group,
            estimates={measure.metric: _estimate(group, measure) for measure in MEASURES},
        )
        for (key, group), label in zip(by_key.items(), named, strict=True)
    ]


def _estimate(runs: pd.DataFrame, measure: Measure) -> Estimate:
    if measure.metric not in runs:
        return estimate([])
    both = pd.DataFrame({"seed": runs["seed"], "value": runs[measure.metric], "stderr": measure.stderrs(runs)})
    by_seed = both.groupby("seed").mean()
    return estimate(by_seed["value"], by_seed["stderr"])


def _cost(choice: Choice, measure: Measure) -> float:
    """Sorts: the better, the lower; NaN last."""
    mean = choice.estimates[measure.metric].mean
    return float("inf") if not np.isfinite(mean) else -mean if measure.more_is_better else mean


def _order(choice: Choice, measure: Measure) -> tuple[float, ...]:
    """By the measure, then by the others; by S a model that has not learnt stands behind those that have."""
    unlearnt = float(measure is S and not choice.learnt)
    return unlearnt, _cost(choice, measure), *(_cost(choice, other) for other in ORDER if other is not measure)


def _compared(choices: Sequence[Choice], measure: Measure, replicas: Mapping[str, Replicas]) -> list[Choice]:
    """Each choice against the first, with Holm's correction, and its rank."""
    best, *others = choices
    differences = _differences(others, best, measure, replicas)
    corrected = holm([difference.p for difference in differences])
    ranked = [best]
    for place, (other, difference, p) in enumerate(zip(others, differences, corrected, strict=True), start=2):
        unmeasured = not np.isfinite(other.estimates[measure.metric].mean)
        beaten = unmeasured or p < LEVEL or (measure is S and best.learnt and not other.learnt)
        ranked.append(replace(other, difference=difference, p=float(p), rank=place if beaten else 1))
    return ranked


def _differences(
    others: Sequence[Choice], best: Choice, measure: Measure, replicas: Mapping[str, Replicas]
) -> list[Difference]:
    """Each of the others minus the best, within their common seeds where there are any."""
    of_best = best.of_seeds(measure.metric)
    values, scores = [], []
    for other in others:
        of_other = other.of_seeds(measure.metric)
        common = [seed for seed in of_other.index if seed in of_best.index]
        values.append((of_other[common] - of_best[common]).to_numpy())
        scores.append(np.array([score(other, best, seed, measure, replicas) for seed in common]))
    errors = measure in (HIGH_T, ALL_T)  # of these, one run does not know the uncertainty
    paired = paired_differences(values, scores, floor=0.0 if errors else 1.0, level=LEVEL / max(1, len(others)))
    return [
        found if found.n else _without_common_seeds(other, best, measure, replicas)
        for other, found in zip(others, paired, strict=True)
    ]


def score(other: Choice, best: Choice, seed: str, measure: Measure, replicas: Mapping[str, Replicas]) -> float:
    """A difference at one seed on the scale on which it is tested: positive where `other` has more, or fails sooner."""
    if measure is TIME:
        return _log_rank_score(other, best, seed, seed, replicas)
    a, b = (choice.of_seeds(measure.metric)[seed] for choice in (other, best))
    if measure is S:
        errors = [_of_seed(measure.stderrs(choice.runs), choice, seed) for choice in (other, best)]
        scatter = float(np.linalg.norm(errors))
        return float((a - b) / scatter) if scatter > 0 else NAN
    return float(np.log(a / b))


def _without_common_seeds(
    other: Choice, best: Choice, measure: Measure, replicas: Mapping[str, Replicas]
) -> Difference:
    """Other minus best by seeds that are not the same; of two single runs, by their replicas."""
    a, b = other.of_seeds(measure.metric), best.of_seeds(measure.metric)
    found = unpaired_difference(a, b)
    if measure is TIME and len(a) == 1 and len(b) == 1:
        score = _log_rank_score(other, best, str(a.index[0]), str(b.index[0]), replicas)
        return replace(found, p=float(2 * stats.norm.sf(abs(score))))
    return found


def _of_seed(values: pd.Series, choice: Choice, seed: str) -> float:
    return float(values[choice.runs["seed"] == seed].mean())


def _replicas(choice: Choice, seed: str, replicas: Mapping[str, Replicas]) -> Replicas | None:
    """The replicas of all runs of a choice with one seed."""
    known = [replicas[run] for run in choice.runs.loc[choice.runs["seed"] == seed, "run_id"] if run in replicas]
    if not known:
        return None
    return Replicas(np.concatenate([one.time for one in known]), np.concatenate([one.failed for one in known]))


def _log_rank_score(a: Choice, b: Choice, seed_a: str, seed_b: str, replicas: Mapping[str, Replicas]) -> float:
    """The log-rank statistic as a standard normal number: positive where a fails the sooner; NaN without replicas."""
    x, y = _replicas(a, seed_a, replicas), _replicas(b, seed_b, replicas)
    if x is None or y is None:
        return NAN
    if not (x.failed.any() or y.failed.any()):
        return 0.0
    samples = [stats.CensoredData(uncensored=one.time[one.failed], right=one.time[~one.failed]) for one in (x, y)]
    return float(stats.logrank(*samples).statistic)


def _best_run(best: Choice, measure: Measure | None) -> str:
    runs = best.runs[best.runs["learnt"]] if best.runs["learnt"].any() else best.runs
    if measure is None or measure.metric not in runs or runs[measure.metric].isna().all():
        return str(runs["run_id"].iloc[0])
    ordered = runs.sort_values(measure.metric, ascending=not measure.more_is_better, na_position="last")
    return str(ordered["run_id"].iloc[0])


def _cheapest(choices: Sequence[Choice]) -> Choice | None:
    """By the time that a step of dynamics costs, else by the number of parameters; None for fewer than two."""
    for metric in (INFERENCE_TIME, PARAMETERS):
        costs = [choice.of_seeds(metric).mean() for choice in choices]
        if len(costs) > 1 and np.isfinite(costs).all():
            return choices[int(np.argmin(costs))]
    return None


def shares_of(choices: Sequence[Choice], measure: Measure) -> Shares | None:
    """Parts of the variance between the runs of choices, over the seeds that all of them have; None without any."""
    by_choice = [choice.of_seeds(measure.metric) for choice in choices]
    known = [values for values in by_choice if len(values)]
    common = set.intersection(*(set(values.index) for values in known)) if known else set()
    return variance_shares([values[sorted(common)].to_numpy() for values in known]) if common else None
