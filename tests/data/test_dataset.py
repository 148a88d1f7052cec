"""A data set: its splits, and the graphs of each, built once."""

import gc
import pickle
import weakref
from dataclasses import replace

import pytest
import torch
from samples import ethanol_frames

from mlip_sweep.data import datamodule
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import graph
from mlip_sweep.errors import InputError


@pytest.fixture
def dataset() -> Dataset:
    train, validation, test = (ethanol_frames(n, seed) for seed, n in enumerate((4, 2, 3)))
    return Dataset(name="ethanol", train=train, validation=validation, tests={"600K": test}, train_clean=train)


@pytest.fixture
def noisy(dataset) -> Dataset:
    """The same training frames, with a million eV on every energy and no forces."""
    train = [replace(frame, energy=frame.energy + 1e6, forces=0.0 * frame.forces) for frame in dataset.train]
    return replace(dataset, train=train)


@pytest.fixture
def searched(monkeypatch) -> list[float]:
    """The cutoff of each neighbour search, one for a frame."""
    cutoffs = []

    def counted(frame, cutoff):
        cutoffs.append(cutoff)
        return graph(frame, cutoff)

    monkeypatch.setattr(datamodule, "graph", counted)
    return cutoffs


def test_a_split_is_found_by_its_name(dataset, noisy):
    assert dataset.frames("train") is dataset.train
    assert dataset.frames("validation") is dataset.validation
    assert dataset.frames("600K") is dataset.tests["600K"]
    assert noisy.frames("train") is noisy.train
    assert noisy.frames("train_clean") is dataset.train


def test_a_split_that_is_not_there_is_refused_with_those_that_are(dataset):
    splits = "dataset ethanol has train, train_clean, validation, 600K"
    with pytest.raises(InputError, match=rf"^split=900K: {splits}"):
        dataset.graphs("900K", 3.0)
    with pytest.raises(InputError, match=rf"^split=900K: {splits}"):
        dataset.frames("900K")


@pytest.mark.parametrize("split", ["train", "train_clean", "validation", "600K"])
@pytest.mark.parametrize("data", ["dataset", "noisy"])
def test_graphs_are_those_of_the_frames_of_the_split(request, data, split):
    data = request.getfixturevalue(data)
    for built, frame in zip(data.graphs(split, 3.0), data.frames(split), strict=True):
        for name, value in vars(graph(frame, 3.0)).items():
            torch.testing.assert_close(getattr(built, name), value, rtol=0.0, atol=0.0)


def test_neighbours_are_searched_once(dataset, searched):
    graphs = {split: dataset.graphs(split, 3.0) for split in ("train", "validation", "600K")}
    assert len(searched) == 4 + 2 + 3
    for split, built in graphs.items():
        assert dataset.graphs(split, 3.0) is built
    assert dataset.graphs("train_clean", 3.0) is graphs["train"]  # no noise: they are the same frames
    assert len(searched) == 4 + 2 + 3


def test_another_cutoff_has_graphs_of_its_own(dataset, searched):
    near, far = (dataset.graphs("train", cutoff) for cutoff in (1.2, 5.0))
    assert near[0].edge_index.shape[1] < far[0].edge_index.shape[1]
    assert dataset.graphs("train", 1.2) is near
    assert searched == [1.2] * 4 + [5.0] * 4


@pytest.mark.parametrize("first", ["train", "train_clean"])
def test_noisy_labels_never_stand_for_clean_ones(noisy, first):
    noisy.graphs(first, 3.0)
    energies = {split: [g.energy.item() for g in noisy.graphs(split, 3.0)] for split in ("train", "train_clean")}
    assert min(energies["train"]) > 9e5 > max(energies["train_clean"])
    assert all((g.forces == 0.0).all() for g in noisy.graphs("train", 3.0))
    assert all((g.forces != 0.0).any() for g in noisy.graphs("train_clean", 3.0))


def test_a_changed_copy_has_graphs_of_its_own(dataset):
    before = dataset.graphs("600K", 3.0)
    changed = replace(dataset, tests={"600K": dataset.tests["600K"][:1]})
    assert len(changed.graphs("600K", 3.0)) == 1
    assert dataset.graphs("600K", 3.0) is before


def test_a_pickled_data_set_leaves_its_graphs_behind(dataset, searched):
    without = len(pickle.dumps(dataset))
    built = dataset.graphs("train", 5.0)
    sent = pickle.dumps(dataset)
    assert len(sent) == without
    received = pickle.loads(sent)
    torch.testing.assert_close(received.graphs("train", 5.0)[0].forces, built[0].forces)
    assert len(searched) == 8
    assert dataset.graphs("train", 5.0) is built  # the sender keeps its own
    assert received.train is received.train_clean


def test_graphs_go_with_their_data_set(dataset):
    copy = replace(dataset, name="copy")
    graphs = weakref.ref(copy.graphs("train", 3.0)[0])
    assert graphs() is not None
    del copy
    gc.collect()
    assert graphs() is None


def test_graphs_are_no_part_of_what_a_data_set_is(dataset):
    twin = replace(dataset)
    dataset.graphs("train", 3.0)
    assert dataset == twin
    assert repr(dataset) == repr(twin)
