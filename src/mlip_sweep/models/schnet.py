"""SchNet (Schütt et al., J. Chem. Phys. 2018, DOI 10.1063/1.5019779), of the blocks of the graph-pes library."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import PositiveInt
from torch import Tensor, nn

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.graph_pes_blocks import atomic_graph, fixed
from mlip_sweep.models.interface import Cutoff, Library, Potential
from mlip_sweep.models.rescaling import Rescaling


class SchNet(Potential):
    """Continuous-filter convolutions over distances, `num_layers` deep: messages are scalars.

    Filters go to zero at the cutoff as its cosine, as in the authors' SchNetPack (DOI 10.1021/acs.jctc.8b00908): those
    of graph-pes and of the first paper do not, so that energies jump where an atom enters a neighbourhood.

    Args:
        cutoff: Å.
        num_layers: interaction blocks.
        num_features: of each atom.
        num_gaussians: radial basis functions, evenly spaced up to the cutoff.
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
        num_gaussians: PositiveInt,
        avg_num_neighbors: float,
        atomic_numbers: Sequence[int],
        rescaling: Rescaling,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(cutoff=cutoff, atomic_numbers=atomic_numbers, rescaling=rescaling, dtype=dtype)
        with build_context(seed, dtype):
            from graph_pes.models.components.distances import CosineEnvelope, GaussianSmearing
            from graph_pes.models.schnet import SchNetInteraction
            from graph_pes.utils.nn import MLP, HaddamardProduct, ShiftedSoftplus

            self.embedding = nn.Embedding(len(self.atomic_numbers), num_features)
            interactions = [
                SchNetInteraction(num_features, num_gaussians, cutoff, GaussianSmearing) for _ in range(num_layers)
            ]
            for interaction in interactions:
                gaussians, network = interaction.cfconv.filter_generator
                filters = nn.Sequential(fixed(gaussians), network)
                interaction.cfconv.filter_generator = HaddamardProduct(filters, CosineEnvelope(cutoff))
            self.interactions = nn.ModuleList(interactions)
            self.readout = MLP([num_features, max(num_features // 2, 1), 1], activation=ShiftedSoftplus())

    def atomic_energies(self, geometry: Geometry) -> Tensor:
        """Energies of atoms in the network's units, (N,)."""
        vectors = geometry.edge_vectors()  # (E, 3)
        distances = vectors.norm(dim=-1, keepdim=True).to(self.dtype)  # (E, 1)
        graph = atomic_graph(self.elements(geometry), geometry.edge_index, vectors.to(self.dtype))
        features = self.embedding(graph.Z)  # (N, F)
        for interaction in self.interactions:
            features = features + interaction(features, distances, graph)
        return self.readout(features).squeeze(-1)
