"""Which cheap measure tells how long dynamics last, or how fast a potential learns: four questions, rank correlations.

1. **Over seeds**, within a choice: of trainings that differ by luck alone, which is the better one?
2. **Over choices**, within a seed and an architecture: which setting is the better one?
3. **Within an architecture**, over choices and seeds: of all NequIPs that were trained, which is the better one?
4. **Across** everything.

They are different questions, and a measure may answer one of them and not another. Ranks are taken within the strata
of a question (choice; seed and architecture; architecture; none), centred, and correlated over all strata together, so
that nothing that differs between strata can make a correlation. Intervals come from a bootstrap that draws choices and
seeds anew, each with all its runs, since runs with a choice or a seed in common are no independent witnesses (A. B.
Owen, doi:10.1214/07-AOAS122); with fewer than five choices, or seeds, a question is not answered. The partial
correlation asks what a measure adds once the validation error is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from mlip_sweep.comparison.curves import with_learning_slopes
from mlip_sweep.comparison.statistics import NAN, holm, interval, pearson_rows
from mlip_sweep.comparison.style import plain
from mlip_sweep.comparison.verdict import LEVEL, TIME, Verdict, control_survives, learnt
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T, TRAIN, rmse_forces
from mlip_sweep.measurement.bond_scans import (
    ENERGY_JUMP,
    FORCE_FLIPS,
    ROUGHNESS,
    SMOOTHNESS_DEVIATION,
    TORTUOSITY,
)
from mlip_sweep.measurement.conservation import drift_ratio
from mlip_sweep.measurement.landscape.loss_entropy import (
    CURVATURE_ENERGY,
    CURVATURE_FORCES,
    LOSS_ENTROPY,
    LOSS_ENTROPY_ENERGY,
    LOSS_ENTROPY_FORCES,
)
from mlip_sweep.measurement.sharpness import CRITICAL, CRITICAL_SCALED, SAM, SAM_SCALED
from mlip_sweep.metrics import wall_time
from mlip_sweep.training.metrics import VALIDATION_FORCES, validation_rmse

FEWEST_RUNS: Final = 5  # that all predictors have, below which nothing is said
# Choices, of one architecture where the question is within it, or seeds: draws of fewer are hardly different, and their
# interval far too narrow.
FEWEST_TO_DRAW: Final = 5
N_BOOTSTRAP: Final = 1000
QUESTIONS: Final = ("over seeds", "over choices", "within an architecture", "across")
TIME_TO_FAILURE_TOLD: Final = "the time to failure"
LEARNING_TOLD: Final = "how fast a potential learns"
TARGETS: Final = (TIME_TO_FAILURE_TOLD, LEARNING_TOLD)


@dataclass(frozen=True)
class Predictor:
    """A measure that might tell how long dynamics last.

    Attributes:
        words: what people call it.
        metric: its name; one of a family is the first recorded that begins so.
        more_is_better: whether more of it is said to go with longer dynamics.
        measurement: entry that costs its time; "" where training gives it by the way.
        labels: whether it needs labels beyond those of the training and validation.
    """

    words: str
    metric: str
    more_is_better: bool = False
    measurement: str = ""
    labels: bool = False


PREDICTORS: Final = (
    Predictor("loss entropy S", LOSS_ENTROPY, True, "landscape"),
    Predictor("S of energies", LOSS_ENTROPY_ENERGY, True, "landscape"),
    Predictor("S of forces", LOSS_ENTROPY_FORCES, True, "landscape"),
    Predictor("curvature, energies", CURVATURE_ENERGY, False, "landscape"),
    Predictor("curvature, forces", CURVATURE_FORCES, False, "landscape"),
    Predictor("critical sharpness", CRITICAL, False, "sharpness"),
    Predictor("critical sharpness, scaled", CRITICAL_SCALED, False, "sharpness"),
    Predictor("SAM sharpness", SAM, False, "sharpness"),
    Predictor("SAM sharpness, scaled", SAM_SCALED, False, "sharpness"),
    Predictor("drift at 300 K", drift_ratio("300K"), False, "conservation"),
    Predictor("drift at 1600 K", drift_ratio("1600K"), False, "conservation"),
    Predictor("bond scans: tortuosity", TORTUOSITY, False, "bond_scans"),
    Predictor("bond scans: energy jump", ENERGY_JUMP, False, "bond_scans"),
    Predictor("bond scans: force flips", FORCE_FLIPS, False, "bond_scans"),
    Predictor("bond scans: roughness", ROUGHNESS, False, "bond_scans"),
    Predictor("bond scans: force smoothness", SMOOTHNESS_DEVIATION, False, "bond_scans", labels=True),
    Predictor("training forces RMSE", rmse_forces(TRAIN)),
    Predictor("validation forces RMSE", VALIDATION_FORCES),
    Predictor("validation energy RMSE", validation_rmse("energy")),
    Predictor("high-T forces RMSE", RMSE_FORCES_HIGH_T, False, "accuracy", labels=True),
)
KNOWN: Final = VALIDATION_FORCES  # what the partial correlation holds fixed


@dataclass(frozen=True)
class Prediction:
    """How well one measure tells a target, for one question.

    Attributes:
        target: what is to be told, one of `TARGETS`.
        predictor: the measure.
        question: one of `QUESTIONS`.
        runs: number of runs.
        strata: number of strata.
        correlation: rank correlation, positive where the measure tells in the direction that it is said to.
        low: lower end of its 95 % interval.
        high: upper end.
        partial: the same, the validation forces RMSE held fixed.
        partial_low: lower end.
        partial_high: upper end.
        worse_than_best: probability of such a distance from the best measure of this question between equals,
            corrected by Holm's method; NaN for the best itself.
        seconds: median time of the measurement, as it ran.
    """

    target: str
    predictor: Predictor
    question: str
    runs: int
    strata: int
    correlation: float
    low: float
    high: float
    partial: float
    partial_low: float
    partial_high: float
    worse_than_best: float
    seconds: float


def predictions(found: Verdict, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> list[Prediction]:
    """Every predictor for every target and question that the runs of a group can answer.

    Models that have not learnt are left out: every measure tells them from the others. So is the time to failure where
    the reference method itself does not survive. How fast a potential learns is told by the slopes of its learning
    curves, and the measures are then those of the runs on the most frames.

    Args:
        found: the verdict on the group.
        n_bootstrap: resamples of choices and seeds.
        seed: of the resampling.
    """
    runs, of_slopes = found.runs, with_learning_slopes(found)
    result = []
    if not runs.empty and TIME.metric in runs and control_survives(runs):
        result += _predictions(runs, runs[TIME.metric], TIME_TO_FAILURE_TOLD, n_bootstrap, seed)
    if not of_slopes.empty:
        result += _predictions(of_slopes, -of_slopes["learning_slope"], LEARNING_TOLD, n_bootstrap, seed)
    return result


def _predictions(runs: pd.DataFrame, target: pd.Series, told: str, n_bootstrap: int, seed: int) -> list[Prediction]:
    """Of one target, more of which is better."""
    usable = learnt(runs) & target.notna()
    runs, target = runs[usable], target[usable]
    known = [p for p in PREDICTORS if p.metric in runs and runs[p.metric].notna().all()]
    if len(runs) < FEWEST_RUNS or not known:
        return []
    signs = np.array([1.0 if p.more_is_better else -1.0 for p in known])
    values = runs[[p.metric for p in known]].to_numpy(float) * signs
    time = target.to_numpy(float)
    held = runs[KNOWN].to_numpy(float) if KNOWN in runs and runs[KNOWN].notna().all() else None
    architecture = np.array([str(params.get("model", "")) for params in runs["params"]])
    choice, seeds = runs["choice"].to_numpy(), runs["seed"].to_numpy()
    of_question: dict[str, NDArray[np.object_]] = {
        "over seeds": choice,
        "over choices": np.char.add(np.char.add(architecture, "/"), seeds.astype(str)).astype(object),
        "within an architecture": architecture.astype(object),
        "across": np.full(len(runs), "", dtype=object),
    }
    if len(set(architecture)) == 1:
        of_question.pop("across")  # the same question as within the architecture
    if len(set(seeds)) < FEWEST_TO_DRAW:
        of_question.pop("over seeds")
    if max(len(set(choice[architecture == one])) for one in set(architecture)) < FEWEST_TO_DRAW:
        of_question.pop("over choices")
        of_question.pop("within an architecture")
    if len(set(choice)) < FEWEST_TO_DRAW:
        of_question = {name: strata for name, strata in of_question.items() if name == "over seeds"}
    if not of_question:
        return []
    draws = _draws(choice, seeds, n_bootstrap, np.random.default_rng(seed))
    seconds = [_seconds(runs, p) for p in known]
    result = []
    for question, names in of_question.items():
        strata = np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)
        point = correlations(values, time, strata, held)
        sampled = np.array(
            [
                correlations(values[rows], time[rows], strata[rows], None if held is None else held[rows])
                for rows in draws
            ]
        )
        low, high = np.apply_along_axis(interval, 0, sampled)
        if not np.isfinite(point[0]).any():
            continue
        best = int(np.nanargmax(point[0]))
        p = [NAN if k == best else _p_of_difference(sampled[:, 0, best] - sampled[:, 0, k]) for k in range(len(known))]
        corrected = holm(p)
        result += [
            Prediction(
                target=told,
                predictor=predictor,
                question=question,
                runs=len(runs),
                strata=len(set(strata)),
                correlation=float(point[0, k]),
                low=float(low[0, k]),
                high=float(high[0, k]),
                partial=float(point[1, k]),
                partial_low=float(low[1, k]),
                partial_high=float(high[1, k]),
                worse_than_best=float(corrected[k]),
                seconds=seconds[k],
            )
            for k, predictor in enumerate(known)
        ]
    return result


def correlations(
    values: NDArray[np.float64],
    time: NDArray[np.float64],
    strata: NDArray[np.int64],
    held: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Stratified rank correlations of each measure with a time, plain and with another measure held fixed.

    Args:
        values: (R, P), one column a measure.
        time: (R,).
        strata: (R,), the number of each run's stratum, from 0.
        held: (R,), what is held fixed; None for nothing.

    Returns:
        (2, P): Spearman's correlation within strata, and the partial one. NaN where a column is constant.
    """
    columns = [values, time[:, None]] + ([held[:, None]] if held is not None else [])
    ranked = _centred_ranks(np.concatenate(columns, axis=1), strata).T  # (P + 1 or 2, R)
    n = values.shape[1]
    x, y = ranked[:n], ranked[n : n + 1]
    plain_correlation = pearson_rows(x, y)
    if held is None:
        return np.stack([plain_correlation, np.full(n, NAN)])
    z = ranked[n + 1 :]
    with_held, time_with_held = pearson_rows(x, z), pearson_rows(y, z)
    with np.errstate(all="ignore"):
        rest = np.sqrt((1 - with_held**2) * (1 - time_with_held**2))
        # NaN for what is held itself.
        partial = np.where(rest > 1e-6, (plain_correlation - with_held * time_with_held) / rest, NAN)
    return np.stack([plain_correlation, partial])


def predictions_table(found: Sequence[Prediction]) -> pd.DataFrame:
    """One row a question and measure, the best of each question first, as it is stored."""
    rows = [
        {
            "target": one.target,
            "question": one.question,
            "measure": one.predictor.words,
            "metric": one.predictor.metric,
            "runs": one.runs,
            "strata": one.strata,
            "rank_correlation": one.correlation,
            "ci95_low": one.low,
            "ci95_high": one.high,
            "p_worse_than_best": one.worse_than_best,
            "partial_correlation": one.partial,
            "partial_ci95_low": one.partial_low,
            "partial_ci95_high": one.partial_high,
            "seconds": one.seconds,
            "needs_new_labels": one.predictor.labels,
        }
        for one in found
    ]
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    places = [table["target"].map(TARGETS.index), table["question"].map(QUESTIONS.index), -table["rank_correlation"]]
    ordered = table.iloc[np.lexsort([column.to_numpy(float) for column in places[::-1]])]
    return ordered.reset_index(drop=True)


def predictors_figure(found: Sequence[Prediction]) -> Figure | None:
    """Rank correlations with their intervals, one panel a question; hollow dots hold the validation error fixed."""
    table = predictions_table(found)
    if table.empty:
        return None
    target = table["target"].iloc[0]  # one figure a target would hardly differ from a table
    table = table[table["target"] == target]
    questions = list(table["question"].drop_duplicates())
    words = list(dict.fromkeys(one.predictor.words for one in found))[::-1]
    figure = Figure(figsize=(2.6 + 2.4 * len(questions), 1.2 + 0.24 * len(words)), layout="constrained")
    for axes, question in zip(
        figure.subplots(1, len(questions), sharey=True, squeeze=False)[0], questions, strict=True
    ):
        for _, row in table[table["question"] == question].iterrows():
            place = words.index(row["measure"])
            colour = "#0072B2" if row["metric"].startswith(LOSS_ENTROPY) else "#444444"
            axes.plot([row["ci95_low"], row["ci95_high"]], [place, place], color=colour, linewidth=1.4)
            axes.plot(row["rank_correlation"], place, "o", color=colour, markersize=5)
            axes.plot(row["partial_correlation"], place, "o", color=colour, markersize=4, fillstyle="none")
        axes.axvline(0.0, color="#8A8A8A", linewidth=0.8)
        axes.set(title=question, xlim=(-1.05, 1.05))
        plain(axes)
    axes.set_yticks(range(len(words)), words)
    figure.supxlabel(f"rank correlation with {target} (hollow: the validation forces error held fixed)", fontsize=9)
    return figure


def predictors_in_words(found: Sequence[Prediction]) -> list[str]:
    """One line a question: the best measure, and where S stands."""
    lines = []
    for target, question in product(TARGETS, QUESTIONS):
        of_one = [
            one for one in found if (one.target, one.question) == (target, question) and np.isfinite(one.correlation)
        ]
        if not of_one:
            continue
        best = max(of_one, key=lambda one: one.correlation)
        entropy = next((one for one in of_one if one.predictor.metric == LOSS_ENTROPY), None)
        line = f"what tells {target} {question}: {_in_words(best)}"
        if entropy is not None and entropy is not best:
            worse = entropy.worse_than_best
            line += f"; S {_numbers(entropy)}" + (
                f", worse (p = {worse:.2g})" if worse < LEVEL else ", which cannot be told from it"
            )
        lines.append(line)
    return lines


def _in_words(one: Prediction) -> str:
    sure = "" if one.low > 0 else ", which may be chance"
    return f"{one.predictor.words} {_numbers(one)}{sure}"


def _numbers(one: Prediction) -> str:
    return f"{one.correlation:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"


def _centred_ranks(columns: NDArray[np.float64], strata: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ranks within each stratum, minus their mean: the ranks of all runs, the strata one after the other."""
    everywhere = stats.rankdata(columns, axis=0)
    ranks = stats.rankdata(strata[:, None] * (len(columns) + 1.0) + everywhere, axis=0)
    # The mean of a stratum is the same for all columns.
    return ranks - (np.bincount(strata, ranks[:, 0]) / np.maximum(np.bincount(strata), 1))[strata][:, None]


def _draws(
    choice: NDArray[np.object_], seeds: NDArray[np.object_], n: int, rng: np.random.Generator
) -> Sequence[NDArray[np.int64]]:
    """Rows of runs, their choices and seeds drawn anew: a run comes as often as its choice times its seed was drawn."""
    choices, of_choice = np.unique(choice.astype(str), return_inverse=True)
    known, of_seed = np.unique(seeds.astype(str), return_inverse=True)
    several = len(known) > 1
    draws = []
    for _ in range(n):
        choice_counts = np.bincount(rng.integers(len(choices), size=len(choices)), minlength=len(choices))
        seed_counts = np.bincount(rng.integers(len(known), size=len(known)), minlength=len(known))
        times = choice_counts[of_choice] * (seed_counts[of_seed] if several else 1)
        draws.append(np.repeat(np.arange(len(choice)), times))
    return [rows for rows in draws if len(rows)]


def _p_of_difference(differences: NDArray[np.float64]) -> float:
    """Two-sided bootstrap probability that a difference is none."""
    known = differences[np.isfinite(differences)]
    if not len(known):
        return NAN
    below, above = (known <= 0).mean(), (known >= 0).mean()
    return float(min(1.0, 2 * max(min(below, above), 1.0 / len(known))))


def _seconds(runs: pd.DataFrame, predictor: Predictor) -> float:
    name = wall_time(predictor.measurement)
    return float(runs[name].median()) if predictor.measurement and name in runs else NAN
