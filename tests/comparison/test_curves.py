"""Curves along what a sweep varies, on made-up runs that follow a law."""

import numpy as np
import pytest
from recorded_runs import stored

from mlip_sweep.comparison.curves import (
    ENERGY_NOISE,
    FORCES_NOISE,
    N_TRAIN,
    curve_figures,
    curves_of,
    learning_slopes,
    literature,
    slopes_in_words,
    with_learning_slopes,
)
from mlip_sweep.comparison.predictors import LEARNING_TOLD, predictions
from mlip_sweep.comparison.runs import runs_table
from mlip_sweep.comparison.verdict import verdict
from mlip_sweep.measurement.accuracy import EXTRAPOLATION_SLOPE, RMSE_FORCES_ALL_T, TRAIN, TRAIN_CLEAN, rmse_forces
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, UNEXPLAINED_FORCES


def learning_runs(slopes, sizes=(10, 20, 40, 80), seeds=(0, 1, 2), name=N_TRAIN):
    runs = []
    for label, slope in slopes.items():
        for seed in seeds:
            own = slope + 0.02 * np.random.default_rng([len(label), seed]).normal()
            for n in sizes:
                params = {"model": label, name: n, "seed": seed, "seeds.model": seed}
                metrics = {RMSE_FORCES_ALL_T: 100.0 * n**own, LOSS_ENTROPY: -own, UNEXPLAINED_FORCES: 0.1}
                runs.append(stored(f"{label}-{n}-{seed}", params, metrics))
    return verdict(runs_table(runs), {})


def test_slopes_of_learning_curves_come_out_with_their_scatter():
    found = learning_runs({"nequip": -0.2, "mace": -0.4, "schnet": -0.3})
    table = learning_slopes(found).set_index("choice")
    for label, slope in {"nequip": -0.2, "mace": -0.4}.items():
        row = table.loc[label]
        own = [slope + 0.02 * np.random.default_rng([len(label), seed]).normal() for seed in range(3)]
        assert row["learning_slope"] == pytest.approx(np.mean(own))
        assert row["learning_slope_ci95_low"] < row["learning_slope"] < row["learning_slope_ci95_high"]
        assert (row["seeds"], row["n_train"]) == (3, "10 20 40 80")
    (line,) = slopes_in_words(learning_slopes(found))
    assert line.startswith("learning slopes, the steepest first: mace -0.")
    assert set(curve_figures(found)) == {"learning_curves"}


def test_the_runs_on_the_most_frames_carry_the_slope_of_their_seed():
    found = learning_runs({"nequip": -0.2, "mace": -0.4})
    runs = with_learning_slopes(found)
    assert len(runs) == 6 and set(runs["axis"]) == {80}
    assert runs["learning_slope"].to_numpy() == pytest.approx(-runs[LOSS_ENTROPY].to_numpy())
    assert predictions(found, n_bootstrap=20) == []  # two choices and three seeds tell nothing
    many = learning_runs({f"m{'x' * k}": -0.2 - 0.05 * k for k in range(5)}, seeds=range(5))
    told = [one for one in predictions(many, n_bootstrap=20) if one.predictor.metric == LOSS_ENTROPY]
    assert {one.target for one in told} == {LEARNING_TOLD}
    assert {one.question: round(one.correlation, 6) for one in told} == {"over seeds": 1.0, "across": 1.0}


def test_runs_that_differ_in_something_else_are_no_curve():
    found = learning_runs({"nequip": -0.2, "mace": -0.4}, name="optimizer.lr")
    assert (
        curves_of(found, N_TRAIN) == []
        and learning_slopes(found).empty
        and slopes_in_words(learning_slopes(found)) == []
    )
    assert len(curves_of(found, "optimizer.lr")) == 2


def test_noise_is_drawn_against_noisy_and_original_labels():
    runs = []
    for sigma in (0.0, 0.05, 0.1):
        for seed in (0, 1):
            params = {"model": "nequip", FORCES_NOISE: sigma, ENERGY_NOISE: 0.0, "seed": seed, "seeds.model": seed}
            metrics = {rmse_forces(TRAIN): 20.0 + 900.0 * sigma, UNEXPLAINED_FORCES: 0.02}
            if sigma:
                metrics[rmse_forces(TRAIN_CLEAN)] = 20.0 + 100.0 * sigma
            runs.append(stored(f"{sigma}-{seed}", params, metrics))
    figures = curve_figures(verdict(runs_table(runs), {}))
    assert set(figures) == {"label_noise_forces"}
    noisy, original = figures["label_noise_forces"].axes
    assert noisy.get_title() == "noisy labels"
    (curve, *_), (clean, *_) = noisy.get_lines(), original.get_lines()
    assert list(curve.get_ydata()) == pytest.approx([20.0, 65.0, 110.0])
    assert list(clean.get_ydata()) == pytest.approx([20.0, 25.0, 30.0])
    floor = noisy.get_lines()[-1]  # σ times the spread of the original labels, 20 / 0.02 meV/Å
    assert list(floor.get_ydata()) == pytest.approx([0.0, 50.0, 100.0])


def test_extrapolation_stands_beside_the_literature_on_its_data_only():
    def figures(data):
        runs = [
            stored(
                f"{model}-{seed}",
                {"model": model, "dataset.name": data, "seed": seed, "seeds.model": seed},
                {rmse_forces("300K"): 20.0 + seed, EXTRAPOLATION_SLOPE: 0.1},
            )
            for model in ("nequip", "mace")
            for seed in (0, 1)
        ]
        return curve_figures(verdict(runs_table(runs), {}))["extrapolation"].axes[0]

    assert "literature" in figures("3bpa").get_legend_handles_labels()[1]
    assert "literature" not in figures("mine").get_legend_handles_labels()[1]


def test_slopes_of_the_literature_are_least_squares():
    table = literature().set_index("model")
    assert len(table) == 11 and table["source"].str.startswith("doi:").all()
    errors = table.loc["MACE L=2", [rmse_forces(f"{T}K") for T in (300, 600, 1200)]].to_numpy(float)
    T = np.array([300.0, 600.0, 1200.0])
    expected = ((T - T.mean()) * (errors - errors.mean())).sum() / ((T - T.mean()) ** 2).sum()
    assert table.loc["MACE L=2", EXTRAPOLATION_SLOPE] == pytest.approx(expected)
