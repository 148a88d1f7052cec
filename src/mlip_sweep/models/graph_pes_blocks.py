"""What the architectures that are made of graph-pes's blocks have in common.

They take its blocks, not its models around them: those multiply each element's energies by numbers that are trained,
which here is the rescaling's task, and keep a row of weights for each of 118 elements.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from graph_pes.atomic_graph import AtomicGraph


def atomic_graph(elements: Tensor, edge_index: Tensor, vectors: Tensor) -> "AtomicGraph":
    """A geometry as the library's blocks take it.

    Args:
        elements: Index of each atom's element, (N,) int64, in the place of its atomic number.
        edge_index: Row 0 the senders, row 1 the receivers, (2, E) int64.
        vectors: Vectors from sender to receiver, (E, 3) Å, in the network's precision.
    """
    from graph_pes.atomic_graph import AtomicGraph

    return AtomicGraph(
        Z=elements,
        # All atoms at the origin, and the true vectors as the shifts of a cell of unit length: the library adds them,
        # so that the geometry is computed in float64 whatever the network's precision.
        R=vectors.new_zeros(len(elements), 3),
        cell=torch.eye(3, dtype=vectors.dtype, device=vectors.device),
        # The library's first row is the centre that receives, and its vectors run from row 0 to row 1.
        neighbour_list=edge_index.flip(0),
        neighbour_cell_offsets=-vectors,
        properties={},
        cutoff=0.0,  # only read where edges are trimmed
        other={},
    )


def with_positions(energies: Tensor, vectors: Tensor) -> Tensor:
    """Energies of atoms as a function of positions where no atom has a neighbour, too: the library's blocks lose it."""
    return energies + vectors.sum() if len(vectors) == 0 else energies


def fixed(block: nn.Module) -> nn.Module:
    """The same block with its parameters as buffers, so that they are neither trained nor displaced."""
    for module in block.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
    return block
