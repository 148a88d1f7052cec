"""Claims on made-up runs, of which it is known whether they hold."""

import re
from dataclasses import replace

import numpy as np
import pytest
from recorded_runs import accuracy_report, stability_report, stored
from scipy import stats

from mlip_sweep.comparison.claims import CLAIMS as ALL
from mlip_sweep.comparison.claims import claims_in_words, claims_table, claims_tested, pairs_of
from mlip_sweep.comparison.runs import Replicas, runs_table
from mlip_sweep.comparison.verdict import HIGH_T, TIME, S, verdict
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR, UNEXPLAINED_FORCES

CLAIMS = {claim.words: claim for claim in ALL}
BASE = {
    "model": "nequip",
    "model.num_layers": 2,
    "rescaling": "forces_rms",
    "optimizer": "amsgrad",
    "optimizer.amsgrad": True,
    "averaging": "none",
    "loss": "constant",
}


def runs_of(choices, seeds=range(5), scatter=1.0):
    """Runs whose seed sets the scale of the time, and whose choice multiplies it.

    Args:
        choices: (parameters, factor of the time to failure and of 1 / error, S).
        seeds: of each.
        scatter: how far seeds go apart.
    """
    runs, replicas = [], {}
    for place, (changes, factor, entropy) in enumerate(choices):
        for seed in seeds:
            scale = factor * 0.3 * 2.0 ** (scatter * np.random.default_rng(seed).normal())
            stability = stability_report(scale * np.random.default_rng([seed, place]).weibull(4.0, 12))
            error = 0.03 / factor * (1 + 0.02 * np.random.default_rng([7, seed, place]).normal())
            metrics = stability.metrics | accuracy_report(error).metrics
            metrics |= {LOSS_ENTROPY: entropy + 0.05 * seed, LOSS_ENTROPY_STDERR: 0.05, UNEXPLAINED_FORCES: 0.1}
            name = f"c{place}-{seed}"
            table = stability.tables["replicas"]
            replicas[name] = Replicas(table["time_ps"].to_numpy(), table["failed"].to_numpy())
            runs.append(stored(name, BASE | changes | {"seed": seed, "seeds.model": seed}, metrics))
    return verdict(runs_table(runs), replicas), replicas


def found_of(choices, **changes):
    found, replicas = runs_of(choices, **changes)
    return {(one.claim.words, one.measure.metric): one for one in claims_tested(found.choices, replicas)}


def test_a_change_that_helps_is_seen_though_the_seed_holds_the_variance():
    found = found_of([({"rescaling": "none"}, 1.0, -1.0), ({}, 1.6, 0.0)])
    for measure in (TIME, HIGH_T, S):
        one = found["rescaling helps", measure.metric]
        assert one.finding == "supported" and one.effect.mean > 0 and one.effect.low > 0
        assert one.effect.n == 5
    assert found["rescaling helps", TIME.metric].shares.seed > 0.7
    assert found["rescaling helps", S.metric].effect.mean == pytest.approx(1.0)
    assert found["rescaling helps", TIME.metric].effect.mean == pytest.approx(np.log(1.6), abs=0.15)
    assert found["rescaling helps", HIGH_T.metric].effect.mean == pytest.approx(np.log(1.6), abs=0.03)


def test_the_opposite_is_contradicted_and_nothing_is_not_resolved():
    worse = found_of([({"rescaling": "none"}, 1.6, 0.0), ({}, 1.0, -1.0)])
    assert {one.finding for one in worse.values()} == {"contradicted"}
    equal = found_of([({"rescaling": "none"}, 1.0, 0.0), ({}, 1.0, 0.01)])
    assert equal["rescaling helps", TIME.metric].finding == "not resolved"
    assert equal["rescaling helps", S.metric].finding == "not resolved"


def test_a_claim_that_something_hurts_is_supported_by_harm():
    adam = {"optimizer": "adam", "optimizer.amsgrad": False}
    found = found_of([(adam, 1.5, 0.0), (adam | {"averaging": "ema", "averaging.decay": 0.99}, 1.0, -1.0)])
    assert found["EMA alone hurts", TIME.metric].finding == "supported"
    assert found["EMA alone hurts", TIME.metric].effect.mean < 0
    with_amsgrad = found_of([({}, 1.5, 0.0), ({"averaging": "ema", "averaging.decay": 0.99}, 1.0, -1.0)])
    assert not with_amsgrad  # not EMA alone


def test_only_choices_that_differ_in_nothing_else_are_pairs():
    def pairs(claim, *changes):
        found, _ = runs_of([(change, 1.0, 0.0) for change in changes], seeds=[0])
        params = {choice.key: choice.runs["params"].iloc[0] for choice in found.choices}
        return [(params[a.key], params[b.key]) for a, b in pairs_of(CLAIMS[claim], found.choices)]

    assert not pairs("rescaling helps", {"rescaling": "none"}, {"optimizer.lr": 0.1})
    layers = pairs("more layers help", *({"model.num_layers": n} for n in (3, 5, 2)))
    assert [(a["model.num_layers"], b["model.num_layers"]) for a, b in layers] == [("2", "3"), ("3", "5")]
    cycle = {"averaging": "swa", "averaging.start": 0.75, "loss": "weight_cycle", "loss.cycle": "WeightCycle"}
    assert len(pairs("SWA with weight cycling helps", {"loss.cycle": None}, cycle)) == 1
    assert not pairs("SWA with weight cycling helps", {"loss.cycle": None}, {"averaging": "swa"})
    named = pairs("rescaling helps", {"published": "nequip_baseline", "rescaling": "none"}, {"published": "x"})
    assert len(named) == 1
    mace = {"model": "mace", "model.max_ell": 1, "model.max_L": 0}
    higher = [mace | {"model.max_ell": order, "model.max_L": 2} for order in (3, 2)]
    tensor = pairs("tensor features help", mace, mace | {"model.max_L": 1}, *higher)
    assert [(a["model.max_L"], b["model.max_L"]) for a, b in tensor] == [("0", "1"), ("1", "2")]
    assert tensor[-1][-1]["model.max_ell"] == "2"
    assert not pairs("tensor features help", *higher)  # both have L = 2


def test_pairs_of_one_seed_count_as_one_witness():
    """Two pairs of the same effect do not make twice as many seeds."""
    one = found_of([({"rescaling": "none"}, 1.0, -1.0), ({}, 1.6, 0.0)])
    wide = {"model.num_features": 32}
    two = found_of(
        [
            ({"rescaling": "none"}, 1.0, -1.0),
            ({}, 1.6, 0.0),
            ({"rescaling": "none"} | wide, 1.0, -1.0),
            (wide, 1.6, 0.0),
        ]
    )
    assert len(two["rescaling helps", TIME.metric].pairs) == 2
    assert two["rescaling helps", TIME.metric].effect.n == one["rescaling helps", TIME.metric].effect.n == 5


def test_seeds_that_a_pair_lacks_are_left_out():
    """Where pairs differ in their effect, seeds with fewer of them would look different."""
    one, _ = runs_of([({"rescaling": "none"}, 1.0, -1.0), ({}, 1.6, 0.0)])
    few, _ = runs_of([({"rescaling": "none"}, 1.0, -3.0), ({}, 1.6, 0.0)], seeds=range(3))
    other = [replace(choice, key=f"{choice.key}m", label="wide") for choice in few.choices]
    for choice in other:
        choice.runs["params"] = [params | {"model.num_features": "32"} for params in choice.runs["params"]]
    (tested,) = [t for t in claims_tested([*one.choices, *other], {}) if t.measure is S]
    assert (len(tested.pairs), tested.effect.n) == (2, 3)
    assert tested.effect.mean == pytest.approx(2.0)  # the mean of 1 and 3
    assert tested.effect.high - tested.effect.low == pytest.approx(0.0, abs=1e-9)


def test_with_one_seed_nothing_is_said():
    assert not found_of([({"rescaling": "none"}, 1.0, -1.0), ({}, 3.0, 2.0)], seeds=[0])


def test_p_values_are_corrected_for_the_number_of_tests():
    found, replicas = runs_of([({"rescaling": "none"}, 1.0, -0.05), ({}, 1.15, 0.0)])
    alone = claims_tested(found.choices, replicas, [CLAIMS["rescaling helps"]])
    raw = {}
    for one in alone:
        if one.measure is HIGH_T:
            before, after = (c.of_seeds(HIGH_T.metric) for c in (found.choices[1], found.choices[0]))
            raw = stats.ttest_1samp(np.log(after / before), 0.0).pvalue
    (tested,) = [one for one in alone if one.measure is HIGH_T]
    assert tested.effect.p >= raw
    assert tested.effect.p in (pytest.approx(raw), pytest.approx(2 * raw), pytest.approx(3 * raw))


def test_the_table_and_the_lines_say_the_same():
    found, replicas = runs_of([({"rescaling": "none"}, 1.0, -1.0), ({}, 1.6, 0.0)])
    tested = claims_tested(found.choices, replicas)
    table = claims_table(tested)
    assert list(table["finding"]) == ["supported"] * 3
    assert (table["benefit"] > 0).all() and table["p_of_these_runs"].notna().sum() == 1
    (line,) = claims_in_words(tested)
    assert line.startswith("claim: rescaling helps – supported by time to failure (+")
    assert "the forces error (-3" in line


def test_what_changes_many_times_over_is_not_told_in_per_cent():
    found, replicas = runs_of([({"rescaling": "none"}, 0.05, -1.0), ({}, 1.0, 0.0)])
    (line,) = claims_in_words([one for one in claims_tested(found.choices, replicas) if one.measure is TIME])
    told = re.fullmatch(r".* – supported by time to failure \(([\d.]+) times \[([\d.]+), ([\d.]+)\]\)", line)
    mean, low, high = map(float, told.groups())
    assert low < mean < high and mean == pytest.approx(20.0, rel=0.2)
