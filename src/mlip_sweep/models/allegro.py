"""Allegro (Musaelian et al., Nat. Commun. 2023, DOI 10.1038/s41467-023-36329-y), by the nequip-allegro library."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.e3nn_options import eager_e3nn
from mlip_sweep.models.interface import Cutoff, Library
from mlip_sweep.models.nequip import NequIPNetwork
from mlip_sweep.models.rescaling import Rescaling


class Allegro(NequIPNetwork):
    """Equivariant features of pairs, `num_layers` deep: an atom's energy depends on nothing beyond its own neighbours.

    Args:
        cutoff: Å.
        num_layers: tensor products of a pair's features with its centre's neighbourhood.
        l_max: highest rotation order of features and spherical harmonics.
        num_scalar_features: invariant features of each pair, an even number: half tell the centre's element, half the
            neighbour's.
        num_tensor_features: multiplicity of every irrep of a pair.
        parity: whether features of both parities are kept.
        num_bessels: radial basis functions.
        bessel_trainable: whether their frequencies are trained.
        mlp_depth: hidden layers of each network of scalars.
        mlp_width: their width.
        polynomial_cutoff_p: exponent of the cutoff function.
        avg_num_neighbors: of the training frames; normalises sums over neighbours.
        atomic_numbers: elements to know.
        rescaling: from the network's units to eV.
        dtype: "float32" or "float64"; geometry is float64 in either case.
        seed: of the initial weights.
    """

    library = Library(distribution="nequip-allegro", extra="allegro")
    weights_belong_to_e3nn = True
    held_by_states = frozenset({"seed", "avg_num_neighbors"})
    small: ClassVar[Mapping[str, int]] = {"num_scalar_features": 8, "num_tensor_features": 4, "mlp_width": 8}
    smallest: ClassVar[Mapping[str, int]] = {"num_layers": 1, "num_scalar_features": 4, "num_tensor_features": 2}

    def __init__(
        self,
        *,
        cutoff: Cutoff,
        num_layers: PositiveInt,
        l_max: Annotated[int, Field(ge=0, le=11)],  # e3nn has Wigner-3j tensors to 11
        num_scalar_features: Annotated[int, Field(ge=2, multiple_of=2)],
        num_tensor_features: PositiveInt,
        parity: bool,
        num_bessels: PositiveInt,
        bessel_trainable: bool,
        mlp_depth: NonNegativeInt,
        mlp_width: PositiveInt,
        polynomial_cutoff_p: Annotated[int, Field(ge=2)],
        avg_num_neighbors: float,
        atomic_numbers: Sequence[int],
        rescaling: Rescaling,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(cutoff=cutoff, atomic_numbers=atomic_numbers, rescaling=rescaling, dtype=dtype)
        with build_context(seed, dtype), eager_e3nn():
            from allegro.model import AllegroModel
            from nequip.utils.global_state import set_global_state

            set_global_state()
            self.network = AllegroModel(
                seed=seed,
                model_dtype=dtype,
                type_names=[f"Z{z}" for z in self.atomic_numbers],
                r_max=cutoff,
                num_layers=num_layers,
                l_max=l_max,
                parity=parity,
                num_scalar_features=num_scalar_features,
                num_tensor_features=num_tensor_features,
                radial_chemical_embed={
                    "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
                    "num_bessels": num_bessels,
                    "bessel_trainable": bessel_trainable,
                    "polynomial_cutoff_p": polynomial_cutoff_p,
                },
                scalar_embed_mlp_hidden_layers_depth=mlp_depth,
                scalar_embed_mlp_hidden_layers_width=mlp_width,
                allegro_mlp_hidden_layers_depth=mlp_depth,
                allegro_mlp_hidden_layers_width=mlp_width,
                readout_mlp_hidden_layers_depth=mlp_depth,
                readout_mlp_hidden_layers_width=mlp_width,
                avg_num_neighbors=avg_num_neighbors,
                do_derivatives=False,
            )

    def filter_layout(self, parameter: Tensor, module: nn.Module, key: str) -> Tensor:
        """As for any architecture; a tensor product keeps (channel, path), and paths to one irrep feed one output."""
        if key == "weights":
            product: Any = module
            entries = product.w3j.reshape(product.num_paths, -1, product.base_dim_out)  # (paths, inputs, outputs)
            outputs = (entries != 0).any(dim=1).unique(dim=0, return_inverse=True)[1]  # (paths,)
            channels = torch.arange(product.mul, device=outputs.device)[:, None]
            return (channels * (outputs.max() + 1) + outputs).reshape(parameter.shape)
        return super().filter_layout(parameter, module, key)
