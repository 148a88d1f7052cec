"""Which potential to trust: by what was measured, over seeds, within groups, and never beyond what the data says."""

import numpy as np
import pytest
from lifelines.statistics import logrank_test
from recorded_runs import DURATION, stability_report, stored, verdict_of
from scipy import stats

from mlip_sweep.comparison.findings import findings
from mlip_sweep.comparison.runs import Replicas, group_titles, runs_table
from mlip_sweep.comparison.tables import choices_table, ranks
from mlip_sweep.comparison.verdict import HIGH_T, TIME, S, verdict, verdicts
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import CONTROL_SURVIVAL, TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR, UNEXPLAINED_FORCES


def exponential(scale, seed, n=12):
    return np.random.default_rng(seed).exponential(scale, n)


def test_single_runs_are_told_by_the_log_rank_test_with_holms_correction():
    times = {"good": exponential(3.0, 1), "like": exponential(2.6, 2), "bad": exponential(0.2, 3)}
    found, _, replicas = verdict_of({name: lambda _, t=t: (0.02, 3.0, t) for name, t in times.items()})
    assert found.measure is TIME
    assert [choice.label for choice in found.choices] == ["good", "like", "bad"]
    raw = {}
    for name in ("like", "bad"):
        a, b = replicas["good-0"], replicas[f"{name}-0"]
        raw[name] = logrank_test(a.time, b.time, a.failed, b.failed).p_value
    assert raw["bad"] < raw["like"]
    p = {choice.label: choice.p for choice in found.choices[1:]}
    assert p == pytest.approx({"bad": 2 * raw["bad"], "like": max(2 * raw["bad"], raw["like"])}, rel=1e-6)
    assert ranks(found) == ["1=", "1=", "3"]
    text = findings(found)
    assert text[0].startswith("trust good (run good-0): time to failure")
    assert "cannot be told from it: like (p = " in text[1] and "train seed=0,1,2,3" in text[1]
    assert "bad" in text[2] and "worse" in text[2]


def test_seeds_of_one_choice_are_one_row_and_the_comparison_is_within_seeds():
    """The seed sets the scale of all choices; one choice is worse by a fifth everywhere. Pooled, nobody sees it."""
    scale = {seed: 0.15 * 2.0**seed for seed in range(6)}

    def model(factor):
        return lambda seed: (0.02, 3.0, factor * scale[seed] * np.linspace(0.9, 1.1, 12))

    found, _, _ = verdict_of({"plain": model(1.0), "ema": model(0.8)}, seeds=range(6))
    plain, ema = found.choices
    assert (plain.label, len(plain.runs), plain.seeds) == ("plain", 6, list("012345"))
    assert ema.difference.n == 6
    assert ema.p < 0.01 and ema.rank == 2
    pooled = stats.ttest_ind(plain.of_seeds(TIME_TO_FAILURE), ema.of_seeds(TIME_TO_FAILURE)).pvalue
    assert pooled > 0.5
    shares = found.shares[TIME_TO_FAILURE]
    assert shares.seed > 0.9 and shares.choice < 0.05
    assert any(line.startswith("of the spread between runs the seed holds 9") for line in findings(found))
    assert len(choices_table(found)) == 2


def test_intervals_of_a_choice_hold_the_scatter_of_seeds():
    found, _, _ = verdict_of(
        {
            "a": lambda seed: (0.02, 3.0, exponential(1.0 + seed, seed, 30)),
            "b": lambda seed: (0.02, 3.0, exponential(0.5, seed, 30)),
        },
        seeds=range(4),
    )
    (a,) = [choice for choice in found.choices if choice.label == "a"]
    values, known = a.of_seeds(TIME_TO_FAILURE), a.estimates[TIME_TO_FAILURE]
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert known.mean == pytest.approx(values.mean())
    assert known.low <= low + 1e-9 and known.high >= high - 1e-9
    assert known.spread == pytest.approx(values.std(ddof=1))


def test_a_few_seeds_say_how_many_would_do():
    def model(factor):
        return lambda seed: (0.02, 3.0, factor[seed] * np.linspace(0.2, 1.8, 15))

    found, _, _ = verdict_of({"a": model([1.0, 1.6, 0.9, 1.5]), "b": model([1.1, 0.9, 0.8, 1.0])}, seeds=range(4))
    other = found.choices[1]
    assert other.tied and other.difference.seeds_needed > 4
    assert f"by about {other.difference.seeds_needed:.0f} seeds" in findings(found)[1]


def test_a_choice_that_is_far_worse_is_told_from_two_seeds():
    models = {
        "good": lambda s: (0.02, 3.0, exponential(2.0, s)),
        "bad": lambda s: (0.05, 2.0, exponential(0.05, s + 9)),
    }
    models |= {f"other{n}": lambda s, n=n: (0.03, 3.0, exponential(1.5, 20 + 5 * n + s)) for n in range(4)}
    found, _, _ = verdict_of(models, seeds=(0, 1))
    assert next(choice for choice in found.choices if choice.label == "bad").p < 0.05


def test_without_dynamics_errors_decide_and_without_errors_s():
    models = {"accurate": lambda s: (0.01, 2.0, None), "flat": lambda s: (0.03, 9.0, None)}
    found, _, _ = verdict_of(models, seeds=(0, 1, 2))
    assert found.measure is HIGH_T and found.best.label == "accurate"
    assert any(line.startswith("S would have chosen flat") for line in findings(found))
    only_s = [
        stored(
            f"{name}{seed}",
            {"model": name, "seed": seed},
            {LOSS_ENTROPY: value + 0.01 * seed, LOSS_ENTROPY_STDERR: 0.05},
        )
        for name, value in (("sharp", -1.0), ("flat", 2.0))
        for seed in range(3)
    ]
    found = verdict(runs_table(only_s), {})
    assert found.measure is S and found.best.label == "flat"
    assert any("whether that predicts how a potential extrapolates is not settled" in line for line in findings(found))


def test_errors_of_one_seed_each_cannot_be_told_apart():
    found, _, _ = verdict_of({"a": lambda s: (0.01, 2.0, None), "b": lambda s: (0.03, 2.0, None)})
    assert found.measure is HIGH_T
    assert found.choices[1].tied and np.isnan(found.choices[1].p)


def test_dynamics_that_the_reference_does_not_survive_is_no_test():
    runs = [
        stored(
            name,
            {"model": name},
            {TIME_TO_FAILURE: time, CONTROL_SURVIVAL: 0.3, RMSE_FORCES_HIGH_T: error},
        )
        for name, time, error in (("a", 2.0, 300.0), ("b", 1.0, 100.0))
    ]
    found = verdict(runs_table(runs), {})
    assert found.measure is HIGH_T and found.best.label == "b"
    assert any("the reference method itself does not survive" in line for line in findings(found))


def test_a_model_that_has_not_learnt_is_never_the_flattest():
    runs = [
        stored("new", {"model": "new"}, {LOSS_ENTROPY: 3.0, LOSS_ENTROPY_STDERR: 0.1, UNEXPLAINED_FORCES: 0.97}),
        stored("old", {"model": "old"}, {LOSS_ENTROPY: 1.0, LOSS_ENTROPY_STDERR: 0.1, UNEXPLAINED_FORCES: 0.1}),
    ]
    found = verdict(runs_table(runs), {})
    assert found.best.label == "old" and found.run_id == "old"
    assert found.choices[1].rank == 2
    assert any("have not learnt: new" in line for line in findings(found))


def test_of_the_best_choice_the_best_seed_is_taken():
    found, _, _ = verdict_of(
        {
            "a": lambda s: (0.02, 3.0, exponential(1.0 + 3 * (s == 2), s)),
            "b": lambda s: (0.02, 3.0, exponential(0.1, s)),
        },
        seeds=range(4),
    )
    assert found.best.label == "a"
    assert found.run_id == f"a-{found.best.of_seeds(TIME_TO_FAILURE).idxmax()}"
    assert f"seed {found.run_id[-1]}, the best of its 4 seeds" in findings(found)[0]


def test_groups_are_never_ranked_together():
    def run(name, dataset, duration, time):
        params = {"model": name, "dataset": dataset, "measurement.stability.duration_ps": duration}
        return stored(f"{name}{dataset}{duration}", params, {TIME_TO_FAILURE: time}, {"data.sources": f"{dataset}  x"})

    runs = runs_table(
        [
            *(run(name, "benzene", 2.0, time) for name, time in (("a", 1.0), ("b", 0.5), ("c", 0.1))),
            *(run(name, "benzene", 0.2, 0.2) for name in ("a", "b")),
            run("a", "aluminium", 2.0, 2.0),
        ]
    )
    found = verdicts(runs, {}, group_titles(runs))
    assert [len(one.runs) for one in found] == [3, 2, 1]
    assert len({one.title for one in found}) == 3
    for one in found:
        assert one.runs["params"].map(lambda p: (p["dataset"], p["measurement.stability.duration_ps"])).nunique() == 1


def test_replicas_that_all_survive_order_nothing():
    runs, replicas = [], {}
    for name in ("a", "b"):
        report = stability_report(np.full(5, 2 * DURATION))
        runs.append(stored(name, {"model": name}, report.metrics))
        replicas[name] = Replicas(np.full(5, DURATION), np.zeros(5, bool))
    found = verdict(runs_table(runs), replicas)
    assert ranks(found) == ["1=", "1="]
    assert any("every replica survived" in line and "lower bound" in line for line in findings(found))
