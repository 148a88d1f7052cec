"""Sharpness of losses whose curvature is known on paper, and of a real network by finite differences."""

import numpy as np
import pytest
import torch
from samples import ethanol_dataset, ethanol_frames, small_model
from toys import Springs, dataset_of

from mlip_sweep.data.graphs import collate
from mlip_sweep.measurement.sharpness import CRITICAL, CRITICAL_SCALED, SAM, SAM_SCALED, Sharpness, critical_step
from mlip_sweep.models.targets import residuals


class TrainedSprings(Springs):
    """Springs whose stiffness is a weight: energies and forces are linear in it, so that the loss is a parabola."""

    def __init__(self, stiffness: float) -> None:
        super().__init__(stiffness=1.0, length=1.5)
        self.stiffness = torch.nn.Parameter(torch.tensor(stiffness, dtype=torch.float64))


def parabola(dataset, stiffness):
    """L(k) = a k² + b k + c, from three values of it."""
    batch = collate(dataset.graphs("train", 4.0))

    def loss(k):
        missed = residuals(Springs(stiffness=k, length=1.5), batch)
        return (1000.0 * missed["energy"].square().mean() + 10.0 * missed["forces"].square().mean()).item()

    return np.polyfit([-1.0, 0.0, 1.0], [loss(k) for k in (-1.0, 0.0, 1.0)], 2), loss(stiffness)


@pytest.mark.parametrize("max_atoms", [1000, 20])
def test_a_parabola_has_the_sharpness_that_paper_gives(max_atoms):
    dataset, k = dataset_of(ethanol_frames(7)), 0.3
    (a, b, _), value = parabola(dataset, k)
    report = Sharpness(radius=0.05, max_atoms=max_atoms)(TrainedSprings(k), dataset)
    slope, second = abs(2 * a * k + b), 2 * a
    assert report.metrics[CRITICAL] == pytest.approx(second, rel=0.05)  # λ_c of a parabola is its curvature
    assert report.metrics[CRITICAL_SCALED] == pytest.approx(second * k**2 / value, rel=0.05)
    for name, radius in ((SAM, 0.05), (SAM_SCALED, 0.05 * k)):
        assert report.metrics[name] == pytest.approx(slope * radius + 0.5 * second * radius**2, rel=1e-9)


@pytest.mark.parametrize("curvature", [1e-6, 3.0, 1e5])
@pytest.mark.parametrize("first", [1e-3, 1.0, 50.0])
def test_the_critical_step_is_found_from_anywhere(curvature, first):
    found = critical_step(lambda t: -t + 0.5 * curvature * t * t, first=first)  # rises from 2 / curvature on
    assert found == pytest.approx(2.0 / curvature, rel=0.05)


def test_a_loss_that_never_rises_has_no_critical_step():
    assert np.isnan(critical_step(lambda t: -t, first=1.0))


@pytest.mark.parametrize("architecture", ["nequip", "mace"])
def test_a_network_is_left_as_found_and_rises_along_its_gradient(architecture):
    pytest.importorskip(architecture)
    dataset = ethanol_dataset(4)
    model = small_model(architecture, dataset).eval()
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    radius = 1e-5
    report = Sharpness(radius=radius)(model, dataset)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    # The rise over a short way along the gradient is the square of the gradient's norm, taken here by autograd at once.
    model.train().requires_grad_(True)
    missed = residuals(model, collate(dataset.graphs("train", model.cutoff)))
    loss = 1000.0 * missed["energy"].square().mean() + 10.0 * missed["forces"].square().mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    norm = sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5
    assert report.metrics[SAM] == pytest.approx(norm * radius, rel=0.02)
