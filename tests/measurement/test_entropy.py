"""Loss entropy against hand calculation and against the paper's published curves and values."""

import numpy as np
import pandas as pd
import pytest
from samples import SHARED

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.landscape.entropy import (
    EntropySettings,
    combined_entropy,
    curvature,
    entropy_of,
    landscape_entropy,
    saturation,
)

PUBLISHED = SHARED / "data" / "vita2023"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not beside the checkout")


@needs_published
def test_published_entropies_follow_from_the_published_curves():
    curves = pd.read_csv(PUBLISHED / "nequip_losslands.csv")
    values = pd.read_csv(PUBLISHED / "nequip_entropy.csv", index_col=0)
    assert len(values) == 13
    for model, curve in curves.groupby("model"):
        energy, forces = landscape_entropy(curve.e, 0.004), landscape_entropy(curve.f, 0.040)
        published = values.loc[model]
        assert energy == pytest.approx(published.Se, abs=1e-6)
        assert forces == pytest.approx(published.Sf, abs=1e-6)
        assert combined_entropy(energy, forces) == pytest.approx(published.S, abs=1e-6)


@needs_published
def test_published_curvatures_follow_from_the_published_curves():
    curves = pd.read_csv(PUBLISHED / "nequip_losslands.csv")
    values = pd.read_csv(PUBLISHED / "nequip_entropy.csv", index_col=0)
    for model, curve in curves.groupby("model"):
        assert curvature(curve.x.to_numpy(), curve.e.to_numpy()) == pytest.approx(values.Ce[model], rel=1e-6)
        assert curvature(curve.x.to_numpy(), curve.f.to_numpy()) == pytest.approx(values.Cf[model], rel=1e-6)


def test_a_flat_landscape_has_the_ceiling_less_its_height():
    assert landscape_entropy(np.zeros(81), 0.04) == pytest.approx(np.log(81))
    assert landscape_entropy(np.full(81, 0.08), 0.04) == pytest.approx(np.log(81) - 2.0)


def test_no_underflow_and_leading_axes():
    losses = np.array([[100.0, 200.0], [0.0, 1e9]])
    np.testing.assert_allclose(landscape_entropy(losses, 0.01), [-10000.0, 0.0])


@pytest.mark.parametrize("lost", [np.inf, np.nan])
def test_points_without_a_loss_count_for_nothing(lost):
    assert landscape_entropy([0.1, lost], 0.04) == pytest.approx(landscape_entropy([0.1], 0.04))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(InputError, match="temperature"):
        landscape_entropy([0.1], temperature)
    with pytest.raises(InputError, match="alpha"):
        combined_entropy(1.0, 1.0, alpha=1.5)


def test_the_standard_error_is_that_of_the_directions():
    """One point of the grid: S is the mean loss over −T, whose standard error is known."""
    rng = np.random.default_rng(0)
    losses = rng.normal(0.1, 0.02, (50, 1))
    found = entropy_of(losses, losses, EntropySettings(0.04, 0.04, 0.5), n_bootstrap=20000)
    exact = losses.std(ddof=1) / np.sqrt(50) / 0.04
    assert found.total == pytest.approx(-losses.mean() / 0.04)
    assert found.total_stderr == pytest.approx(exact, rel=0.03)


def test_one_direction_has_no_standard_error():
    losses = np.full((1, 5), 0.1)
    assert np.isnan(entropy_of(losses, losses, EntropySettings()).total_stderr)


def test_curvature_of_a_parabola():
    t = np.linspace(-0.25, 0.25, 81)
    assert curvature(t, 3.0 * t**2 + 0.5 * t + 1) == pytest.approx(6.0 / 1.25**1.5)


def test_saturation_is_the_share_of_points_that_count():
    assert saturation(np.zeros(10), 0.04) == 1.0
    assert saturation(np.array([0.0, 0.1, 1.0, np.inf]), 0.04) == 0.5
