"""Potentials as models of torch-sim, which relaxes and simulates many systems in one batch.

Imports torch-sim, so that this module is imported where it is asked for.
"""

from typing import Any

import torch
import torch_sim
from torch import Tensor
from torch_sim.models.interface import ModelInterface

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.models.interface import Potential

BATCHED = hasattr(torch_sim.neighbors, "torchsim_nl")  # since 0.5, whose lists are of all systems at once


class TorchSimModel(ModelInterface):
    """A potential as torch-sim asks for it: energy (S,) eV, forces (N, 3) eV/Å, stress (S, 3, 3) eV/Å³.

    Neighbours are found by torch-sim's own lists, on the device of the state. The stress of a system without a cell is
    zero.

    Args:
        model: The potential; it is put into evaluation mode.
        dtype: Of states and results; geometry and sums are float64 whatever it is.
        compute_stress: Whether to derive the stress, which takes a little longer.
    """

    def __init__(self, model: Potential, *, dtype: torch.dtype = torch.float64, compute_stress: bool = True) -> None:
        super().__init__()
        self.model = model.eval()
        self._device = next(model.parameters()).device
        self._dtype = dtype
        self._compute_stress = compute_stress
        self._compute_forces = True

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """What torch-sim steps by.

        Args:
            state: A `torch_sim.SimState` of S systems and N atoms.

        Raises:
            InputError: An element that the model does not know.
        """
        numbers = state.atomic_numbers.to(torch.int64)
        self.model.check_elements(numbers.unique().tolist(), "the state")
        periodic = torch.as_tensor(state.pbc, device=state.positions.device).expand(3)
        cells = state.row_vector_cell.double() if periodic.any() else torch.zeros_like(state.row_vector_cell).double()
        edge_index, edge_shift = self._neighbours(state, periodic)
        batch = GraphBatch(
            positions=state.positions.double(),
            atomic_numbers=numbers,
            edge_index=edge_index.to(torch.int64),
            edge_shift=edge_shift.double(),
            cell=cells,
            system=state.system_idx.to(torch.int64),
        )
        found = self.model(batch, stress=self._compute_stress)
        results = {"energy": found.energy, "forces": found.forces}
        if found.stress is not None:
            results["stress"] = torch.nan_to_num(found.stress, nan=0.0)
        return {name: value.detach().to(self._dtype) for name, value in results.items()}

    def _neighbours(self, state: Any, periodic: Tensor) -> tuple[Tensor, Tensor]:
        """Edges (2, E) and shifts (E, 3) of all systems."""
        if BATCHED:
            edge_index, _, shifts = torch_sim.neighbors.torchsim_nl(
                state.positions,
                state.row_vector_cell,
                periodic.repeat(len(state.row_vector_cell), 1),
                self.model.cutoff,
                state.system_idx,
            )
            return edge_index, shifts
        cutoff = torch.tensor(self.model.cutoff)
        edges, shifts, first = [], [], 0
        places = state.positions.split(state.n_atoms_per_system.tolist())
        for positions, cell in zip(places, state.row_vector_cell, strict=True):
            edge_index, shift = torch_sim.neighbors.vesin_nl_ts(positions, cell, bool(periodic.any()), cutoff)
            edges.append(edge_index + first)
            shifts.append(shift)
            first += len(positions)
        return torch.cat(edges, dim=1), torch.cat(shifts)
