"""Graphs for training: neighbour lists are built once, and an epoch's order follows from the seed and its number."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Sampler

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import GraphBatch, batches, collate, graph


class SeededOrder(Sampler[int]):
    """A permutation of `length` indices for each epoch, decided by (seed, epoch) alone.

    An interrupted training that resumes at an epoch therefore sees the same batches as one that was not. Lightning
    calls `set_epoch`.
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


def graphs_of(frames: Sequence[Frame], cutoff: float) -> list[GraphBatch]:
    """One graph for each frame, neighbours within `cutoff` (Å)."""
    return [graph(frame, cutoff) for frame in frames]


def training_loader(graphs: Sequence[GraphBatch], batch_size: int, seed: int) -> DataLoader[GraphBatch]:
    """Shuffled batches of `batch_size` systems; a last smaller batch is kept."""
    return DataLoader(
        list(graphs),  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=SeededOrder(len(graphs), seed),
        collate_fn=collate,
    )


def evaluation_loader(graphs: Sequence[GraphBatch], max_atoms: int = 4096) -> DataLoader[GraphBatch]:
    """The same few large batches every time."""
    return DataLoader(batches(graphs, max_atoms), batch_size=None)  # type: ignore[arg-type]
