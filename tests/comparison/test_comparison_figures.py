import numpy as np
import pytest
from recorded_runs import stored, verdict_of

from mlip_sweep.comparison.figures import NAMED, landscape_figure, prediction_figure, survival_figure
from mlip_sweep.comparison.interactive import interactive_figures
from mlip_sweep.comparison.runs import runs_table
from mlip_sweep.comparison.verdict import verdict
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, UNEXPLAINED_FORCES


def sweep_of(n, seeds=(0,)):
    """Verdict, landscapes and replicas of n choices."""

    def model(place):
        return lambda seed: (
            0.01 + 0.001 * place,
            3.0 + 0.2 * seed,
            np.random.default_rng(100 * place + seed).exponential(4.0, 20),
        )

    return verdict_of({f"model{place}": model(place) for place in range(n)}, seeds)


def test_landscapes_are_the_means_over_directions_and_seeds():
    found, landscapes, _ = sweep_of(3, seeds=(0, 1))
    for axes, kind, thermal in zip(
        landscape_figure(found, landscapes).axes, ("energy", "forces"), (4.0, 40.0), strict=True
    ):
        assert axes.get_yscale() == "log"
        *lines, temperature = axes.lines
        assert temperature.get_ydata()[0] == pytest.approx(thermal)
        for line, choice in zip(lines, found.choices, strict=True):
            curves = [getattr(landscapes[run], kind) for run in choice.runs["run_id"]]
            np.testing.assert_allclose(line.get_ydata(), 1000 * np.mean(curves, axis=(0, 1)))  # in meV


def test_survival_curves_end_at_the_fraction_that_survived():
    found, _, replicas = sweep_of(3, seeds=(0, 1))
    _, curves = survival_figure(found, replicas).axes
    survived = [np.mean([~replicas[run].failed for run in choice.runs["run_id"]]) for choice in found.choices]
    assert [line.get_ydata()[-1] for line in curves.lines] == pytest.approx(survived)


def test_prediction_shows_every_choice_as_its_mean_and_every_run_as_a_dot():
    found, _, _ = sweep_of(6, seeds=(0, 1))
    for axes, name in zip(prediction_figure(found).axes, (LOSS_ENTROPY, RMSE_FORCES_HIGH_T), strict=True):
        means = [container.lines[0].get_xydata()[0] for container in axes.containers]
        expected = [(c.estimates[name].mean, c.estimates[TIME_TO_FAILURE].mean) for c in found.choices]
        np.testing.assert_allclose(means, expected)
        dots = np.concatenate([line.get_xydata() for line in axes.lines if line.get_marker() == "."])
        assert len(dots) == len(found.runs)
        low, high = axes.get_xlim()
        assert low < found.runs[name].min() and found.runs[name].max() < high


def test_choices_that_have_not_learnt_do_not_crowd_the_others():
    def stored_as(name, unexplained, time):
        metrics = {LOSS_ENTROPY: -time, UNEXPLAINED_FORCES: unexplained, TIME_TO_FAILURE: time}
        return stored(name, {"model": name}, metrics)

    runs = [stored_as("raw", 0.97, 0.1), stored_as("old", 0.1, 2.0), stored_as("new", 0.1, 3.0)]
    found = verdict(runs_table(runs), {})
    figure = prediction_figure(found)
    assert sorted(container.lines[0].get_ydata()[0] for container in figure.axes[0].containers) == [2.0, 3.0]
    assert "not learnt: raw" in figure.get_suptitle()
    (hovered,) = interactive_figures(found, {}, {}, {})
    assert sorted(y for trace in hovered.figure.data for y in trace.y) == [2.0, 3.0]
    assert "not learnt: raw" in hovered.note


def test_every_choice_is_told_apart_and_the_rest_is_counted():
    found, landscapes, _ = sweep_of(NAMED + 4)
    figure = landscape_figure(found, landscapes)
    styles = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in figure.axes[0].lines[:NAMED]}
    assert len(styles) == NAMED
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0].endswith(found.best.label)
    assert labels[-1] == "4 more"


def test_without_a_measurement_there_is_no_figure():
    found, _, _ = sweep_of(3)
    assert landscape_figure(found, {}) is None
    assert survival_figure(found, {}) is None
    assert prediction_figure(sweep_of(1)[0]) is None
    without, _, _ = verdict_of({name: lambda _: (0.01, 3.0, None) for name in "ab"})
    assert prediction_figure(without) is None
