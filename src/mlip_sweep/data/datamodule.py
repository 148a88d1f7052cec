"""Graphs for training, and the order of the batches of an epoch, which follows from the seed and the epoch alone."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Sampler

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import GraphBatch, batches, collate, graph
from mlip_sweep.data.stored_graphs import StoredGraphs, fit_in_memory


class SeededOrder(Sampler[int]):
    """A permutation of `length` indices for each epoch, which follows from (seed, epoch) alone.

    A training that is interrupted and resumed at an epoch therefore sees the same batches as one that was not
    interrupted. Lightning calls `set_epoch`.

    Args:
        length: The number of indices.
        seed: The seed of all epochs.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)) % 2**63)
        return iter(torch.randperm(self.length, generator=generator).tolist())

    def __len__(self) -> int:
        return self.length


def graphs_of(frames: Sequence[Frame], cutoff: float) -> Sequence[GraphBatch]:
    """One graph for each frame, in order, with edges between atoms nearer than `cutoff` (Å).

    A list, or where the memory may not hold all edges, a `StoredGraphs` that reads them from a file.
    """
    if fit_in_memory(frames, cutoff):
        return [graph(frame, cutoff) for frame in frames]
    return StoredGraphs(frames, cutoff)


def training_loader(graphs: Sequence[GraphBatch], batch_size: int, seed: int) -> DataLoader[GraphBatch]:
    """Batches of `batch_size` systems, in a new order each epoch; the last batch may be smaller."""
    return DataLoader(
        graphs,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=SeededOrder(len(graphs), seed),
        collate_fn=collate,
    )


def evaluation_loader(graphs: Sequence[GraphBatch], max_atoms: int = 4096) -> DataLoader[GraphBatch]:
    """The same few batches each time, in order, of at most `max_atoms` atoms unless one graph alone has more."""
    return DataLoader(batches(graphs, max_atoms), batch_size=None)  # type: ignore[arg-type]
