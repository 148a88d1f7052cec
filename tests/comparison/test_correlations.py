import numpy as np
import pytest
from scipy import stats

from mlip_sweep.comparison.statistics import correlation, learning_slope
from mlip_sweep.errors import InputError


def test_slope_of_a_power_law_is_its_exponent():
    n = np.array([25, 125, 250, 500])
    assert learning_slope(n, 3.0 * n**-0.4) == pytest.approx(-0.4, abs=1e-12)
    assert learning_slope(n, 3000.0 * n**-0.4) == pytest.approx(-0.4, abs=1e-12)  # whatever the unit


def test_slope_without_two_sizes_is_unknown():
    assert np.isnan(learning_slope([25], [0.1]))
    assert np.isnan(learning_slope([25, 25], [0.1, 0.2]))
    assert learning_slope([25, 100, 400], [0.4, np.nan, 0.1]) == pytest.approx(-0.5)


def test_slope_of_impossible_values_is_refused():
    with pytest.raises(InputError, match="positive"):
        learning_slope([0, 25], [0.1, 0.2])
    with pytest.raises(InputError, match="give pairs"):
        learning_slope([25, 50], [0.1])


def test_correlation_is_that_of_the_finite_pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    with_gaps = np.append(y, [np.nan, 3.0])
    found = correlation(np.append(x, [1.0, np.inf]), with_gaps)
    assert found.n == 60
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    # Fisher's interval is another road to the same uncertainty.
    fisher = stats.pearsonr(x, y).confidence_interval()
    assert found.pearson_low == pytest.approx(fisher.low, abs=0.06)
    assert found.pearson_high == pytest.approx(fisher.high, abs=0.06)
    assert found.spearman_low < found.spearman < found.spearman_high
    assert correlation(x, y) == correlation(x, y)


@pytest.mark.parametrize(
    ("x", "y"),
    [([], []), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, np.nan], [1, 2, 3]), ([1, 2, 3], [4, 4, 4])],
)
def test_degenerate_columns_have_no_correlation(x, y):
    found = correlation(x, y)
    assert np.isnan([found.pearson, found.pearson_low, found.spearman, found.spearman_high]).all()
    assert "undefined" in str(found)


def test_interval_leaves_out_constant_resamples():
    found = correlation([1.0, 1.0, 1.0, 1.0, 3.0], [1.1, 2.3, 2.9, 0.3, 3.5])
    assert np.isfinite([found.pearson_low, found.pearson_high, found.spearman_low, found.spearman_high]).all()
    nearly = correlation(1e9 + np.array([0.0, 1, 2, 3, 4]), [0.1, 1, 2, 2.5, 7])
    assert -1 <= nearly.pearson_low <= nearly.pearson_high <= 1 + 1e-12


def test_few_points_have_a_correlation_but_no_interval():
    found = correlation([1.0, 2.0, 3.0], [1.0, 2.0, 3.5])
    assert found.spearman == pytest.approx(1.0)
    assert np.isnan([found.pearson_low, found.spearman_high]).all()
    assert "too few for intervals" in str(found)
