"""One training step, against autograd and against sums done by hand."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from samples import architectures, copper_frame, ethanol_dataset, ethanol_frames, small_model

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.graphs import collate
from mlip_sweep.models.interface import Prediction
from mlip_sweep.models.targets import residuals, residuals_of, weighted
from mlip_sweep.training.loss import weighted_loss
from mlip_sweep.training.module import TrainingModule

LOSS = weighted_loss({"energy": 1.0, "forces": 1000.0})


@pytest.mark.parametrize("architecture", architectures())
def test_gradients_are_those_of_every_parameter_and_of_nothing_else(architecture):
    dataset = ethanol_dataset()
    model = small_model(architecture, dataset).train()
    optimizer = partial(torch.optim.Adam, lr=0.01)
    module = TrainingModule(model, optimizer, loss=LOSS, validation_loss=LOSS, plateau_factor=0.8, plateau_patience=5)
    batch = collate(graphs_of(dataset.train[:3], model.cutoff))
    expected = torch.autograd.grad(LOSS(residuals(model, batch)), list(model.parameters()), allow_unused=True)
    module.backward(module.training_step(batch, 0))
    found = [p.grad for p in model.parameters()]
    assert any(gradient is not None and gradient.any() for gradient in found)
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("huber_delta", [None, 0.15])
def test_a_frame_counts_by_its_weight_in_the_training_loss_alone(huber_delta):
    frames = [ethanol_frames(1)[0], replace(copper_frame(), weight=4.0), replace(copper_frame(), weight=0.0)]
    batch = collate(graphs_of(frames, 4.0))
    energy, forces = batch.labels
    found = Prediction(energy + torch.tensor([0.9, 0.4, 4.0]), forces + 0.1, batch.stress + 0.1)
    missed = residuals_of(found, batch)
    loss = replace(weighted_loss({"energy": 2.0, "forces": 30.0, "stress": 5.0}), huber_delta=huber_delta)
    # Errors are 0.1 of each atom, component and stress, and 1.0 eV for each atom of what has no weight. With weight 4
    # they count as 0.2, whose square or, beyond 0.15, twice Huber's loss is:
    large = 0.04 if huber_delta is None else 2 * 0.15 * (0.2 - 0.075)
    expected = 2 * (0.01 + large) / 3 + 30 * (27 * 0.01 + 12 * large) / 51 + 5 * (9 * large) / 18
    torch.testing.assert_close(loss(weighted(missed, batch)), torch.tensor(expected, dtype=torch.float64))
    unweighted = collate(graphs_of([replace(frame, weight=1.0) for frame in frames], 4.0))
    assert unweighted.weight is None
    for name, values in residuals_of(found, unweighted).items():
        torch.testing.assert_close(missed[name], values, rtol=0, atol=0)
        assert weighted(missed, unweighted)[name] is missed[name]


def test_a_training_step_weighs_and_a_validation_step_does_not():
    dataset = ethanol_dataset()
    model = small_model("nequip", dataset)
    optimizer = partial(torch.optim.Adam, lr=0.01)
    module = TrainingModule(model, optimizer, loss=LOSS, validation_loss=LOSS, plateau_factor=0.8, plateau_patience=5)
    light, heavy = (
        collate(graphs_of([replace(frame, weight=weight) for frame in dataset.train[:2]], model.cutoff))
        for weight in (1.0, 2.0)
    )
    torch.testing.assert_close(module.training_step(heavy, 0), 2.0 * module.training_step(light, 1))
    errors = []
    for batch in (light, heavy):
        module.on_validation_epoch_start()
        module.validation_step(batch, 0)
        errors.append(module._mean_squares.values)
    assert errors[0] == errors[1]


def test_loss_by_hand():
    batch = collate(graphs_of(ethanol_dataset().train[:2], 4.0))  # nine atoms each
    energy, forces = batch.labels
    found = Prediction(energy + torch.tensor([0.9, -1.8]), forces + 0.1)
    # Per atom 0.1 and −0.2 eV: mean square (0.01 + 0.04) / 2; forces 0.01 everywhere.
    loss = weighted_loss({"energy": 2.0, "forces": 30.0})
    torch.testing.assert_close(loss(residuals_of(found, batch)), torch.tensor(0.35, dtype=torch.float64))
