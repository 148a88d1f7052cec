"""MACE (Batatia et al., NeurIPS 2022, DOI 10.48550/arXiv.2206.07697), by the mace-torch library."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.errors import SettingError
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.e3nn_options import eager_e3nn
from mlip_sweep.models.filters import numbered_along
from mlip_sweep.models.interface import Cutoff, Library, Potential
from mlip_sweep.models.rescaling import Rescaling


class MACENetwork(Potential):
    """A potential whose `network` is a module of the library: `mace.modules.MACE`, or one derived from it."""

    library = Library(distribution="mace-torch", extra="mace")
    network: nn.Module

    def atomic_energies(self, geometry: Geometry) -> Tensor:
        """Energies of atoms in the network's units, (N,)."""
        # All atoms at the origin and the true vectors as shifts: MACE adds the two, so that the geometry is computed
        # in float64 (`edge_vectors`) whatever the network's precision.
        vectors = geometry.edge_vectors().to(self.dtype)  # (E, 3)
        elements = self.elements(geometry)
        output = self.network(
            {
                "positions": torch.zeros_like(geometry.positions, dtype=self.dtype, requires_grad=False),
                "shifts": vectors,
                "edge_index": geometry.edge_index,
                "node_attrs": torch.nn.functional.one_hot(elements, len(self.atomic_numbers)).to(self.dtype),
                # One system: MACE uses systems only to sum over atoms, and its sums are not used here.
                "batch": torch.zeros_like(geometry.atomic_numbers),
                "ptr": torch.empty(2),  # only its length is read
                "cell": torch.eye(3, dtype=self.dtype, device=vectors.device),  # not used for forces
            },
            compute_force=False,
        )
        return output["node_energy"]

    def filter_layout(self, parameter: Tensor, module: nn.Module, key: str) -> Tensor:
        """As for any architecture; a symmetric contraction keeps (element, path, channel), the element an input."""
        if parameter.dim() == 3:
            return numbered_along(parameter.shape, 1, 2)
        return super().filter_layout(parameter, module, key)


class MACE(MACENetwork):
    """Higher-order equivariant message passing.

    Args:
        cutoff: Å.
        num_interactions: message-passing layers.
        max_ell: highest order of the spherical harmonics of edges, the paper's L; at least 1, since the library's
            contraction has no case of scalars alone.
        correlation: order of the messages in neighbours, the paper's v; the body order is one more.
        num_channels: multiplicity of every hidden irrep.
        max_L: highest order of the hidden irreps; at most `max_ell`.
        num_bessels: radial basis functions.
        bessel_trainable: whether their frequencies are trained.
        radial_mlp_width: width of the three hidden layers of the radial network.
        readout_width: width of the last readout.
        polynomial_cutoff_p: exponent of the cutoff function.
        avg_num_neighbors: of the training frames; normalises sums over neighbours.
        atomic_numbers: elements to know.
        rescaling: from the network's units to eV.
        dtype: "float32" or "float64"; geometry is float64 in either case.
        seed: of the initial weights.

    Attributes:
        config: what the library's constructor was given, for its own files.
    """

    weights_belong_to_e3nn = True
    held_by_states = frozenset({"seed", "avg_num_neighbors"})
    small: ClassVar[Mapping[str, int]] = {"num_channels": 4, "radial_mlp_width": 8}
    smallest: ClassVar[Mapping[str, int]] = {"num_interactions": 1, "num_channels": 2, "max_ell": 1, "correlation": 1}

    def __init__(
        self,
        *,
        cutoff: Cutoff,
        num_interactions: PositiveInt,
        max_ell: Annotated[int, Field(ge=1, le=11)],  # e3nn has Wigner-3j tensors to 11
        correlation: PositiveInt,
        num_channels: PositiveInt,
        max_L: NonNegativeInt,
        num_bessels: PositiveInt,
        bessel_trainable: bool,
        radial_mlp_width: PositiveInt,
        readout_width: PositiveInt,
        polynomial_cutoff_p: PositiveInt,
        avg_num_neighbors: float,
        atomic_numbers: Sequence[int],
        rescaling: Rescaling,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(cutoff=cutoff, atomic_numbers=atomic_numbers, rescaling=rescaling, dtype=dtype)
        with build_context(seed, dtype), eager_e3nn():
            from mace import modules  # before e3nn.o3: it lets e3nn 0.4 load its own constants
            from mace.modules.radial import BesselBasis

            from e3nn import o3  # isort: skip

            block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
            parities = ((order, (-1) ** order) for order in range(max_L + 1))
            self.config = {
                "r_max": cutoff,
                "num_bessel": num_bessels,
                "num_polynomial_cutoff": polynomial_cutoff_p,
                "max_ell": max_ell,
                "interaction_cls": block,
                "interaction_cls_first": block,
                "num_interactions": num_interactions,
                "num_elements": len(self.atomic_numbers),
                "hidden_irreps": o3.Irreps([(num_channels, irrep) for irrep in parities]),
                "MLP_irreps": o3.Irreps([(readout_width, (0, 1))]),
                "atomic_energies": torch.zeros(len(self.atomic_numbers)).numpy(),
                "avg_num_neighbors": avg_num_neighbors,
                "atomic_numbers": list(self.atomic_numbers),
                "correlation": correlation,
                "gate": torch.nn.functional.silu,
                "radial_MLP": [radial_mlp_width] * 3,
            }
            self.network = modules.MACE(**self.config)
            if bessel_trainable:  # mace-torch has no argument for it
                self.network.radial_embedding.bessel_fn = BesselBasis(cutoff, num_bessels, trainable=True)
            for interaction in self.network.interactions:
                # A number in the library. As a buffer it is a state, not a constant of the programs made of the model.
                del interaction.avg_num_neighbors
                neighbours = torch.tensor(avg_num_neighbors)
                interaction.register_buffer("avg_num_neighbors", neighbours, persistent=False)

    @classmethod
    def check(cls, hyperparameters: Mapping[str, Any]) -> None:
        """Refuse hidden features of a higher order than that of the edges."""
        max_L, max_ell = hyperparameters["max_L"], hyperparameters["max_ell"]
        if max_L > max_ell:
            raise SettingError(f"max_L={max_L}: give at most model.max_ell, which is {max_ell}")
