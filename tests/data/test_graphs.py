"""Graphs against ASE's neighbour list, and batches against their parts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from samples import copper_frame, ethanol_frames

from mlip_sweep.data.datamodule import SeededOrder, graphs_of, training_loader
from mlip_sweep.data.graphs import batches, collate, estimated_edges, graph
from mlip_sweep.errors import InputError


@pytest.mark.parametrize("frame", [copper_frame(), ethanol_frames(1)[0]], ids=["periodic", "molecule"])
@pytest.mark.parametrize("cutoff", [2.0, 3.1, 5.0])
def test_neighbours_are_ases(frame, cutoff):
    atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    i, j, vectors = neighbor_list("ijD", atoms, cutoff)
    found = graph(frame, cutoff)
    mine = np.column_stack([*found.edge_index.numpy(), found.edge_vectors().numpy().round(9)])
    theirs = np.column_stack([i, j, vectors.round(9)])
    assert len(mine) == len(theirs)
    assert (len(mine) > 0) == (cutoff > 2.6 or not frame.pbc.any())  # copper has no neighbour nearer
    np.testing.assert_allclose(mine[np.lexsort(mine.T)], theirs[np.lexsort(theirs.T)], atol=1e-8)


@pytest.mark.parametrize("frame", [copper_frame(), ethanol_frames(1)[0]], ids=["periodic", "molecule"])
@pytest.mark.parametrize("cutoff", [5.0, 15.0])
def test_the_number_of_edges_is_known_beforehand(frame, cutoff):
    edges, estimated = graph(frame, cutoff).edge_index.shape[1], estimated_edges(frame, cutoff)
    assert edges <= estimated <= max(3 * edges, len(frame) ** 2)


@pytest.mark.parametrize("cutoff", [0, -1.0, math.inf, -math.inf, math.nan])
def test_a_cutoff_that_is_no_length_is_refused(cutoff):
    with pytest.raises(InputError, match=r"model.cutoff=.*: give a length in Å above 0"):
        graph(copper_frame(), cutoff)


def test_more_edges_than_memory_holds_are_refused_before_they_are_built():
    with pytest.raises(InputError, match=r"copper: about .* pairs of its 4 atoms .* model.cutoff=1e\+06 Å, too many"):
        graph(copper_frame(), 1e6)
    assert graph(ethanol_frames(1)[0], 1e6).edge_index.shape == (2, 72)  # a molecule has no more than all its pairs
    rng = np.random.default_rng(0)
    dense = replace(copper_frame(), atomic_numbers=np.full(20_000, 29), positions=rng.uniform(0.0, 20.0, (20_000, 3)))
    with pytest.raises(InputError, match="too many to train on"):
        graph(replace(dense, cell=20.0 * np.eye(3)), 15.0)


def test_a_flat_cell_is_refused():
    flat = np.array([[4.0, 0, 0], [0, 4.0, 0], [4.0, 4.0, 0]])
    with pytest.raises(InputError, match=r"copper: its periodic cell vectors span 0 Å³"):
        graph(replace(copper_frame(), cell=flat), 3.0)


def test_collating_shifts_indices_and_keeps_labels():
    parts = [graph(frame, 5.0) for frame in (*ethanol_frames(2), copper_frame())]
    whole = collate(parts)
    assert whole.n_systems == 3
    assert whole.atoms_per_system.tolist() == [9, 9, 4]
    torch.testing.assert_close(whole.edge_vectors(), torch.cat([part.edge_vectors() for part in parts]))
    torch.testing.assert_close(whole.labels[0], torch.cat([part.labels[0] for part in parts]))


def test_weights_are_kept_where_one_is_not_1():
    frames = [*ethanol_frames(2), replace(copper_frame(), weight=2.5)]
    whole = collate(graphs_of(frames, 4.0))
    assert whole.weight.tolist() == [1.0, 1.0, 2.5]
    assert [part.weight.tolist() for part in whole.to("cpu").split(18)] == [[1.0, 1.0], [2.5]]
    assert collate(graphs_of(frames[:2], 4.0)).weight is None


def test_a_batch_without_labels_says_so():
    part = graph(ethanol_frames(1)[0], 5.0)
    bare = type(part)(**{**vars(part), "energy": None})
    with pytest.raises(ValueError, match="no labels"):
        _ = collate([part, bare]).labels


def test_batches_hold_everything_in_order_and_no_more_than_asked():
    parts = graphs_of(ethanol_frames(7), 5.0)
    gathered = batches(parts, max_atoms=20)
    assert [batch.n_systems for batch in gathered] == [2, 2, 2, 1]
    torch.testing.assert_close(torch.cat([b.energy for b in gathered]), torch.cat([p.energy for p in parts]))
    assert [b.n_systems for b in batches(parts, max_atoms=1)] == [1] * 7  # a larger graph stands alone


@pytest.mark.parametrize(("max_atoms", "sizes"), [(1, [1, 1, 1, 1]), (18, [2, 2]), (13, [1, 1, 2]), (99, [4])])
def test_splitting_undoes_collating(max_atoms, sizes):
    ethanol, copper = [graph(frame, 5.0) for frame in ethanol_frames(3)], graph(copper_frame(), 3.0)
    graphs = [*ethanol, copper]
    parts = collate(graphs).split(max_atoms)
    assert [part.n_systems for part in parts] == sizes
    single = [one for part in parts for one in part.split(1)]
    for found, given in zip(single, graphs, strict=True):
        if given.stress is None:
            assert found.stress is None or found.stress.isnan().all()  # as beside others that have one
            found = replace(found, stress=None)
        for name, value in vars(given).items():
            torch.testing.assert_close(getattr(found, name), value, rtol=0.0, atol=0.0)


def test_the_order_of_an_epoch_follows_from_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = SeededOrder(20, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 3) == order(1, 3)
    assert sorted(order(1, 3)) == list(range(20))
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in range(5)}) == 10


def test_the_training_loader_keeps_the_last_smaller_batch():
    loader = training_loader(graphs_of(ethanol_frames(7), 5.0), batch_size=3, seed=0)
    assert [batch.n_systems for batch in loader] == [3, 3, 1]
