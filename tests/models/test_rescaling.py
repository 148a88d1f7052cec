"""Rescaling: numbers of the training frames alone, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import copper_frame, ethanol_dataset, ethanol_frames

from mlip_sweep.errors import InputError
from mlip_sweep.models import rescaling


def test_forces_rms_is_the_papers():
    dataset = ethanol_dataset()
    found = rescaling.forces_rms(dataset)
    forces = np.concatenate([frame.forces.ravel() for frame in dataset.train])
    assert found.scale.item() == pytest.approx(np.sqrt(np.mean(forces**2)))
    np.testing.assert_allclose(found.shift, np.mean([frame.energy / 9 for frame in dataset.train]))


def test_other_splits_change_nothing():
    dataset = ethanol_dataset()
    other = replace(dataset, validation=ethanol_frames(3, seed=9, spread=0.3), tests={})
    mine, theirs = (rescaling.forces_rms(d).state_dict() for d in (dataset, other))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_none_changes_nothing():
    energies = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    assert torch.equal(rescaling.none(ethanol_dataset())(energies, torch.tensor([0, 1, 2])), energies)


def test_isolated_atoms_go_to_their_elements():
    dataset = replace(ethanol_dataset(), isolated_atom_energies={8: -80.0, 1: -10.0, 6: -60.0})
    found = rescaling.isolated_atoms(dataset)
    assert dataset.atomic_numbers == (1, 6, 8)
    assert found(torch.zeros(3, dtype=torch.float64), torch.tensor([0, 1, 2])).tolist() == [-10.0, -60.0, -80.0]


def test_least_squares_find_the_energies_of_elements_that_compositions_decide():
    known = {1: -13.6, 6: -1029.5, 8: -2042.0}
    ethanol = ethanol_frames(1)[0]
    frames = []
    for size in range(2, 10):  # the first so many atoms
        part = replace(ethanol, **{n: getattr(ethanol, n)[:size] for n in ("atomic_numbers", "positions", "forces")})
        frames.append(replace(part, energy=sum(known[int(z)] for z in part.atomic_numbers)))
    found = rescaling.least_squares(replace(ethanol_dataset(), train=frames))
    np.testing.assert_allclose(found.shift, list(known.values()), rtol=1e-9)
    assert found.scale.item() == pytest.approx(rescaling.rms_forces(frames))


def test_least_squares_of_one_composition_fit_the_mean_energy():
    dataset = ethanol_dataset()
    shift = rescaling.least_squares(dataset).shift
    assert float(shift @ torch.tensor([6.0, 2.0, 1.0], dtype=torch.float64)) == pytest.approx(
        np.mean([frame.energy for frame in dataset.train])
    )


def test_least_squares_of_an_element_that_no_training_frame_has():
    dataset = ethanol_dataset()
    with pytest.raises(InputError, match=r"rescaling=least_squares: no training frame has Cu; raise dataset.n_train"):
        rescaling.least_squares(replace(dataset, validation=[copper_frame()]))


def test_what_is_missing_is_named():
    dataset = replace(ethanol_dataset(), isolated_atom_energies={1: -10.0, 6: -60.0})
    with pytest.raises(InputError, match=r"atomic numbers \[8\]"):
        rescaling.isolated_atoms(dataset)
    still = [replace(frame, forces=0.0 * frame.forces) for frame in dataset.train]
    with pytest.raises(InputError, match="every training force is zero"):
        rescaling.forces_rms(replace(dataset, train=still))


def test_float64_keeps_what_float32_would_lose():
    """3BPA has -17,660 eV, where float32 has a spacing of 2 meV."""
    shift = rescaling.Rescaling(1.0, [-17660.4617])
    energy = shift(torch.tensor([1e-5], dtype=torch.float64), torch.tensor([0]))
    assert energy.item() + 17660.4617 == pytest.approx(1e-5, rel=1e-5)
