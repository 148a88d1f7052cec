"""The list with a skin, against ASE's own search at every step."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list
from toys import LennardJones, frame_of

from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import UNLIMITED
from mlip_sweep.measurement.dynamics.neighbours import VerletList

CPU = torch.device("cpu")


def edges(batch, system: int, atoms: int) -> list[tuple]:
    """Sender, receiver and shift of one system's edges."""
    sender = batch.edge_index[0]
    here = batch.system[sender] == system
    columns = torch.cat([batch.edge_index[:, here].T - system * atoms, batch.edge_shift[here].long()], dim=1)
    return [tuple(row) for row in columns.tolist()]


def structure(name: str) -> Atoms:
    if name == "ethanol":
        return molecule("CH3CH2OH")
    if name == "slab":
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.pbc = (True, True, False)
        return atoms
    atoms = bulk("Cu")  # triclinic, one atom: every neighbour is an image
    atoms.positions += 7.0  # and outside the cell
    return atoms


@pytest.mark.parametrize("name", ["ethanol", "slab", "primitive"])
@pytest.mark.parametrize("skin", [0.3, 2.0])
def test_exactly_the_pairs_within_the_cutoff_all_along_a_walk(name, skin):
    atoms, replicas, cutoff = structure(name), 3, 3.1
    rng = np.random.default_rng(0)
    positions = np.repeat(atoms.positions[None], replicas, axis=0)
    pairs = VerletList(frame_of(atoms), replicas, cutoff=cutoff, skin=skin, device=CPU)
    steps = 25
    for step in range(steps):
        positions = positions + rng.normal(0.0, 0.05, positions.shape)
        if step == 12:
            positions = positions[[0, 2]]
            pairs.keep(torch.tensor([True, False, True]))
        batch = pairs.graph(torch.from_numpy(positions))
        assert batch.n_systems == len(positions)
        for k, here in enumerate(positions):
            copy = atoms.copy()
            copy.positions = here
            i, j, shift = neighbor_list("ijS", copy, cutoff)
            truth = sorted((int(a), int(b), *map(int, s)) for a, b, s in zip(i, j, shift, strict=True))
            assert sorted(edges(batch, k, len(atoms))) == truth
    assert pairs.searches < steps * replicas  # the skin saves searches,
    if skin == 0.3:
        assert pairs.searches > replicas  # and more than the first were needed


def test_forces_equal_those_of_a_list_without_skin():
    """One system loses a neighbour to the skin's edge at some step: the forces would show it."""
    atoms = bulk("Ar", cubic=True).repeat(2)
    atoms.rattle(0.2, seed=2)
    momenta = np.random.default_rng(0).normal(0.0, 3.0, (2, len(atoms), 3))
    model = LennardJones(sigma=3.4, epsilon=0.0104, cutoff=6.0, onset=4.5)
    runs = [
        molecular_dynamics(
            model, frame_of(atoms), momenta, n_steps=60, timestep_fs=3.0, limits=UNLIMITED, skin_A=skin, progress=False
        )
        for skin in (1e-9, 0.5, 3.0)
    ]
    for other in runs[1:]:
        np.testing.assert_array_equal(other.positions, runs[0].positions)
        np.testing.assert_array_equal(other.momenta, runs[0].momenta)
