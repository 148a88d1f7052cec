"""PaiNN (Schütt et al., ICML 2021, DOI 10.48550/arXiv.2102.03150), of the blocks of the graph-pes library."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import PositiveInt
from torch import Tensor, nn

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.graph_pes_blocks import atomic_graph, fixed, with_positions
from mlip_sweep.models.interface import Cutoff, Library, Potential
from mlip_sweep.models.rescaling import Rescaling


class PaiNN(Potential):
    """Message passing with scalars and vectors, `num_layers` deep.

    One radial basis serves all layers, as in the authors' SchNetPack (DOI 10.1063/5.0138367); messages go to zero at
    the cutoff as a polynomial.

    Args:
        cutoff: Å.
        num_layers: pairs of an interaction and an update.
        num_features: scalars of each atom, and as many vectors.
        num_bessels: radial basis functions.
        bessel_trainable: whether their frequencies are trained.
        avg_num_neighbors: of the training frames; has no effect, since sums over neighbours are not normalised.
        atomic_numbers: elements to know.
        rescaling: from the network's units to eV.
        dtype: "float32" or "float64"; geometry is float64 in either case.
        seed: of the initial weights.
    """

    library = Library(distribution="graph-pes", extra="graph-pes")
    held_by_states = frozenset({"seed", "avg_num_neighbors"})
    small: ClassVar[Mapping[str, int]] = {"num_features": 8}
    smallest: ClassVar[Mapping[str, int]] = {"num_layers": 1, "num_features": 4}

    def __init__(
        self,
        *,
        cutoff: Cutoff,
        num_layers: PositiveInt,
        num_features: PositiveInt,
        num_bessels: PositiveInt,
        bessel_trainable: bool,
        avg_num_neighbors: float,
        atomic_numbers: Sequence[int],
        rescaling: Rescaling,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(cutoff=cutoff, atomic_numbers=atomic_numbers, rescaling=rescaling, dtype=dtype)
        with build_context(seed, dtype):
            from graph_pes.models.components.distances import Bessel
            from graph_pes.models.painn import Interaction, Update
            from graph_pes.utils.nn import MLP

            self.embedding = nn.Embedding(len(self.atomic_numbers), num_features)
            interactions = [Interaction(num_bessels, num_features, cutoff) for _ in range(num_layers)]
            bessel = Bessel(num_bessels, cutoff)
            if not bessel_trainable:
                fixed(bessel)
            for interaction in interactions:
                interaction.filter_generator.components[0][0] = bessel
            self.interactions = nn.ModuleList(interactions)
            self.updates = nn.ModuleList(Update(num_features) for _ in range(num_layers))
            self.readout = MLP([num_features, num_features, 1], activation=nn.SiLU())

    def atomic_energies(self, geometry: Geometry) -> Tensor:
        """Energies of atoms in the network's units, (N,)."""
        edge_vectors = geometry.edge_vectors().to(self.dtype)  # (E, 3)
        graph = atomic_graph(self.elements(geometry), geometry.edge_index, edge_vectors)
        scalars = self.embedding(graph.Z)  # (N, F)
        vectors = scalars.new_zeros(*scalars.shape, 3)  # (N, F, 3)
        for interaction, update in zip(self.interactions, self.updates, strict=True):
            more_vectors, more_scalars = interaction(vectors, scalars, graph)
            vectors, scalars = vectors + more_vectors, scalars + more_scalars
            more_vectors, more_scalars = update(vectors, scalars)
            vectors, scalars = vectors + more_vectors, scalars + more_scalars
        return with_positions(self.readout(scalars).squeeze(-1), edge_vectors)
