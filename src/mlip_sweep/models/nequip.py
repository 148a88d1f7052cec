"""NequIP (Batzner et al., Nat. Commun. 2022, DOI 10.1038/s41467-022-29939-5), by the nequip library."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.e3nn_options import eager_e3nn
from mlip_sweep.models.interface import Cutoff, Library, Potential
from mlip_sweep.models.rescaling import Rescaling


class NequIPNetwork(Potential):
    """A potential whose `network` is a `GraphModel` of the library that gives energies alone."""

    library = Library(distribution="nequip", extra="nequip")
    network: nn.Module

    def types(self, geometry: Geometry) -> Tensor:
        """The library's type of each atom, (N,) int64."""
        return self.elements(geometry)

    def atomic_energies(self, geometry: Geometry) -> Tensor:
        """Energies of atoms in the network's units, (N,)."""
        from nequip.data import AtomicDataDict

        output = self.network(
            {
                AtomicDataDict.POSITIONS_KEY: geometry.positions,
                AtomicDataDict.ATOM_TYPE_KEY: self.types(geometry),
                # nequip's first row is the centre that receives, and its vectors run from row 0 to row 1.
                AtomicDataDict.EDGE_INDEX_KEY: geometry.edge_index.flip(0),
                AtomicDataDict.EDGE_VECTORS_KEY: -geometry.edge_vectors(),
            }
        )
        return output[AtomicDataDict.PER_ATOM_ENERGY_KEY].squeeze(-1)


class NequIP(NequIPNetwork):
    """Equivariant message passing, `num_layers` deep.

    Args:
        cutoff: Å.
        num_layers: interaction blocks.
        l_max: highest rotation order of features and spherical harmonics.
        num_features: multiplicity of every irrep.
        parity: whether features of both parities are kept.
        num_bessels: radial basis functions.
        bessel_trainable: whether their frequencies are trained.
        type_embed_num_features: width of the embedding of the elements, which every layer's self-connection has as many
            weights for; None takes `num_features`.
        radial_mlp_depth: hidden layers of the radial network.
        radial_mlp_width: their width.
        polynomial_cutoff_p: exponent of the cutoff function.
        avg_num_neighbors: of the training frames; normalises sums over neighbours.
        atomic_numbers: elements to know.
        rescaling: from the network's units to eV.
        dtype: "float32" or "float64"; geometry is float64 in either case.
        seed: of the initial weights.
    """

    weights_belong_to_e3nn = True
    held_by_states = frozenset({"seed", "avg_num_neighbors"})
    small: ClassVar[Mapping[str, int]] = {"num_features": 4, "radial_mlp_width": 8}
    smallest: ClassVar[Mapping[str, int]] = {"num_layers": 1, "num_features": 2}

    def __init__(
        self,
        *,
        cutoff: Cutoff,
        num_layers: PositiveInt,
        l_max: Annotated[int, Field(ge=0, le=11)],  # e3nn has Wigner-3j tensors to 11
        num_features: PositiveInt,
        parity: bool,
        num_bessels: PositiveInt,
        bessel_trainable: bool,
        radial_mlp_depth: NonNegativeInt,
        radial_mlp_width: PositiveInt,
        polynomial_cutoff_p: Annotated[int, Field(ge=2)],
        avg_num_neighbors: float,
        atomic_numbers: Sequence[int],
        rescaling: Rescaling,
        type_embed_num_features: PositiveInt | None = None,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(cutoff=cutoff, atomic_numbers=atomic_numbers, rescaling=rescaling, dtype=dtype)
        with build_context(seed, dtype), eager_e3nn():
            from nequip.model import NequIPGNNModel
            from nequip.utils.global_state import set_global_state

            set_global_state()
            self.network = NequIPGNNModel(
                seed=seed,
                model_dtype=dtype,
                type_names=[f"Z{z}" for z in self.atomic_numbers],
                r_max=cutoff,
                num_layers=num_layers,
                l_max=l_max,
                parity=parity,
                num_features=num_features,
                type_embed_num_features=type_embed_num_features,
                radial_mlp_depth=radial_mlp_depth,
                radial_mlp_width=radial_mlp_width,
                num_bessels=num_bessels,
                bessel_trainable=bessel_trainable,
                polynomial_cutoff_p=polynomial_cutoff_p,
                avg_num_neighbors=avg_num_neighbors,
                do_derivatives=False,
            )
