"""The adaptive landscape against the full one: flat, sharp, untrained, wild and broken models."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from samples import ethanol_dataset, main_architectures, small_model

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.graphs import batches, collate
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.landscape.adaptive import sample_lines
from mlip_sweep.measurement.landscape.directions import Directions
from mlip_sweep.measurement.landscape.entropy import EntropySettings, entropy_of
from mlip_sweep.measurement.landscape.grid import evaluate_lines, grid
from mlip_sweep.measurement.landscape.interpolation import LineNodes, from_arrays, to_arrays
from mlip_sweep.measurement.landscape.loss_entropy import (
    DIRECTIONS,
    EVALUATIONS,
    LOSS_ENTROPY,
    LossEntropy,
)
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.rescaling import Rescaling

N, T = 3, grid(81, 0.25)
SETTINGS = EntropySettings()


class Wave(Potential):
    """e_i = sin(k w_z) / 100: as many waves across the window as k says, and NaN beyond a displacement."""

    def __init__(self, k: float, lost_beyond: float = np.inf) -> None:
        super().__init__(cutoff=5.0, atomic_numbers=[1, 6, 8], rescaling=Rescaling(1.0, [0.0] * 3), dtype="float64")
        self.w = torch.nn.Parameter(torch.tensor([[1.0], [2.0], [-0.5]], dtype=torch.float64))
        self.start = self.w.detach().clone()
        self.k, self.lost_beyond, self.calls = k, lost_beyond, 0

    def atomic_energies(self, batch):
        self.calls += 1
        if ((self.w - self.start).abs() / self.start.abs()).max() > self.lost_beyond:
            return torch.nan * batch.positions.sum(dim=1)
        return torch.sin(self.k * self.w[self.elements(batch), 0]) / 100 + 0.0 * batch.positions.sum(dim=1)


def data_of(model):
    return [collate(graphs_of(ethanol_dataset(3).train, model.cutoff))]


@cache
def model_and_data(architecture, trained):
    """A model with the labels of the data set, or with labels that it fits to 1 meV/atom and 10 meV/Å."""
    dataset = ethanol_dataset()
    model = small_model(architecture, dataset, dtype="float32")
    (batch,) = data_of(model)
    if trained:
        found, noise = model(batch), torch.Generator().manual_seed(0)
        energy = found.energy + 0.009 * torch.randn(found.energy.shape, generator=noise, dtype=torch.float64)
        forces = found.forces + 0.010 * torch.randn(found.forces.shape, generator=noise, dtype=torch.float64)
        batch = replace(batch, energy=energy.detach(), forces=forces)
    return model, [batch], evaluate_lines(model, [batch], Directions(model, seed=0), N, T, progress=False)


def both(model, data, settings=SETTINGS, full=None):
    """S of the full evaluation, what the adaptive one found, and its S."""
    full = full or evaluate_lines(model, data, Directions(model, seed=0), N, T, progress=False)
    found = sample_lines(model, data, Directions(model, seed=0), N, T, settings, tolerance=0.01, progress=False)
    s = [entropy_of(c.energy, c.forces, settings, n_bootstrap=0).total for c in (full, found.curves)]
    return s[0], found, s[1]


@pytest.mark.parametrize(
    ("trained", "hotness"),
    [(True, 0.2), (True, 1.0), (True, 10.0), (False, 1.0)],
    ids=["sharp", "trained", "flat", "untrained"],
)
@pytest.mark.parametrize("architecture", main_architectures())
def test_the_entropy_is_that_of_the_full_landscape(architecture, trained, hotness):
    model, data, full = model_and_data(architecture, trained)
    settings = EntropySettings(0.004 * hotness, 0.040 * hotness)
    expected, found, entropy = both(model, data, settings, full)
    assert entropy == pytest.approx(expected, abs=0.01)
    assert found.error < 0.01
    assert found.evaluations <= N * 81 / (5 if trained else 2)


def test_evaluations_are_what_is_counted():
    model = Wave(1.0)
    data = data_of(model)
    found = sample_lines(model, data, Directions(model, seed=0), N, T, SETTINGS, tolerance=0.01, progress=False)
    assert model.calls == found.evaluations


@pytest.mark.parametrize("k", [3.0, 30.0, 300.0, 700.0, 3000.0])
def test_a_landscape_too_wild_to_interpolate_is_evaluated(k):
    model = Wave(k)
    expected, found, entropy = both(model, data_of(model))
    assert entropy == pytest.approx(expected, abs=0.01)
    assert (found.curves.energy >= 0).all()
    if k in (300.0, 700.0):  # the waves of 3000 are so much narrower than the grid that S converges sooner, by itself
        assert found.evaluations == 1 + N * 80
        assert entropy == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("points", [80, 5, 3])
def test_any_grid(points):
    model, t = Wave(30.0), grid(points, 0.25)
    data = data_of(model)
    full = evaluate_lines(model, data, Directions(model, seed=0), N, t, progress=False)
    found = sample_lines(model, data, Directions(model, seed=0), N, t, SETTINGS, tolerance=1e-9, progress=False)
    np.testing.assert_allclose(found.curves.energy, full.energy, rtol=1e-6)


def test_points_without_a_loss_are_the_same_as_in_the_full_landscape():
    model = Wave(1.0, lost_beyond=0.1)
    data = data_of(model)
    full = evaluate_lines(model, data, Directions(model, seed=0), N, T, progress=False)
    expected, found, entropy = both(model, data, full=full)
    assert np.isnan(full.energy).any()
    np.testing.assert_allclose(found.curves.energy, full.energy, rtol=1e-12)
    assert entropy == pytest.approx(expected, abs=1e-12)
    restored = from_arrays(to_arrays(found.lines))
    np.testing.assert_allclose(restored[0].rmse(T)[0], full.energy[0], rtol=1e-12)


def test_a_node_gives_what_was_evaluated_there():
    model, data, full = model_and_data("nequip", True)
    found = sample_lines(model, data, Directions(model, seed=0), N, T, SETTINGS, tolerance=0.01, progress=False)
    for k, line in enumerate(found.lines):
        here = np.isin(T, line.t)
        assert here.sum() == len(line.t)
        np.testing.assert_allclose(found.curves.forces[k][here], full.forces[k][here], rtol=1e-6)


def test_errors_quadratic_in_t_are_followed_exactly():
    """Their square is of fourth degree, which three points of the loss could not give."""
    nodes, t = np.array([-0.25, 0.0, 0.25]), np.linspace(-0.25, 0.25, 31)
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 50, 1))
    errors = a + b * nodes + c * nodes**2  # (50, M)
    products = errors.T @ errors / 50
    expected = np.sqrt(np.mean((a + b * t + c * t**2) ** 2, axis=0))
    np.testing.assert_allclose(LineNodes(nodes, products, products).rmse(t), [expected, expected], rtol=1e-10)


def test_directions_are_added_until_the_entropy_is_certain():
    model, data, _ = model_and_data("mace", True)

    def stderr_and_curves(target):
        drawn = Directions(model, seed=0)
        found = sample_lines(
            model, data, drawn, 10, T, SETTINGS, tolerance=0.01, target_stderr=target, progress=False
        ).curves
        return entropy_of(found.energy, found.forces, SETTINGS).total_stderr, found.forces

    error_all, curves_all = stderr_and_curves(None)
    target = 1.3 * error_all
    error, curves = stderr_and_curves(target)
    assert 5 <= len(curves) < 10 == len(curves_all)
    assert error == pytest.approx(target, rel=0.35)
    np.testing.assert_array_equal(curves, curves_all[: len(curves)])  # those that were there are not changed


@pytest.mark.parametrize("architecture", main_architectures())
def test_a_quick_estimate_is_the_same_measurement_and_leaves_no_trace(architecture):
    dataset, model = ethanol_dataset(), small_model(architecture, ethanol_dataset(), dtype="float32")
    model.train()
    sum(p.sum() for p in model.parameters()).backward()
    before = [(p.detach().clone(), p.grad.clone()) for p in model.parameters()]
    state = torch.get_rng_state()
    measurement = LossEntropy(directions=3, tolerance=0.03, seed=1, plane_points=0, progress=False)
    with torch.no_grad():
        data = batches(graphs_of(dataset.train, model.cutoff))
        entropy = measurement.entropy(model, data)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(
        torch.equal(p, a) and torch.equal(p.grad, g) for p, (a, g) in zip(model.parameters(), before, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)
    report = measurement(model, dataset)
    assert entropy == pytest.approx(report.metrics[LOSS_ENTROPY], abs=1e-9)
    assert report.metrics[DIRECTIONS] == 3
    assert report.metrics[EVALUATIONS] < 60


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "fast"}, "method='fast': choose 'adaptive' or 'full'"),
        ({"tolerance": 0.0}, "tolerance=0"),
        ({"normalization": "batch"}, "normalization='batch': choose one of filter, layer, model, irreps"),
        ({"target_stderr": 0.05, "method": "full"}, "target_stderr"),
        ({"target_stderr": -1.0}, "target_stderr"),
    ],
)
def test_useless_settings_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        LossEntropy(**setting)
