"""Graphs: frames with their neighbour lists, gathered into batches of tensors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import overload

import numpy as np
import torch
from ase.geometry import complete_cell
from numpy.typing import NDArray
from torch import Tensor
from vesin import NeighborList

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.validation import check_cell
from mlip_sweep.errors import InputError

# Of one frame. A thousand atoms at 6 Å have 100,000 edges; these would take about 1 GB, before any network sees them.
MOST_EDGES = 20_000_000
MOST_NEIGHBOURS = 10_000


@dataclass(frozen=True)
class Geometry:
    """Atoms and the edges between them: N atoms, E directed edges.

    An atom's energy depends on its neighbours alone and does not care which system it belongs to. So several systems
    are one geometry, without cells and without a number of systems.

    | field              | shape  | dtype   | unit                                                             |
    | ------------------ | ------ | ------- | ---------------------------------------------------------------- |
    | positions          | (N, 3) | float64 | Å                                                                |
    | atomic_numbers     | (N,)   | int64   |                                                                  |
    | edge_index         | (2, E) | int64   | row 0 the sender, row 1 the receiver                             |
    | edge_shift_vectors | (E, 3) | float64 | Å, what a periodic image adds to the difference of the positions |
    """

    positions: Tensor
    atomic_numbers: Tensor
    edge_index: Tensor
    edge_shift_vectors: Tensor

    def edge_vectors(self) -> Tensor:
        """Vectors from sender to receiver, (E, 3) Å, differentiable in the positions."""
        sender, receiver = self.edge_index
        return self.positions[receiver] - self.positions[sender] + self.edge_shift_vectors


@dataclass(frozen=True)
class GraphBatch:
    """Several structures as one graph: N atoms, E directed edges, S systems.

    | field          | shape     | dtype   | unit                                             |
    | -------------- | --------- | ------- | ------------------------------------------------ |
    | positions      | (N, 3)    | float64 | Å                                                |
    | atomic_numbers | (N,)      | int64   |                                                  |
    | edge_index     | (2, E)    | int64   | row 0 the sender, row 1 the receiver             |
    | edge_shift     | (E, 3)    | float64 | cell vectors between the sender and its image    |
    | cell           | (S, 3, 3) | float64 | Å                                                |
    | system         | (N,)      | int64   | which system an atom belongs to                  |
    | energy         | (S,)      | float64 | eV, or None                                      |
    | forces         | (N, 3)    | float64 | eV/Å, or None                                    |
    | stress         | (S, 3, 3) | float64 | eV/Å³, NaN where a system has none, or None      |
    | stressed       | (L,)      | int64   | systems that have a stress, None where all or no |
    | weight         | (S,)      | float64 | of squared errors in training, None where all 1  |

    The vector of an edge is positions[receiver] - positions[sender] + edge_shift @ cell.
    """

    positions: Tensor
    atomic_numbers: Tensor
    edge_index: Tensor
    edge_shift: Tensor
    cell: Tensor
    system: Tensor
    energy: Tensor | None = None
    forces: Tensor | None = None
    stress: Tensor | None = None
    stressed: Tensor | None = None  # kept, since to look for them would wait for the device
    weight: Tensor | None = None

    @property
    def n_systems(self) -> int:
        """Number of systems, S."""
        return self.cell.shape[0]

    @property
    def atoms_per_system(self) -> Tensor:
        """Number of atoms of each system, (S,) int64."""
        counts = self.system.new_zeros(self.n_systems)  # bincount would wait for the device
        return counts.index_add(0, self.system, torch.ones_like(self.system))

    @property
    def volumes(self) -> Tensor:
        """Volume of each system's cell, (S,) Å³; 0 where there is no cell."""
        return torch.linalg.det(self.cell).abs()

    @property
    def labels(self) -> tuple[Tensor, Tensor]:
        """Energy (S,) eV and forces (N, 3) eV/Å.

        Raises:
            ValueError: the batch has none.
        """
        if self.energy is None or self.forces is None:
            raise ValueError("this batch has no labels, since one of its parts has none")
        return self.energy, self.forces

    def geometry(self) -> Geometry:
        """The atoms and edges without their systems, which is all that the energies of atoms depend on."""
        cell_of_edge = self.cell[self.system[self.edge_index[0]]]  # (E, 3, 3)
        shift_vectors = torch.einsum("ei,eij->ej", self.edge_shift, cell_of_edge)
        return Geometry(self.positions, self.atomic_numbers, self.edge_index, shift_vectors)

    def edge_vectors(self) -> Tensor:
        """Vectors from sender to receiver, (E, 3) Å, differentiable in the positions."""
        return self.geometry().edge_vectors()

    def to(self, device: torch.device | str) -> "GraphBatch":
        """The same batch on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)

    def split(self, max_atoms: int) -> list["GraphBatch"]:
        """The same systems, in order, in batches of at most `max_atoms` atoms; a larger system stands alone."""
        ends = self.atoms_per_system.cumsum(0).tolist()  # systems stand one after another
        bounds = [0]  # systems at which a part begins
        for k in range(1, self.n_systems):
            begun = ends[bounds[-1] - 1] if bounds[-1] else 0
            if ends[k] - begun > max_atoms:
                bounds.append(k)
        of_edge = self.system[self.edge_index[1]]
        parts = []
        for first, last in zip(bounds, [*bounds[1:], self.n_systems], strict=True):
            atoms = slice(ends[first - 1] if first else 0, ends[last - 1])
            edges = ((of_edge >= first) & (of_edge < last)).nonzero()[:, 0]
            parts.append(
                GraphBatch(
                    positions=self.positions[atoms],
                    atomic_numbers=self.atomic_numbers[atoms],
                    edge_index=self.edge_index[:, edges] - atoms.start,
                    edge_shift=self.edge_shift[edges],
                    cell=self.cell[first:last],
                    system=self.system[atoms] - first,
                    energy=None if self.energy is None else self.energy[first:last],
                    forces=None if self.forces is None else self.forces[atoms],
                    weight=None if self.weight is None else self.weight[first:last],
                    **_stresses(None if self.stress is None else self.stress[first:last]),
                )
            )
        return parts


def neighbours(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Directed pairs of atoms nearer than the cutoff, periodic images included.

    Args:
        positions: The positions of the atoms, (A, 3) Å.
        cell: The cell, (3, 3) Å, whose rows are the cell vectors.
        pbc: Which of the cell vectors are periodic, (3,).
        cutoff: The distance up to which atoms are neighbours, Å.

    Returns:
        edge_index (2, E) and edge_shift (E, 3), as in `GraphBatch`.
    """
    if not pbc.any():  # the search takes minutes where the cutoff is far beyond the size of the structure
        cutoff = min(cutoff, float(np.linalg.norm(np.ptp(positions, axis=0))) + 1.0)
    finder = NeighborList(cutoff=cutoff, full_list=True)
    i, j, shift = finder.compute(points=positions, box=cell, periodic=pbc, quantities="ijS")
    return np.stack([i, j]).astype(np.int64), shift.astype(np.float64)


def estimated_edges(frame: Frame, cutoff: float) -> float:
    """About how many directed edges a frame has, from its size, cutoff (Å) and cell alone.

    Each of the A atoms sees those within a box of half-width `cutoff`, as if they were spread evenly: along a periodic
    cell vector 2·cutoff/height of the cell, along any other direction that share of the frame's extent, at most all.
    A sphere in that box holds half of them, so that this is an upper bound where density is even.
    """
    inverse = np.linalg.inv(complete_cell(np.where(frame.pbc[:, None], frame.cell, 0.0)))
    heights = 1.0 / np.linalg.norm(inverse, axis=0)  # (3,) Å, between opposite faces of the cell
    extents = np.ptp(frame.positions @ inverse, axis=0) * heights  # (3,) Å
    seen = np.where(frame.pbc, 2.0 * cutoff / heights, np.minimum(1.0, 2.0 * cutoff / np.maximum(extents, 1e-9)))
    return len(frame) ** 2 * float(np.prod(seen))


def check_edges(frame: Frame, cutoff: float) -> None:
    """Refuse a neighbour list that would fill the memory, before it is built.

    Raises:
        InputError: The cutoff is no length, the cell is flat, or there would be too many edges.
    """
    if not 0.0 < cutoff < math.inf:
        raise InputError(f"model.cutoff={cutoff}: give a length in Å above 0, such as 5")
    check_cell(frame)
    edges = estimated_edges(frame, cutoff)
    if edges > min(MOST_EDGES, MOST_NEIGHBOURS * len(frame)):
        raise InputError(
            f"{frame.origin}: about {edges:.2g} pairs of its {len(frame)} atoms would be nearer than "
            f"model.cutoff={cutoff:g} Å, too many to train on; lower model.cutoff, or mend positions and cell"
        )


def graph(frame: Frame, cutoff: float) -> GraphBatch:
    """One frame as a batch of one system, with edges between atoms nearer than `cutoff` (Å).

    Raises:
        InputError: The cutoff is no length, the cell is flat, or there would be more edges than memory holds.
    """
    return graph_with(frame, *edges_of(frame, cutoff))


def edges_of(frame: Frame, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The edges of a frame, edge_index (2, E) and edge_shift (E, 3), as in `GraphBatch`.

    Raises:
        InputError: As `graph`.
    """
    check_edges(frame, cutoff)
    return neighbours(frame.positions, frame.cell, frame.pbc, cutoff)


def graph_with(frame: Frame, edge_index: NDArray[np.int64], edge_shift: NDArray[np.float64]) -> GraphBatch:
    """One frame as a batch of one system, with edges that are known."""
    return GraphBatch(
        positions=torch.as_tensor(frame.positions, dtype=torch.float64),
        atomic_numbers=torch.as_tensor(frame.atomic_numbers, dtype=torch.int64),
        edge_index=torch.from_numpy(edge_index),
        edge_shift=torch.from_numpy(edge_shift),
        cell=torch.as_tensor(frame.cell, dtype=torch.float64).reshape(1, 3, 3),
        system=torch.zeros(len(frame), dtype=torch.int64),
        energy=torch.tensor([frame.energy], dtype=torch.float64),
        forces=torch.as_tensor(frame.forces, dtype=torch.float64),
        stress=None if frame.stress is None else torch.as_tensor(frame.stress, dtype=torch.float64).reshape(1, 3, 3),
        weight=None if frame.weight == 1.0 else torch.tensor([frame.weight], dtype=torch.float64),
    )


def _stresses(labels: Tensor | None) -> dict[str, Tensor | None]:
    """The fields of a batch that say its stresses, from (S, 3, 3) labels that are NaN where there is none."""
    if labels is None:
        return {"stress": None, "stressed": None}
    labelled = (~labels[:, 0, 0].isnan()).nonzero()[:, 0]
    if not len(labelled):
        return {"stress": None, "stressed": None}
    return {"stress": labels, "stressed": None if len(labelled) == len(labels) else labelled}


def collate(graphs: Sequence[GraphBatch]) -> GraphBatch:
    """Join batches into one, in order.

    Energies and forces are kept if all parts have them, stresses and weights if one has.
    """
    atoms = np.cumsum([0, *(g.positions.shape[0] for g in graphs)])
    systems = np.cumsum([0, *(g.n_systems for g in graphs)])

    def labels(name: str) -> Tensor | None:
        values = [getattr(g, name) for g in graphs]
        return None if any(value is None for value in values) else torch.cat(values)

    def some(name: str, otherwise: Callable[[GraphBatch], Tensor]) -> Tensor | None:
        values = [getattr(g, name) for g in graphs]
        if all(value is None for value in values):
            return None
        return torch.cat([otherwise(g) if v is None else v for g, v in zip(graphs, values, strict=True)])

    return GraphBatch(
        positions=torch.cat([g.positions for g in graphs]),
        atomic_numbers=torch.cat([g.atomic_numbers for g in graphs]),
        edge_index=torch.cat([g.edge_index + int(n) for g, n in zip(graphs, atoms[:-1], strict=True)], dim=1),
        edge_shift=torch.cat([g.edge_shift for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        system=torch.cat([g.system + int(n) for g, n in zip(graphs, systems[:-1], strict=True)]),
        energy=labels("energy"),
        forces=labels("forces"),
        weight=some("weight", lambda g: g.cell.new_ones(g.n_systems)),
        **_stresses(some("stress", lambda g: torch.full_like(g.cell, torch.nan))),
    )


class Batches(Sequence[GraphBatch]):
    """Batches that are put together where they are asked for, of graphs that the memory need not hold.

    Args:
        graphs: The graphs, in order.
        parts: Which of them each batch holds.
        device: Where batches go.
    """

    def __init__(self, graphs: Sequence[GraphBatch], parts: Sequence[range], device: torch.device | str) -> None:
        self._graphs = graphs
        self._parts = parts
        self._device = device

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> GraphBatch: ...
    @overload
    def __getitem__(self, index: slice) -> "Batches": ...
    def __getitem__(self, index: int | slice) -> "GraphBatch | Batches":
        """One batch, or those of a part of the parts."""
        if isinstance(index, slice):
            return Batches(self._graphs, self._parts[index], self._device)
        return collate([self._graphs[place] for place in self._parts[index]]).to(self._device)


def batches(
    graphs: Sequence[GraphBatch], max_atoms: int = 4096, device: torch.device | str = "cpu"
) -> Sequence[GraphBatch]:
    """Gather graphs, in order, into few batches of at most `max_atoms` atoms; a larger graph stands alone.

    Batches are of like size: a last small one would cost nearly as much as a full one. They are made at once where the
    graphs are in memory, and else where they are asked for.

    Args:
        graphs: A list, or `mlip_sweep.data.stored_graphs.StoredGraphs`.
        max_atoms: Of a batch.
        device: Where batches go.
    """
    in_memory = isinstance(graphs, list | tuple)
    sizes = [len(one.positions) for one in graphs] if in_memory else graphs.sizes  # type: ignore[attr-defined]
    fewest = math.ceil(sum(sizes) / max_atoms)
    enough = min(max_atoms, math.ceil(sum(sizes) / max(fewest, 1)) + max(sizes, default=0) - 1)
    starts, size = [0], 0
    for place, atoms in enumerate(sizes):
        if place > starts[-1] and size + atoms > enough:
            starts.append(place)
            size = 0
        size += atoms
    parts = [range(first, last) for first, last in pairwise([*starts, len(sizes)]) if last > first]
    gathered = Batches(graphs, parts, device)
    return list(gathered) if in_memory else gathered


def without_edges(graphs: Sequence[GraphBatch]) -> GraphBatch:
    """The atoms and labels of all graphs as one batch that has no edges."""
    return collate([replace(one, edge_index=one.edge_index[:, :0], edge_shift=one.edge_shift[:0]) for one in graphs])
