"""Neighbour lists on disk: the same graphs, the same batches, the same training."""

import pickle
from dataclasses import replace

import pytest
import torch
from samples import copper_frame, ethanol_frames

from mlip_sweep.data import stored_graphs
from mlip_sweep.data.datamodule import graphs_of, training_loader
from mlip_sweep.data.graphs import batches, without_edges
from mlip_sweep.data.stored_graphs import StoredGraphs
from mlip_sweep.errors import InputError

CUTOFF = 4.0


@pytest.fixture
def frames():
    """Molecules and a periodic cell whose edges cross its faces many times."""
    return [*ethanol_frames(5), copper_frame(), *ethanol_frames(2, seed=1)]


@pytest.fixture
def stored(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_graphs, "PART", 100)  # so that they are written in several parts
    return StoredGraphs(frames, CUTOFF, tmp_path)


def same(found, expected):
    for name, value in vars(expected).items():
        if value is None:
            assert getattr(found, name) is None
        else:
            torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=0, equal_nan=True)


def test_graphs_are_those_that_are_built_at_once(frames, stored):
    expected = graphs_of(frames, CUTOFF)
    assert isinstance(expected, list)
    assert len(stored) == len(expected)
    for found, graph in zip(stored, expected, strict=True):
        same(found, graph)
    same(stored[-1], expected[-1])
    for found, graph in zip(stored[2:7:2], expected[2:7:2], strict=True):
        same(found, graph)
    with pytest.raises(IndexError):
        stored[len(frames)]


def test_batches_are_those_of_graphs_in_memory(frames, stored):
    expected, found = batches(graphs_of(frames, CUTOFF), 20), batches(stored, 20)
    assert len(found) == len(expected) > 2
    for _ in range(2):
        for one, batch in zip(found, expected, strict=True):
            same(one, batch)
    same(found[1:][0], expected[1])
    loaded = zip(training_loader(stored, 3, 0), training_loader(graphs_of(frames, CUTOFF), 3, 0), strict=True)
    for one, batch in loaded:
        same(one, batch)
    same(without_edges(stored), without_edges(graphs_of(frames, CUTOFF)))


def test_neighbours_are_found_once(frames, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_graphs, "edges_of", None)  # would fail
    noisy = [replace(frame, energy=frame.energy + 1.0, forces=frame.forces + 0.1) for frame in frames]
    again = StoredGraphs(noisy, CUTOFF, tmp_path)
    assert again[0].energy == noisy[0].energy
    torch.testing.assert_close(again[3].edge_index, stored[3].edge_index)
    same(pickle.loads(pickle.dumps(again))[3], again[3])
    with pytest.raises(TypeError):
        StoredGraphs(frames, CUTOFF + 0.1, tmp_path)


def test_a_large_set_is_kept_on_disk(frames, tmp_path, monkeypatch):
    monkeypatch.setenv("MLIP_SWEEP_CACHE", str(tmp_path))
    monkeypatch.setattr(stored_graphs, "IN_MEMORY", 10_000)  # bytes
    assert isinstance(graphs_of(frames[:1], CUTOFF), list)
    assert isinstance(graphs_of(frames, CUTOFF), StoredGraphs)
    assert len(list((tmp_path / "graphs").glob("edges-*.h5"))) == 1


def test_too_many_edges_are_told_before_they_are_written(frames, tmp_path):
    with pytest.raises(InputError, match="too many to train on"):
        StoredGraphs([*frames, copper_frame()], 100.0, tmp_path)
