"""What a verdict says in words, the answer first."""

from collections.abc import Sequence

import numpy as np

from mlip_sweep.comparison.statistics import Correlation, correlation
from mlip_sweep.comparison.verdict import (
    HIGH_T,
    TIME,
    VALIDATION,
    Choice,
    Measure,
    S,
    Verdict,
    control_survives,
    favourite,
)
from mlip_sweep.measurement.dynamics.time_to_failure import SURVIVAL_FRACTION, TIME_TO_FAILURE
from mlip_sweep.measurement.inference_time import INFERENCE_TIME
from mlip_sweep.training.metrics import PARAMETERS

MANY_SEEDS = 100  # more than anybody trains: as good as equal
NAMED = 4  # choices that a line names before it counts the others
CHEAPER = 0.9  # of the best one's cost, from which on it is worth a line
FEWEST_CHOICES = 5  # of one architecture, for a correlation


def findings(found: Verdict) -> list[str]:
    """One line each; the first is the answer.

    Args:
        found: the verdict on a group.
    """
    lines = [*_answer(found), *_cheapest(found), *_otherwise(found), *_seed(found), *_limits(found)]
    lines += [f"{label}: {value}" for label, value in correlations_of_choices(found.choices).items()]
    lost = found.unfinished
    if len(lost):
        counts = ", ".join(f"{count} {status}" for status, count in lost["status"].value_counts().items())
        lines.append(f"{len(lost)} of {len(lost) + len(found.runs)} runs did not finish ({counts}) and are not ranked")
    return lines


def correlations_of_choices(choices: Sequence[Choice]) -> dict[str, Correlation]:
    """How S and the forces error go with time to failure, over the choices of one architecture, each by its mean.

    Across architectures, between which everything differs at once, a correlation says little, so there is none.
    """
    found = {}
    for architecture in dict.fromkeys(choice.architecture for choice in choices):
        own = [choice for choice in choices if choice.architecture == architecture and choice.learnt]
        if len(own) < FEWEST_CHOICES:
            continue
        times = [choice.estimates[TIME.metric].mean for choice in own]
        for measure in (S, HIGH_T):
            values = [choice.estimates[measure.metric].mean for choice in own]
            if np.isfinite(values).sum() >= FEWEST_CHOICES and np.isfinite(times).sum() >= FEWEST_CHOICES:
                found[f"{measure.words} and time to failure, choices of {architecture}"] = correlation(values, times)
    return found


def _answer(found: Verdict) -> list[str]:
    best, measure = found.best, found.measure
    if best is None:
        return ["no run has finished: there is nothing to compare"]
    if measure is None:
        return ["nothing was measured that says how a potential extrapolates: choose measurement=quick"]
    run = f"run {found.run_id[:6]}"
    if len(best.seeds) > 1:
        seed = best.runs.loc[best.runs["run_id"] == found.run_id, "seed"].iloc[0]
        run += f", seed {seed}, the best of its {len(best.seeds)} seeds"
    head = f"trust {best.label} ({run}): {_value(best, measure)}"
    if len(found.choices) == 1:
        return [head + "; there is no other choice to compare it with"]
    lines = [head + ("" if found.tied else "; all others can be told from it")]
    if found.tied:
        lines.append(f"cannot be told from it: {_named([_with_p(choice) for choice in found.tied])}{_remedy(found)}")
    worse = [choice for choice in found.choices if choice.rank > 1]
    if worse:
        p = max((choice.p for choice in worse if np.isfinite(choice.p)), default=float("nan"))
        of = "the others are" if not found.tied else f"{len(worse)} more are"
        how = f" (p ≤ {p:.2g}, corrected for {len(found.choices) - 1} comparisons)" if np.isfinite(p) else ""
        lines.append(f"{of} worse by {measure.words}{how}: {_named([choice.label for choice in worse])}")
    if measure is S:
        lines.append(
            "S is all that was measured: it says how flat the minimum is on the training frames; whether that predicts "
            "how a potential extrapolates is not settled. Measure its dynamics before you trust it: "
            f"mlip-measure {found.run_id[:6]} measurement=paper"
        )
    return lines


def _remedy(found: Verdict) -> str:
    """What would tell the best from what is tied with it."""
    differences = [choice.difference for choice in found.tied if choice.difference is not None]
    if all(len(choice.seeds) == 1 for choice in found.choices):
        return "; each was trained once, and the seed often matters more than the choice: train seed=0,1,2,3"
    needed = [
        (choice, choice.difference.seeds_needed)
        for choice in found.tied
        if choice.difference is not None and np.isfinite(choice.difference.seeds_needed)
    ]
    if not needed or not differences:
        return "; more seeds would tell"
    few = [f"{choice.label} by about {n:.0f} seeds" for choice, n in needed if n <= MANY_SEEDS]
    if not few:
        return f"; more than {MANY_SEEDS} seeds would be needed: they are as good as equal"
    equal = len(found.tied) - len(few)
    return f"; would be told: {_named(few)}" + (f"; {equal} not even by {MANY_SEEDS}" if equal else "")


def _cheapest(found: Verdict) -> list[str]:
    """Which of those that cannot be told apart costs least in use, where that makes a difference."""
    best, cheapest = found.best, found.cheapest
    if best is None or cheapest is None:
        return []
    costs = {choice.key: choice.of_seeds(INFERENCE_TIME).mean() for choice in (best, cheapest)}
    alike = cheapest.of_seeds(PARAMETERS).mean() == best.of_seeds(PARAMETERS).mean()  # another clock, not another cost
    if cheapest is best or alike or not costs[cheapest.key] < CHEAPER * costs[best.key]:
        return []
    return [
        f"of these, {cheapest.label} is the cheapest in use: {costs[cheapest.key]:.0f} µs/atom and step, "
        f"{best.label} {costs[best.key]:.0f}"
    ]


def _otherwise(found: Verdict) -> list[str]:
    """Where another measure would have chosen another potential."""
    if found.best is None or found.measure is None:
        return []
    said = []
    for measure in (HIGH_T, S, VALIDATION):
        other = favourite(found.choices, measure)
        if measure is found.measure or other is None:
            continue
        if other is not found.best:
            place = "which cannot be told from it" if other.tied else f"which stands at #{other.rank}"
            said.append(f"{measure.words} would have chosen {other.label}, {place}")
    return said


def _seed(found: Verdict) -> list[str]:
    """How much of the spread is seed."""
    if not found.shares:
        return []
    told = [
        f"{shares.seed:.0%} in {measure.words} (the choice {shares.choice:.0%})"
        for measure in (TIME, S, HIGH_T)
        if (shares := found.shares.get(measure.metric)) is not None
    ]
    any_shares = next(iter(found.shares.values()))
    return (
        [
            f"of the spread between runs the seed holds {', '.join(told)}; {any_shares.choices} choices, "
            f"{any_shares.seeds} seeds each"
        ]
        if told
        else []
    )


def _limits(found: Verdict) -> list[str]:
    """What keeps the numbers from saying more."""
    runs, lines = found.runs, []
    if runs.empty:
        return []
    if TIME_TO_FAILURE in runs and not control_survives(runs):
        lines.append(
            "the reference method itself does not survive the dynamics, so that times to failure are no test here: "
            "choose a lower measurement.stability.temperature_K"
        )
    if SURVIVAL_FRACTION in runs:
        whole = int((runs[SURVIVAL_FRACTION] == 1.0).sum())
        if whole >= 2:
            lines.append(
                f"in {whole} runs every replica survived: their time to failure is a lower bound and does not order "
                "them; measure longer or hotter"
            )
    unlearnt = [choice.label for choice in found.choices if not choice.learnt]
    if unlearnt:
        lines.append(f"S says nothing yet of models that have not learnt: {_named(unlearnt)}; train longer")
    names = ("dataset.n_train", *(f"dataset.noise.{label}_sigma" for label in ("forces", "energy", "stress")))
    varied = [name for name in names if len({str(params.get(name)) for params in runs["params"]}) > 1]
    if varied and S.metric in runs:
        lines.append(f"S of each run is measured on its own training frames, which {' and '.join(varied)} changes")
    return lines


def _value(choice: Choice, measure: Measure) -> str:
    known = choice.estimates[measure.metric]
    text = f"{measure.words} {measure.form.format(known.mean)} {measure.unit}"
    low, high = known.low, known.high
    if len(choice.runs) == 1 and measure.interval and set(measure.interval) <= set(choice.runs):
        low, high = (float(choice.runs[name].iloc[0]) for name in measure.interval)
    if np.isfinite(low) and np.isfinite(high):
        low = max(0.0, low) if known.mean >= 0 and measure is not S else low
        text += f" [{measure.form.format(low)}, {measure.form.format(high)}]"
    return text


def _with_p(choice: Choice) -> str:
    return f"{choice.label} (p = {choice.p:.2g})" if np.isfinite(choice.p) else choice.label


def _named(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    shown = "; ".join(names[:NAMED]) if any(" · " in name for name in names) else ", ".join(names[:NAMED])
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
