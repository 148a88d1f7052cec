"""The energies' shift: found by least squares, left out of the validation, and put into the kept weights."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from samples import architectures, ethanol_dataset, small_model

from mlip_sweep.config import TrainerSettings
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.graphs import collate
from mlip_sweep.models.targets import ENERGY
from mlip_sweep.training.energy_shift import fit_shift, shift_of, shifted
from mlip_sweep.training.fit import Recipe, fit
from mlip_sweep.training.loss import weighted_loss

FAR_OFF = 5.0  # eV/atom, that labels are moved by in these tests


def offset_dataset():
    """Ethanol whose energies are far from what a fresh model says."""
    dataset = ethanol_dataset()

    def moved(frames):
        return [replace(frame, energy=frame.energy + FAR_OFF * len(frame)) for frame in frames]

    train = moved(dataset.train)
    return replace(dataset, train=train, train_clean=train, validation=moved(dataset.validation))


def train(folder, fit_energy_shift, epochs=4):
    plain, far = ethanol_dataset(), offset_dataset()
    (name,) = next(iter(architectures())).values
    model = small_model(name, plain)  # its own shift is that of the labels before they were moved
    graphs = [graphs_of(frames, model.cutoff) for frames in (far.train, far.validation)]
    loss = weighted_loss({"energy": 0.0, "forces": 10.0})  # nothing trains the energies
    validation = weighted_loss({"energy": 1000.0, "forces": 10.0})
    recipe = Recipe(partial(torch.optim.Adam, lr=0.01), loss, validation, fit_energy_shift=fit_energy_shift)
    settings = TrainerSettings(max_epochs=epochs, batch_size=2, accelerator="cpu", progress=False)
    return model, graphs, fit(model, *graphs, recipe, settings, seed=0, folder=folder)


def energy_errors(model, graphs):
    batch = collate(graphs)
    return ENERGY.residual(model(batch), batch).detach().numpy()


def test_a_shift_of_known_elements_is_found():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, size=(60, 3)).astype(float)
    true = np.array([-1.5, 0.25, 7.0])
    errors = (counts @ true) / counts.sum(axis=1) + 1e-3 * rng.standard_normal(60)
    found = fit_shift(errors, counts)
    assert found.shift == pytest.approx(-true, abs=5e-3)
    assert np.sqrt(np.mean(found.after**2)) < 1.1e-3
    assert found.offset == pytest.approx(np.sqrt(np.mean((errors - found.after) ** 2)))


def test_one_composition_loses_its_mean_and_few_frames_get_one_number():
    alike = np.tile([2.0, 6.0, 1.0], (30, 1))
    errors = 3.0 + np.linspace(-0.1, 0.1, 30)
    assert fit_shift(errors, alike).after == pytest.approx(errors - errors.mean())
    few = fit_shift(np.array([1.0, 3.0]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert few.shift == pytest.approx([-2.0, -2.0])
    assert fit_shift(np.array([1.0, np.inf]), np.ones((2, 1))).shift == [0.0]


def test_the_kept_model_has_no_offset(tmp_path):
    model, (graphs, _), kept = train(tmp_path, fit_energy_shift=True)
    assert abs(energy_errors(model, graphs).mean()) < 1e-6
    assert kept.energy_offset == pytest.approx(FAR_OFF, rel=0.1)
    model, (graphs, _), kept = train(tmp_path / "as_trained", fit_energy_shift=False)
    assert abs(energy_errors(model, graphs).mean()) == pytest.approx(FAR_OFF, rel=0.1)
    assert kept.energy_offset == 0.0


def test_an_offset_does_not_choose_the_epoch(tmp_path):
    """Nothing moves the offset here but chance, and the forces get better: the last epochs are the best."""
    _, _, kept = train(tmp_path, fit_energy_shift=True, epochs=6)
    assert kept.epoch >= 4
    assert kept.validation_loss < 1000.0 * 0.1 * FAR_OFF**2  # the offset alone would be 25,000


def test_a_shift_for_a_while_leaves_the_model_as_it_was():
    dataset = offset_dataset()
    (name,) = next(iter(architectures())).values
    model = small_model(name, ethanol_dataset()).eval()
    graphs = graphs_of(dataset.train, model.cutoff)
    before = energy_errors(model, graphs)
    with shifted(model, [collate(graphs)]):
        assert abs(energy_errors(model, graphs).mean()) < 1e-6
    assert (energy_errors(model, graphs) == before).all()
    assert shift_of(model, [collate(graphs)]).before == pytest.approx(before)
