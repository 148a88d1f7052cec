"""Claims of the literature on what makes a potential robust, tested on the runs of one group.

A claim names a change of the config: another optimizer, one layer more. It is tested on all pairs of choices that
differ in that and in nothing else, within seeds: at every common seed a pair gives one difference, the pairs of one
seed are averaged, and Student's t goes over seeds, as in `verdict`. So a claim on choices is never decided by replicas
or directions alone, and not at all with one seed. P values are corrected by Holm's method for the number of claims and
measures that are tested together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import pandas as pd
from scipy import stats

from mlip_sweep.comparison.choices import PUBLISHED, choice_of
from mlip_sweep.comparison.runs import Replicas
from mlip_sweep.comparison.selection import NONE, as_number
from mlip_sweep.comparison.statistics import NAN, Difference, Shares, holm, paired_differences
from mlip_sweep.comparison.verdict import HIGH_T, LEVEL, TIME, Choice, Measure, S, score, shares_of

TESTED: Final = (TIME, HIGH_T, S)
FEWEST_SEEDS: Final = 2
MANY_TIMES: Final = 3.0  # from here on a ratio is told as such, not in per cent

Finding = Literal["supported", "contradicted", "not resolved"]


@dataclass(frozen=True, eq=False)
class Claim:
    """What somebody says that a change of the config does.

    Attributes:
        words: the claim.
        change: by parameter its value before and after; None for any two successive numbers, the lower before.
        may_differ: parameters that go with the change, by the beginnings of their names.
        where: parameters that both choices must have.
        helps: whether the change is said to make a potential better; False says that it does not.
    """

    words: str
    change: Mapping[str, tuple[str, str] | None]
    may_differ: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    helps: bool = True


# doi:10.1088/2632-2153/acf115, sections 3.2 and 3.3; of SAM doi:10.1007/978-3-031-32041-5_12.
CLAIMS: Final = (
    Claim("rescaling helps", {"rescaling": ("none", "forces_rms")}, ("rescaling.",)),
    Claim("AMSGrad helps", {"optimizer": ("adam", "amsgrad")}, ("optimizer.amsgrad",)),
    Claim("EMA alone hurts", {"averaging": ("none", "ema")}, ("averaging.",), {"optimizer": "adam"}, helps=False),
    Claim(
        "SWA with weight cycling helps",
        {"averaging": ("none", "swa"), "loss.cycle": ("none", "WeightCycle")},
        ("averaging.", "loss"),
    ),
    Claim("more layers help", {"model.num_layers": None}),
    Claim("a higher body order helps", {"model.correlation": None}),
    Claim("tensor features help", {"model.max_L": None}, ("model.max_ell",)),
    Claim("spherical harmonics of order 3 do not help", {"model.max_ell": ("2", "3")}, helps=False),
    Claim("SAM helps", {"optimizer": ("amsgrad", "sam")}, ("optimizer.rho",)),
)


@dataclass(frozen=True)
class Tested:
    """One claim by one measure.

    Attributes:
        claim: that was tested.
        measure: by which.
        pairs: labels of the choices before and after the change.
        effect: of the change, positive where it makes the potential better: of S in nat; of the time to failure the
            logarithm of the ratio of times after and before; of the forces error minus that of errors. Its p is
            corrected for the number of tests.
        p_of_runs: of the log-rank scores of all pairs and seeds together (their sum over the root of their number,
            Stouffer's method): it is about these very runs, and says nothing of other seeds. NaN for other measures.
        shares: what holds the variance between the runs of these choices.
    """

    claim: Claim
    measure: Measure
    pairs: Sequence[tuple[str, str]]
    effect: Difference
    p_of_runs: float
    shares: Shares | None

    @property
    def finding(self) -> Finding:
        """What the runs say of the claim."""
        if not self.effect.p < LEVEL:
            return "not resolved"
        return "supported" if (self.effect.mean > 0) == self.claim.helps else "contradicted"


def claims_tested(
    choices: Sequence[Choice], replicas: Mapping[str, Replicas], claims: Sequence[Claim] = CLAIMS
) -> list[Tested]:
    """Test every claim of which the choices have a pair with common seeds, by every measure that they have.

    Args:
        choices: of one group.
        replicas: by run id.
        claims: that are tested.
    """
    found = []
    for claim in claims:
        pairs = pairs_of(claim, choices)
        for measure in TESTED:
            one = _tested(claim, measure, pairs, replicas)
            if one is not None:
                found.append(one)
    corrected = holm([one.effect.p for one in found])
    return [replace(one, effect=replace(one.effect, p=float(p))) for one, p in zip(found, corrected, strict=True)]


def pairs_of(claim: Claim, choices: Sequence[Choice]) -> list[tuple[Choice, Choice]]:
    """Pairs of choices before and after the change that a claim names, which differ in nothing else."""
    params = {choice.key: choice_of(choice.runs["params"].iloc[0]) for choice in choices}
    usable = [c for c in choices if all(params[c.key].get(name) == value for name, value in claim.where.items())]
    alike: dict[tuple[tuple[str, str], ...], list[Choice]] = {}
    for choice in usable:
        rest = {name: value for name, value in params[choice.key].items() if not _is_changed(name, claim)}
        alike.setdefault(tuple(sorted(rest.items())), []).append(choice)
    pairs = []
    for group in alike.values():
        if None in claim.change.values():
            pairs += list(pairwise(_one_of_each_number(claim, group, params)))
            continue
        before, after = (
            [c for c in group if all(_value(params[c.key], n) == levels[k] for n, levels in _fixed(claim).items())]
            for k in (0, 1)
        )
        pairs += [(a, b) for a in before for b in after]
    return [(a, b) for a, b in pairs if a.key != b.key]


def claims_table(found: Sequence[Tested]) -> pd.DataFrame:
    """One row a claim and measure, as it is stored."""
    rows = [
        {
            "claim": one.claim.words,
            "measure": one.measure.metric,
            "pairs": "; ".join(f"{a} → {b}" for a, b in one.pairs),
            "seeds": one.effect.n,
            "benefit": one.effect.mean,
            "benefit_ci95_low": one.effect.low,
            "benefit_ci95_high": one.effect.high,
            "p": one.effect.p,
            "p_of_these_runs": one.p_of_runs,
            "seed_share_of_variance": one.shares.seed if one.shares else NAN,
            "choice_share_of_variance": one.shares.choice if one.shares else NAN,
            "seeds_needed": one.effect.seeds_needed,
            "finding": one.finding,
        }
        for one in found
    ]
    return pd.DataFrame(rows)


def claims_in_words(found: Sequence[Tested]) -> list[str]:
    """One line a claim: what each measure says of it."""
    lines = []
    for claim in dict.fromkeys(one.claim for one in found):
        of_one = [one for one in found if one.claim is claim]
        said = [
            f"{finding} by {', '.join(_effect(one) for one in of_one if one.finding == finding)}"
            for finding in ("supported", "contradicted", "not resolved")
            if any(one.finding == finding for one in of_one)
        ]
        lines.append(f"claim: {claim.words} – {'; '.join(said)}")
    return lines


def _effect(one: Tested) -> str:
    effect = one.effect
    if one.measure is S:
        return f"S ({effect.mean:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}])"
    ends = (effect.mean, effect.low, effect.high) if one.measure is TIME else (effect.mean, effect.high, effect.low)
    sign = 1.0 if one.measure is TIME else -1.0
    words = one.measure.words if one.measure is TIME else "the forces error"
    ratios = [np.exp(sign * value) for value in ends]
    if ratios[0] > MANY_TIMES:
        mean, low, high = (f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}" for ratio in ratios)
        return f"{words} ({mean} times [{low}, {high}])"
    percent = [100.0 * (ratio - 1.0) for ratio in ratios]
    return f"{words} ({percent[0]:+.0f}% [{percent[1]:+.0f}, {percent[2]:+.0f}])"


def _tested(
    claim: Claim, measure: Measure, pairs: Sequence[tuple[Choice, Choice]], replicas: Mapping[str, Replicas]
) -> Tested | None:
    differences: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    # S says nothing of a model that has not learnt.
    usable = [pair for pair in pairs if measure is not S or all(choice.learnt for choice in pair)]
    values = [(before.of_seeds(measure.metric), after.of_seeds(measure.metric)) for before, after in usable]
    seeds = [[seed for seed in a.index if seed in b.index] for a, b in values]
    used = [pair for pair, common in zip(usable, seeds, strict=True) if common]
    of_all = set.intersection(*(set(common) for common in seeds if common)) if used else set()
    for (before, after), (a, b), common in zip(usable, values, seeds, strict=True):
        # Seeds that some pairs lack would differ from the others by the pairs that they have.
        for seed in [seed for seed in common if len(of_all) < FEWEST_SEEDS or seed in of_all]:
            z = score(after, before, seed, measure, replicas)
            ratio = float(np.log(b[seed] / a[seed])) if measure is not S else float(b[seed] - a[seed])
            differences.setdefault(seed, []).append(-ratio if measure is HIGH_T else ratio)
            # A log-rank score is high where a potential fails soon, that of an error where the error is large.
            scores.setdefault(seed, []).append(z if measure is S else -z)
    if len(differences) < FEWEST_SEEDS:
        return None
    by_seed = [float(np.mean(differences[seed])) for seed in differences]
    # Sums of P standard normal scores over √P are standard normal again, where seeds have no influence.
    z_by_seed = [float(np.sum(scores[seed]) / np.sqrt(len(scores[seed]))) for seed in differences]
    (effect,) = paired_differences([by_seed], [z_by_seed], floor=0.0 if measure is HIGH_T else 1.0)
    of_runs = NAN
    if measure is TIME:
        every = np.concatenate([scores[seed] for seed in scores])
        of_runs = float(2 * stats.norm.sf(abs(every.sum() / np.sqrt(len(every)))))
    compared = {choice.key: choice for pair in used for choice in pair}
    shares = shares_of(list(compared.values()), measure)
    return Tested(claim, measure, [(a.label, b.label) for a, b in used], effect, of_runs, shares)


def _is_changed(name: str, claim: Claim) -> bool:
    return name == PUBLISHED or name in claim.change or name.startswith(claim.may_differ)


def _one_of_each_number(
    claim: Claim, choices: Sequence[Choice], params: Mapping[str, Mapping[str, str]]
) -> list[Choice]:
    """Choices by the number that a claim changes, the lowest first.

    Of several with the same number, the one with the lowest values of what goes with it: l_max = 2 rather than 3 beside
    features up to L = 2, so that successive ones differ in little else.
    """
    (name,) = claim.change
    found: dict[float, tuple[list[float], Choice]] = {}
    for choice in choices:
        own = params[choice.key]
        number = as_number(own.get(name))
        if number is None:
            continue
        beside = [as_number(own[other]) or 0.0 for other in sorted(own) if other.startswith(claim.may_differ)]
        if number not in found or beside < found[number][0]:
            found[number] = (beside, choice)
    return [found[number][1] for number in sorted(found)]


def _fixed(claim: Claim) -> dict[str, tuple[str, str]]:
    return {name: levels for name, levels in claim.change.items() if levels is not None}


def _value(params: Mapping[str, str], name: str) -> str:
    """A parameter, "none" where it is null or absent."""
    value = params.get(name, "")
    return "none" if value.lower() in (*NONE, "") else value
