"""TensorNet (Simeon and de Fabritiis, NeurIPS 2023, DOI 10.48550/arXiv.2306.06482), of graph-pes's blocks."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.graph_pes_blocks import atomic_graph, fixed, with_positions
from mlip_sweep.models.interface import Cutoff, Library, Potential
from mlip_sweep.models.rescaling import Rescaling


class TensorNet(Potential):
    """Message passing with Cartesian tensors of rank two, `num_layers` deep.

    Args:
        cutoff: Å.
        num_layers: interaction blocks.
        num_features: 3 × 3 tensors of each atom; at least two, since their norms are normalised over all of them.
        num_radials: radial basis functions, exponential in the distance; they are not trained.
        avg_num_neighbors: of the training frames; has no effect, since sums over neighbours are not normalised.
        atomic_numbers: elements to know.
        rescaling: from the network's units to eV.
        dtype: "float32" or "float64"; geometry is float64 in either case.
        seed: of the initial weights.
    """

    library = Library(distribution="graph-pes", extra="graph-pes")
    held_by_states = frozenset({"seed", "avg_num_neighbors"})
    small: ClassVar[Mapping[str, int]] = {"num_features": 8}  # over fewer, normalised norms make a rough landscape
    smallest: ClassVar[Mapping[str, int]] = {"num_layers": 1, "num_features": 2}

    def __init__(
        self,
        *,
        cutoff: Cutoff,
        num_layers: PositiveInt,
        num_features: Annotated[int, Field(ge=2)],
        num_radials: PositiveInt,
        avg_num_neighbors: float,
        atomic_numbers: Sequence[int],
        rescaling: Rescaling,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(cutoff=cutoff, atomic_numbers=atomic_numbers, rescaling=rescaling, dtype=dtype)
        with build_context(seed, dtype):
            from graph_pes.models.components.distances import ExponentialRBF
            from graph_pes.models.tensornet import Embedding, Interaction, ScalarOutput

            embedding = Embedding(num_radials, ExponentialRBF, num_features, cutoff)
            embedding.edge_embedding.z_embedding = _Elements(len(self.atomic_numbers), num_features)
            interactions = [Interaction(num_radials, num_features, cutoff) for _ in range(num_layers)]
            for block in (embedding.edge_embedding, *interactions):
                fixed(block.distance_embedding.components[0][0])
            self.embedding = embedding
            self.interactions = nn.ModuleList(interactions)
            self.readout = ScalarOutput(num_features)

    def atomic_energies(self, geometry: Geometry) -> Tensor:
        """Energies of atoms in the network's units, (N,)."""
        edge_vectors = geometry.edge_vectors().to(self.dtype)  # (E, 3)
        graph = atomic_graph(self.elements(geometry), geometry.edge_index, edge_vectors)
        tensors = self.embedding(graph)  # (N, F, 3, 3)
        for interaction in self.interactions:
            squares = tensors.square().sum(dim=(-2, -1), keepdim=True)
            tensors = tensors / (squares + 1)
            tensors = tensors + interaction(tensors, graph)
        return with_positions(self.readout(tensors).squeeze(-1), edge_vectors)


class _Elements(nn.Embedding):
    """An embedding of the elements of the data alone, in the place of the library's, which has all."""

    def dim(self) -> int:
        """Length of each element's vector."""
        return self.embedding_dim
