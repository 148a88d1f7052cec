"""Rescaling: from the network's units to eV, by numbers computed on the training frames alone, in float64."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError


class Rescaling(nn.Module):
    """e -> scale · e + shift of the atom's element. Fixed numbers, kept as float64 buffers.

    Args:
        scale: eV.
        shift: one value for each element, in the order of the model's `atomic_numbers`, eV.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: float, shift: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))
        self.register_buffer("shift", torch.tensor(list(shift), dtype=torch.float64))

    def forward(self, atomic_energies: Tensor, elements: Tensor) -> Tensor:
        """(N,) energies in the network's units and (N,) element indices -> (N,) eV, float64."""
        return self.scale * atomic_energies + self.shift[elements]


def none(dataset: Dataset) -> Rescaling:
    """Neither scale nor shift: the paper's "no rescaling"."""
    return Rescaling(1.0, [0.0] * len(dataset.atomic_numbers))


def forces_rms(dataset: Dataset) -> Rescaling:
    """Scale: RMS of the forces' components; shift: mean energy of an atom. The paper's "rescaling" (its table S1)."""
    shift = float(np.mean([frame.energy / len(frame) for frame in dataset.train]))
    return Rescaling(rms_forces(dataset.train), [shift] * len(dataset.atomic_numbers))


def isolated_atoms(dataset: Dataset) -> Rescaling:
    """Scale: RMS of the forces' components; shift: each element's isolated-atom energy.

    Raises:
        InputError: the data set has no such energy for one of its elements.
    """
    known: Mapping[int, float] = dataset.isolated_atom_energies
    missing = [z for z in dataset.atomic_numbers if z not in known]
    if missing:
        raise InputError(
            f"rescaling=isolated_atoms: dataset {dataset.name} has no isolated-atom energy for atomic numbers "
            f"{missing}; give dataset.isolated_atoms, or choose rescaling=least_squares"
        )
    return Rescaling(rms_forces(dataset.train), [known[z] for z in dataset.atomic_numbers])


def least_squares(dataset: Dataset) -> Rescaling:
    """Scale: RMS of the forces' components; shift: an energy for each element, such that their sums fit the energies.

    By least squares over the compositions of the training frames, as MACE's E0s="average". Where these do not decide,
    as where all are the same, the smallest energies that fit.

    Raises:
        InputError: no training frame has one of the elements.
    """
    numbers = np.array(dataset.atomic_numbers)
    counts = np.stack([(frame.atomic_numbers[:, None] == numbers).sum(axis=0) for frame in dataset.train])  # (G, Z)
    missing = [chemical_symbols[z] for z in numbers[~counts.any(axis=0)]]
    if missing:
        raise InputError(
            f"rescaling=least_squares: no training frame has {', '.join(missing)}; raise dataset.n_train, or choose "
            "rescaling=isolated_atoms"
        )
    shift, *_ = np.linalg.lstsq(counts, np.array([frame.energy for frame in dataset.train]))
    return Rescaling(rms_forces(dataset.train), shift.tolist())


def rms_forces(frames: Sequence[Frame]) -> float:
    """Root mean square over all force components, eV/Å.

    Raises:
        InputError: every force is zero, so that there is no scale to take.
    """
    rms = float(np.sqrt(np.mean(np.concatenate([frame.forces.ravel() for frame in frames]) ** 2)))
    if rms == 0.0:
        raise InputError("rescaling: every training force is zero, so they give no scale; choose rescaling=none")
    return rms
