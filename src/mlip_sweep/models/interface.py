"""The contract that every interatomic potential keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.errors import InputError
from mlip_sweep.models.rescaling import Rescaling

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Prediction:
    """What a potential says of a batch: energy (S,) eV and forces (N, 3) eV/Å, both float64."""

    energy: Tensor
    forces: Tensor


class Potential(nn.Module, ABC):
    """A machine-learned interatomic potential.

    A subclass gives the energies of atoms in the network's own units (`atomic_energies`); this class turns them into
    total energies and forces, the same way for every architecture:

        E_s = Σ_{i in s} (scale · e_i + shift_{z_i}),   F_i = −∂E/∂r_i

    The sum over atoms and the shift are taken in float64: at -17,660 eV (3BPA) float32 has a spacing of 2 meV.

    Attributes:
        cutoff: radius of an atom's neighbourhood, Å.
        atomic_numbers: the elements that the model knows, sorted.
        dtype: precision of the network.
        compiled: derives in the place of `derive`, once `mlip_sweep.models.compiled` has compiled the model.
    """

    def __init__(
        self, *, cutoff: float, atomic_numbers: Sequence[int], rescaling: Rescaling, dtype: str = "float32"
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise InputError(f"trainer.dtype={dtype!r}: choose one of {', '.join(DTYPES)}")
        self.cutoff = float(cutoff)
        self.atomic_numbers = tuple(sorted(int(z) for z in atomic_numbers))
        self.dtype = DTYPES[dtype]
        self.rescaling = rescaling
        self.compiled: Callable[[GraphBatch], tuple[Tensor, Tensor]] | None = None
        self.hyperparameters: dict[str, Any] = {}  # what `checkpoint.load` needs to make the same network again
        index = torch.full((max(self.atomic_numbers) + 1,), -1, dtype=torch.int64)
        index[list(self.atomic_numbers)] = torch.arange(len(self.atomic_numbers))
        self.register_buffer("element_index", index, persistent=False)  # atomic number -> 0, 1, 2 …

    @abstractmethod
    def atomic_energies(self, batch: GraphBatch) -> Tensor:
        """Energies of atoms in the network's units, (N,), differentiable in `batch.positions`."""

    def elements(self, batch: GraphBatch) -> Tensor:
        """Index of each atom's element among `atomic_numbers`, (N,) int64."""
        return self.element_index[batch.atomic_numbers]  # type: ignore[index]

    def derive(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Energies of atoms, (N,) eV, and forces, (N, 3) eV/Å, both float64."""
        with torch.enable_grad():
            positions = batch.positions.detach().requires_grad_(True)
            atomic = self.atomic_energies(batch.with_positions(positions)).double()
            energies = self.rescaling(atomic, self.elements(batch))  # (N,)
            (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=self.training)
        return (energies if self.training else energies.detach()), -gradient

    def forward(self, batch: GraphBatch) -> Prediction:
        """Energies and forces of a batch; differentiable in the parameters only while training."""
        energies, forces = self.derive(batch) if self.compiled is None else self.compiled(batch)
        total = torch.zeros(batch.n_systems, dtype=torch.float64, device=energies.device)
        return Prediction(energy=total.index_add(0, batch.system, energies), forces=forces)

    def check_elements(self, atomic_numbers: Sequence[int], place: str) -> None:
        """Refuse elements that the model was not built for.

        Raises:
            InputError: naming the elements and `place`.
        """
        unknown = sorted({int(z) for z in atomic_numbers} - set(self.atomic_numbers))
        if unknown:
            raise InputError(
                f"{place}: atomic numbers {unknown} are unknown to this model, which was trained on "
                f"{list(self.atomic_numbers)}; train on data that has them"
            )
