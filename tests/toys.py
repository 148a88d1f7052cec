"""Toy potentials whose trajectories are known from elsewhere: from ASE's own calculators, or on paper."""

from abc import abstractmethod

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import Geometry, GraphBatch
from mlip_sweep.models.interface import Potential, Prediction
from mlip_sweep.models.rescaling import Rescaling


class Pairwise(Potential):
    """E = ½ Σ over directed pairs of `pair_energy(distance)`."""

    def __init__(self, cutoff: float, atomic_numbers=(1, 6, 8, 18)) -> None:
        numbers = tuple(atomic_numbers)
        super().__init__(
            cutoff=cutoff, atomic_numbers=numbers, rescaling=Rescaling(1.0, [0.0] * len(numbers)), dtype="float64"
        )

    @abstractmethod
    def pair_energy(self, distance: Tensor) -> Tensor:
        """Energies of pairs, (E,) eV, at distances (E,) Å."""

    def atomic_energies(self, geometry: Geometry) -> Tensor:
        pair = 0.5 * self.pair_energy(geometry.edge_vectors().norm(dim=1))  # (E,)
        return (0.0 * geometry.positions.sum(1)).index_add(0, geometry.edge_index[1], pair)


class LennardJones(Pairwise):
    """What `ase.calculators.lj.LennardJones(smooth=True)` computes, written for batches."""

    def __init__(self, *, sigma: float, epsilon: float, cutoff: float, onset: float) -> None:
        super().__init__(cutoff)
        self.sigma, self.epsilon, self.onset = sigma, epsilon, onset

    def pair_energy(self, distance: Tensor) -> Tensor:
        x6 = (self.sigma / distance) ** 6
        r2, rc2, ro2 = distance**2, self.cutoff**2, self.onset**2
        switch = (rc2 - r2) ** 2 * (rc2 + 2 * r2 - 3 * ro2) / (rc2 - ro2) ** 3
        return 4 * self.epsilon * (x6**2 - x6) * torch.where(distance < self.onset, 1.0, switch)


class Springs(Pairwise):
    """½ k (r − r₀)² between all pairs within the cutoff."""

    def __init__(self, *, stiffness: float, length: float, cutoff: float = 4.0) -> None:
        super().__init__(cutoff)
        self.stiffness, self.length = stiffness, length

    def pair_energy(self, distance: Tensor) -> Tensor:
        return 0.5 * self.stiffness * (distance - self.length) ** 2


class Spoiled:
    """A model that gives NaN for what is in one system, from its n-th call on, and counts the systems that it is shown.

    Args:
        model: what gives the numbers.
        system: index of the spoiled system in the first such call.
        call: which call, counted from 0, is the first.
        what: "energy" or "forces".
    """

    def __init__(self, model: Potential, *, system: int, call: int, what: str) -> None:
        self.model, self.system, self.call, self.what = model, system, call, what
        self.cutoff = model.cutoff
        self.systems: list[int] = []

    def __call__(self, batch: GraphBatch) -> Prediction:
        prediction = self.model(batch)
        if len(self.systems) == self.call:
            if self.what == "energy":
                prediction.energy[self.system] = torch.nan
            else:
                prediction.forces[(batch.system == self.system).nonzero()[0]] = torch.inf
        self.systems.append(batch.n_systems)
        return prediction


def frame_of(atoms: Atoms, *, energy: float = 0.0, forces=None, origin: str = "toy") -> Frame:
    """A frame with any labels."""
    return Frame(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.asarray(atoms.cell),
        pbc=atoms.pbc.copy(),
        energy=energy,
        forces=np.zeros((len(atoms), 3)) if forces is None else np.asarray(forces, dtype=np.float64),
        origin=origin,
    )


def dataset_of(train: list[Frame], **changes) -> Dataset:
    """A data set of training frames, and of whatever `changes` give."""
    parts = {"name": "toy", "train": train, "validation": [], "tests": {}, "train_clean": train} | changes
    return Dataset(**parts)
