"""Neighbour lists with a skin: found rarely, exact at every step."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import GraphBatch, neighbours


@dataclass(frozen=True)
class Pairs:
    """Directed pairs within cutoff + skin of one replica: edge_index (2, E), shift in cell vectors (E, 3)."""

    edge_index: NDArray[np.int64]
    edge_shift: NDArray[np.float64]


class VerletList:
    """Turns the positions of R replicas of one structure into one graph of R systems.

    Pairs within cutoff + skin are found anew for a replica only when one of its atoms has moved further than skin / 2
    since that replica's last search (Verlet 1967, https://doi.org/10.1103/PhysRev.159.98); no pair can have come within
    the cutoff unseen before that. Each graph holds exactly the pairs within the cutoff, in an order that depends on the
    positions alone: neither the skin nor what happens to other replicas changes a trajectory by its summation order.

    Args:
        frame: elements, cell and periodicity of every replica (A atoms).
        replicas: R.
        cutoff: Å.
        skin: Å, positive.
        device: where graphs are wanted.

    Attributes:
        searches: how many times the pairs of a replica have been found.
        squared_lengths: of the edges of the last graph, (E,) Å².
    """

    def __init__(self, frame: Frame, replicas: int, *, cutoff: float, skin: float, device: torch.device) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.device = device
        self.searches = 0
        self.squared_lengths = torch.empty(0, dtype=torch.float64, device=device)
        self._frame = frame
        self._cell = torch.as_tensor(frame.cell, dtype=torch.float64, device=device)
        self._numbers = torch.as_tensor(frame.atomic_numbers, device=device)
        self._pairs: list[Pairs | None] = [None] * replicas
        self._searched_at = torch.full((replicas, len(frame), 3), torch.inf, dtype=torch.float64, device=device)
        self._lay_out()

    def graph(self, positions: Tensor) -> GraphBatch:
        """The graph at positions (R, A, 3) Å, which must be finite, with every pair within the cutoff."""
        moved = (positions - self._searched_at).square().sum(-1).amax(-1)  # (R,) Å²
        if (moved > (0.5 * self.skin) ** 2).any():
            # Those that have used half of their slack are searched along: fewer steps have to lay the pairs out anew.
            self._search(positions, moved > (0.25 * self.skin) ** 2)
        flat = positions.reshape(-1, 3)  # (N, 3)
        sender, receiver = self._edge_index
        vectors = flat.index_select(0, receiver) - flat.index_select(0, sender) + self._shift_vectors
        squared = vectors.square().sum(-1)  # (E,)
        within = (squared <= self.cutoff**2).nonzero().squeeze(1)  # indices of edges
        every = len(within) == len(self._edge_shift)  # as in a small molecule
        self.squared_lengths = squared if every else squared.index_select(0, within)
        return GraphBatch(
            positions=flat,
            atomic_numbers=self._atomic_numbers,
            edge_index=self._edge_index if every else self._edge_index.index_select(1, within),
            edge_shift=self._edge_shift if every else self._edge_shift.index_select(0, within),
            cell=self._cells,
            system=self._system,
        )

    def keep(self, kept: Tensor) -> None:
        """Let go of every replica that is False in `kept`, (R,) bool; the others move up."""
        self._pairs = [pairs for pairs, stays in zip(self._pairs, kept.tolist(), strict=True) if stays]
        self._searched_at = self._searched_at[kept]
        self._lay_out()

    def _search(self, positions: Tensor, stale: Tensor) -> None:
        """Find the pairs of the replicas that are True in `stale`, (R,)."""
        indices = stale.nonzero().flatten().tolist()
        for index, replica in zip(indices, positions[stale].cpu().numpy(), strict=True):
            edge_index, shift = neighbours(replica, self._frame.cell, self._frame.pbc, self.cutoff + self.skin)
            order = np.lexsort((*shift.T, edge_index[0], edge_index[1]))  # vesin's own order depends on history
            self._pairs[index] = Pairs(edge_index[:, order], shift[order])
        self.searches += len(indices)
        self._searched_at = torch.where(stale[:, None, None], positions, self._searched_at)
        self._lay_out()

    def _lay_out(self) -> None:
        """Put the pairs of all replicas one after the other, atoms of replica r starting at r · A."""
        replicas, atoms = len(self._pairs), len(self._frame)
        found = [(r, pairs) for r, pairs in enumerate(self._pairs) if pairs is not None]
        edge_index = np.concatenate([np.empty((2, 0), np.int64), *(p.edge_index + r * atoms for r, p in found)], axis=1)
        edge_shift = np.concatenate([np.empty((0, 3)), *(p.edge_shift for _, p in found)])
        self._edge_index = torch.as_tensor(edge_index, device=self.device)
        self._edge_shift = torch.as_tensor(edge_shift, device=self.device)
        self._shift_vectors = self._edge_shift @ self._cell
        self._atomic_numbers = self._numbers.repeat(replicas)
        self._cells = self._cell.expand(replicas, 3, 3)
        self._system = torch.arange(replicas, device=self.device).repeat_interleave(atoms)
