import numpy as np
import pandas as pd
import pytest
from recorded_runs import accuracy_report, landscape_report, stability_report

from mlip_sweep.comparison.figures import NAMED, landscape_figure, prediction_figure, survival_figure
from mlip_sweep.comparison.runs import Landscape, Replicas
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import SURVIVAL_FRACTION, TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY


def sweep_of(n):
    """Table, landscapes and replicas of n runs, as `summarise` and the readers give them."""
    rng = np.random.default_rng(0)
    rows, landscapes, replicas = [], {}, {}
    for place in range(n):
        times = rng.exponential(4.0, size=20)
        landscape, stability = landscape_report(0.01 + 0.001 * place, 3.0, place), stability_report(times)
        rows.append(
            {"rank": place + 1, "run_id": f"run{place}", "name": f"seed={place}", "status": "FINISHED"}
            | landscape.metrics
            | accuracy_report(0.01 + 0.001 * place).metrics
            | stability.metrics
        )
        landscapes[f"run{place}"] = Landscape(**landscape.arrays)
        table = stability.tables["replicas"]
        replicas[f"run{place}"] = Replicas(table["time_ps"].to_numpy(), table["failed"].to_numpy())
    return pd.DataFrame(rows), landscapes, replicas


def test_landscapes_are_the_means_over_directions():
    table, landscapes, _ = sweep_of(3)
    energy, forces = landscape_figure(table, landscapes).axes
    for axes, kind in ((energy, "energy"), (forces, "forces")):
        assert axes.get_yscale() == "log"
        for line, curves in zip(axes.lines, landscapes.values(), strict=True):
            np.testing.assert_allclose(line.get_ydata(), 1000 * getattr(curves, kind).mean(axis=0))  # in meV


def test_survival_curves_end_at_the_fraction_that_survived():
    table, _, replicas = sweep_of(3)
    _, curves = survival_figure(table, replicas).axes
    assert [line.get_ydata()[-1] for line in curves.lines] == pytest.approx(list(table[SURVIVAL_FRACTION]))


def test_prediction_shows_both_measures_with_their_correlations():
    table, _, _ = sweep_of(6)
    entropy, forces = prediction_figure(table).axes
    for axes, name in ((entropy, LOSS_ENTROPY), (forces, RMSE_FORCES_HIGH_T)):
        pearson = np.corrcoef(table[name], table[TIME_TO_FAILURE])[0, 1]
        assert f"Pearson {pearson:.2f} [" in axes.get_title(loc="left")
        assert "Spearman" in axes.get_title(loc="left")


def test_every_run_is_told_apart_and_the_rest_is_counted():
    table, landscapes, _ = sweep_of(NAMED + 4)
    figure = landscape_figure(table, landscapes)
    styles = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in figure.axes[0].lines[:NAMED]}
    assert len(styles) == NAMED
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "1  seed=0"
    assert labels[-1] == "4 more"


def test_without_a_measurement_there_is_no_figure():
    table, _, _ = sweep_of(3)
    assert landscape_figure(table, {}) is None
    assert survival_figure(table, {}) is None
    assert prediction_figure(table.drop(columns=TIME_TO_FAILURE)) is None
    assert prediction_figure(table[:1]) is None
