"""Graphs of a set that is too large for the memory: neighbour lists are found once and kept on disk."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np

from mlip_sweep.bars import bar
from mlip_sweep.data.cache import cached
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import GraphBatch, edges_of, estimated_edges, graph_with

FORMAT = 1  # of the file
BYTES_OF_EDGE = 40  # in memory: two int64 and three float64
IN_MEMORY = 2**30  # bytes of the edges of a split, beyond which they are kept on disk
PART = 2**18  # edges that are written at once

log = logging.getLogger(__name__)


class StoredGraphs(Sequence[GraphBatch]):
    """The graph of each frame, in order, made of the frame and of its edges, which are read where it is asked for.

    Args:
        frames: Of the data set.
        cutoff: Å.
        folder: That keeps the file of edges; None for the cache of the data sets.

    Raises:
        InputError: The folder cannot be written, or a frame has too many edges.
    """

    def __init__(self, frames: Sequence[Frame], cutoff: float, folder: Path | None = None) -> None:
        self._frames = frames
        determined_by = {"format": FORMAT, "cutoff": cutoff, "geometries": _checksum(frames)}
        write = partial(_write, frames=frames, cutoff=cutoff)
        self._path = cached(folder or cache_folder() / "graphs", "edges", ".h5", determined_by, write)
        self._stored: tuple[h5py.Dataset, h5py.Dataset] | None = None  # to open one takes longer than to read a frame
        with h5py.File(self._path) as file:
            self._ends = file["ends"][:]  # (G,)

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> GraphBatch: ...
    @overload
    def __getitem__(self, index: slice) -> list[GraphBatch]: ...
    def __getitem__(self, index: int | slice) -> GraphBatch | list[GraphBatch]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if self._stored is None:
            file = h5py.File(self._path)
            self._stored = file["edge_index"], file["edge_shift"]
        edges = slice(self._ends[place - 1] if place else 0, self._ends[place])
        indices, shifts = (dataset[edges] for dataset in self._stored)
        return graph_with(self._frames[place], np.ascontiguousarray(indices.T, np.int64), shifts.astype(np.float64))

    def __iter__(self) -> Iterator[GraphBatch]:
        return (self[place] for place in range(len(self)))

    @property
    def sizes(self) -> list[int]:
        """The number of atoms of each graph."""
        return [len(frame) for frame in self._frames]

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: an open file is not."""
        return {**vars(self), "_stored": None}


def fit_in_memory(frames: Sequence[Frame], cutoff: float) -> bool:
    """Whether the edges of all frames do."""
    return sum(estimated_edges(frame, cutoff) for frame in frames) * BYTES_OF_EDGE <= IN_MEMORY


def cache_folder() -> Path:
    """The folder that keeps what is expensive to make, as the configs of the data sets name it."""
    return Path(os.environ.get("MLIP_SWEEP_CACHE", "~/.cache/mlip-sweep"))


def _checksum(frames: Sequence[Frame]) -> str:
    """Of all that edges depend on."""
    found = hashlib.sha256()
    for frame in frames:
        for array in (frame.positions, frame.cell, frame.pbc):
            found.update(np.ascontiguousarray(array).tobytes())
        found.update(b"|")
    return found.hexdigest()


def _write(path: Path, frames: Sequence[Frame], cutoff: float) -> None:
    """Find the edges of all frames, one after another, and write them."""
    log.info("neighbour lists of %d frames are written to %s", len(frames), path.parent.parent)
    ends = np.zeros(len(frames), np.int64)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    total = written = 0
    with h5py.File(path, "w") as file, bar(len(frames), "data: neighbour lists", "frames") as shown:
        indices = file.create_dataset("edge_index", (0, 2), np.int32, maxshape=(None, 2), chunks=(2**14, 2))
        shifts = file.create_dataset("edge_shift", (0, 3), np.int16, maxshape=(None, 3), chunks=(2**14, 3))
        for place, frame in enumerate(frames):
            edge_index, edge_shift = edges_of(frame, cutoff)
            waiting.append((edge_index.T.astype(np.int32), edge_shift.astype(np.int16)))
            total += edge_index.shape[1]
            ends[place] = total
            if total - written > PART or place == len(frames) - 1:
                for dataset, parts in zip((indices, shifts), zip(*waiting, strict=True), strict=True):
                    dataset.resize(total, axis=0)
                    dataset[written:total] = np.concatenate(parts)
                waiting, written = [], total
            shown.update()
        file["ends"] = ends
