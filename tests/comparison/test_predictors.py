"""Rank correlations within strata, on numbers of which the answer is known."""

import numpy as np
import pytest
from recorded_runs import stored
from scipy import stats

from mlip_sweep.comparison.predictors import (
    correlations,
    predictions,
    predictions_table,
    predictors_figure,
    predictors_in_words,
)
from mlip_sweep.comparison.runs import runs_table
from mlip_sweep.comparison.verdict import verdict
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import CONTROL_SURVIVAL, TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, UNEXPLAINED_FORCES
from mlip_sweep.training.metrics import VALIDATION_FORCES


def test_one_stratum_is_spearman_s_correlation():
    rng = np.random.default_rng(0)
    values, time = rng.normal(size=(30, 2)), rng.normal(size=30)
    found = correlations(values, time, np.zeros(30, int))
    assert found[0] == pytest.approx([stats.spearmanr(values[:, k], time).statistic for k in range(2)])


def test_the_partial_correlation_is_that_of_residuals_of_ranks():
    rng = np.random.default_rng(1)
    held = rng.normal(size=40)
    values, time = (held + rng.normal(size=40))[:, None], held + rng.normal(size=40)
    found = correlations(values, time, np.zeros(40, int), held)
    ranks = [stats.rankdata(column) for column in (values[:, 0], time, held)]
    fits = [np.polyval(np.polyfit(ranks[2], rank, 1), ranks[2]) for rank in ranks[:2]]
    expected = stats.pearsonr(ranks[0] - fits[0], ranks[1] - fits[1]).statistic
    assert found[1, 0] == pytest.approx(expected)


def test_what_differs_between_strata_makes_no_correlation():
    """Between choices both grow; within each, one falls as the other grows."""
    strata = np.repeat([0, 1, 2], 5)
    within = np.tile(np.arange(5.0), 3)
    between = np.repeat([0.0, 100.0, 200.0], 5)
    found = correlations((between + within)[:, None], between - within, strata)
    assert found[0, 0] == pytest.approx(-1.0)
    assert correlations((between + within)[:, None], between - within, np.zeros(15, int))[0, 0] > 0.7


def verdict_on(n_choices=6, n_seeds=5, *, changes=None, noise=0.05, architectures=("nequip",)):
    """The choice sets S and the forces error; the seed sets the time, beside the choice."""
    runs = []
    for choice in range(n_choices):
        for seed in range(n_seeds):
            rng = np.random.default_rng([choice, seed])
            time = 1.0 + 0.1 * choice + 1.0 * seed + noise * rng.normal()
            metrics = {
                TIME_TO_FAILURE: time,
                LOSS_ENTROPY: 0.3 * choice + 0.01 * rng.normal(),
                RMSE_FORCES_HIGH_T: 100.0 - 5.0 * time,
                VALIDATION_FORCES: 50.0 + rng.normal(),
                UNEXPLAINED_FORCES: 0.1,
                **(changes or {}),
            }
            model = architectures[choice % len(architectures)]
            params = {"model": model, "optimizer.lr": choice, "seed": seed, "seeds.model": seed}
            runs.append(stored(f"{choice}-{seed}", params, metrics))
    return verdict(runs_table(runs), {})


def test_the_questions_have_different_answers():
    found = predictions(verdict_on(), n_bootstrap=300)
    of = {(one.question, one.predictor.metric): one for one in found}
    assert {one.question for one in found} == {"over seeds", "over choices", "within an architecture"}
    assert of["over choices", LOSS_ENTROPY].correlation > 0.8
    assert abs(of["over seeds", LOSS_ENTROPY].correlation) < 0.5
    assert of["over seeds", LOSS_ENTROPY].low < 0 < of["over seeds", LOSS_ENTROPY].high
    error = of["over seeds", RMSE_FORCES_HIGH_T]  # falls with the time: as it is said to
    assert error.correlation == pytest.approx(1.0) and error.low > 0.9 and np.isnan(error.worse_than_best)
    assert of["over seeds", LOSS_ENTROPY].worse_than_best < 0.05
    told = predictors_in_words(found)
    assert told[0].startswith("what tells the time to failure over seeds: high-T forces RMSE +1.00")
    assert "worse (p = " in told[0]
    table = predictions_table(found)
    assert list(table["question"].drop_duplicates()) == ["over seeds", "over choices", "within an architecture"]
    assert table.iloc[0]["metric"] == RMSE_FORCES_HIGH_T
    assert len(predictors_figure(found).axes) == 3


def test_chance_is_not_taken_for_more_in_nineteen_of_twenty_cases():
    """Independent numbers: the interval should miss zero in about one case of twenty."""
    missed = 0
    for trial in range(20):
        rng = np.random.default_rng([5, trial])
        runs = [
            stored(
                f"{choice}-{seed}",
                {"model": "nequip", "optimizer.lr": choice, "seed": seed, "seeds.model": seed},
                {TIME_TO_FAILURE: rng.exponential(), LOSS_ENTROPY: rng.normal(), UNEXPLAINED_FORCES: 0.1},
            )
            for choice in range(6)
            for seed in range(5)
        ]
        found = predictions(verdict(runs_table(runs), {}), n_bootstrap=80)
        (one,) = [p for p in found if p.question == "within an architecture"]
        missed += not one.low <= 0 <= one.high
    assert missed <= 4  # of 20; more has a probability of 0.3 % at one in twenty


def test_nothing_is_said_where_the_reference_itself_fails_or_runs_are_few():
    assert not predictions(verdict_on(changes={CONTROL_SURVIVAL: 0.2}))
    assert not predictions(verdict_on(n_choices=2, n_seeds=2))
    assert not predictions(verdict_on(changes={UNEXPLAINED_FORCES: 0.9}))  # none has learnt
    assert predictors_figure([]) is None and predictions_table([]).empty and predictors_in_words([]) == []


def test_four_choices_of_each_architecture_do_not_answer_for_one():
    """As in the demo, where a measure that orders both fours rightly had an interval without a width."""
    found = predictions(verdict_on(n_choices=8, n_seeds=1, architectures=("nequip", "mace")), n_bootstrap=50)
    assert {one.question for one in found} == {"across"}


def test_one_seed_leaves_the_questions_that_it_can_answer():
    found = predictions(verdict_on(n_choices=8, n_seeds=1), n_bootstrap=50)
    assert {one.question for one in found} == {"over choices", "within an architecture"}
