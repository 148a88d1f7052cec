"""Landscapes against an analytic model, and what a measurement must leave alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import ethanol_dataset, main_architectures, small_model

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.graphs import collate
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.landscape.directions import Directions
from mlip_sweep.measurement.landscape.grid import Displacements, evaluate_lines, evaluate_plane, grid
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, SATURATION_ENERGY, LossEntropy
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.rescaling import Rescaling

SIZE = {"directions": 2, "points": 5, "plane_points": 0, "progress": False}


class Linear(Potential):
    """e_i = w_z, so that the energy's error, and the square of its RMSE along a line, are known by hand."""

    def __init__(self) -> None:
        super().__init__(cutoff=5.0, atomic_numbers=[1, 6, 8], rescaling=Rescaling(1.0, [0.0] * 3), dtype="float64")
        self.w = torch.nn.Parameter(torch.tensor([[1.0], [2.0], [-0.5]], dtype=torch.float64))

    def atomic_energies(self, geometry):
        return self.w[self.elements(geometry), 0] + 0.0 * geometry.positions.sum(dim=1)


def model_of(architecture):
    return small_model(architecture, ethanol_dataset(), dtype="float32")


def test_lines_of_a_linear_model_are_the_parabolas_they_must_be():
    model, dataset = Linear(), ethanol_dataset()
    batch = collate(graphs_of(dataset.train, model.cutoff))
    drawn = Directions(model, seed=0)
    found = evaluate_lines(model, [batch], drawn, 2, grid(7, 0.25), progress=False)
    counts = torch.tensor([6.0, 2.0, 1.0], dtype=torch.float64)  # H, C, O of ethanol
    for n in range(2):
        for g, t in enumerate(found.t):
            energy = counts @ (model.w.detach() + t * drawn[n][0])[:, 0]
            expected = ((energy - batch.energy) / 9).square().mean().sqrt().item()
            assert found.energy[n, g] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(found.forces, batch.forces.square().mean().sqrt().item())


def test_a_plane_holds_its_lines():
    model, dataset = Linear(), ethanol_dataset()
    batch = collate(graphs_of(dataset.train, model.cutoff))
    drawn, t = Directions(model, seed=0), grid(5, 0.25)
    along = evaluate_lines(model, [batch], drawn, 2, t, progress=False)
    surface = evaluate_plane(model, [batch], drawn, t, progress=False)
    np.testing.assert_allclose(surface.energy[:, 2], along.energy[0])
    np.testing.assert_allclose(surface.energy[2, :], along.energy[1])
    np.testing.assert_allclose(surface.weighted(2.0, 3.0), 2 * surface.energy + 3 * surface.forces)


@pytest.mark.parametrize("architecture", main_architectures())
def test_splitting_batches_changes_nothing_and_the_centre_is_the_model(architecture):
    model, dataset = model_of(architecture), ethanol_dataset()
    whole, split = (LossEntropy(max_atoms=n, **SIZE)(model, dataset) for n in (4096, 20))
    np.testing.assert_allclose(whole.arrays["forces"], split.arrays["forces"], rtol=1e-4)
    batch = collate(graphs_of(dataset.train, model.cutoff))
    centre = (model(batch).forces - batch.forces).square().mean().sqrt().item()
    np.testing.assert_allclose(whole.arrays["forces"][:, 2], centre, rtol=1e-5)


@pytest.mark.parametrize("architecture", main_architectures())
def test_the_model_is_left_as_it_was_found(architecture):
    model = model_of(architecture)
    model.train()
    next(model.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = [p.requires_grad for p in model.parameters()]
    LossEntropy(**{**SIZE, "plane_points": 3})(model, ethanol_dataset())
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_parameters_are_not_touched_while_they_are_displaced():
    model = Linear()
    before = model.w.detach().clone()
    batch = collate(graphs_of(ethanol_dataset().train, model.cutoff))
    displacements = Displacements(model)
    away = displacements.at([(0.1, [torch.ones_like(model.w)]), (0.2, [2 * torch.ones_like(model.w)])])
    seen = away(batch)
    assert torch.equal(model.w, before)
    torch.testing.assert_close(displacements.at([])(batch).energy, model(batch).energy, rtol=0.0, atol=0.0)
    with torch.no_grad():
        model.w.add_(0.5)
    torch.testing.assert_close(seen.energy, model(batch).energy)


def test_a_model_is_left_as_it_was_found_after_an_error():
    class Broken(Linear):
        calls = 0

        def atomic_energies(self, geometry):
            self.calls += 1
            if self.calls > 3:
                raise KeyboardInterrupt
            return super().atomic_energies(geometry)

    model = Broken().train()
    before = model.w.detach().clone()
    with pytest.raises(KeyboardInterrupt):
        LossEntropy(**SIZE)(model, ethanol_dataset())
    assert torch.equal(model.w, before) and isinstance(model.w, torch.nn.Parameter)
    assert model.training and model.w.requires_grad


def test_report_names_saturation_and_lost_points():
    flat = Linear()
    dataset = ethanol_dataset()
    exact = [
        replace(f, energy=flat(collate(graphs_of([f], 5.0))).energy.item(), forces=0 * f.forces + 1e-6)
        for f in dataset.train
    ]
    with torch.no_grad():
        flat.w.mul_(1e-9)
    exact = [replace(f, energy=f.energy * 1e-9) for f in exact]
    report = LossEntropy(**SIZE)(flat, replace(dataset, train=exact))
    assert report.metrics[SATURATION_ENERGY] == 1.0
    assert report.metrics[LOSS_ENTROPY] == pytest.approx(np.log(5), abs=1e-3)
    assert any("close to its ceiling" in note for note in report.notes)


def test_any_split_and_no_other():
    model, dataset = Linear(), ethanol_dataset()
    counts = torch.tensor([6.0, 2.0, 1.0], dtype=torch.float64)  # H, C, O of ethanol
    for split in ("train", "validation", "1200K"):
        energies = np.array([frame.energy for frame in dataset.frames(split)])
        centre = np.sqrt(np.mean(((counts @ model.w.detach()[:, 0]).item() - energies) ** 2)) / 9
        report = LossEntropy(split=split, **SIZE)(model, dataset)
        np.testing.assert_allclose(report.arrays["energy"][:, 2], centre, rtol=1e-12)
    with pytest.raises(InputError, match=r"split=500K.*300K"):
        LossEntropy(split="500K", **SIZE)(model, dataset)
    with pytest.raises(InputError, match="directions=0"):
        LossEntropy(directions=0, plane_points=0)
