"""One training step, against autograd and against sums done by hand."""

from functools import partial

import pytest
import torch
from samples import architectures, ethanol_dataset, small_model

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.graphs import collate
from mlip_sweep.models.interface import Prediction
from mlip_sweep.models.targets import residuals, residuals_of
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


def test_loss_by_hand():
    batch = collate(graphs_of(ethanol_dataset().train[:2], 4.0))  # nine atoms each
    energy, forces = batch.labels
    found = Prediction(energy + torch.tensor([0.9, -1.8]), forces + 0.1)
    # Per atom 0.1 and −0.2 eV: mean square (0.01 + 0.04) / 2; forces 0.01 everywhere.
    loss = weighted_loss({"energy": 2.0, "forces": 30.0})
    torch.testing.assert_close(loss(residuals_of(found, batch)), torch.tensor(0.35, dtype=torch.float64))
