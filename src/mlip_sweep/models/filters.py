"""Which weights belong together: the filters of a network, for the normalisation of random directions.

| normalization | a filter is                                                                                |
| ------------- | ------------------------------------------------------------------------------------------ |
| filter        | `parameter[i]`, one number where the parameter has one dimension (the published code)      |
| layer         | a parameter                                                                                |
| model         | everything                                                                                 |
| irreps        | an output channel of a path of an equivariant layer, as the layer's instructions lay it out |

The flat weights of e3nn layers degenerate under `filter` to δ_i = ±|θ_i|, differently for every L and width. `irreps`
takes them apart into blocks (input multiplicities …, output multiplicity), one for each path, so that a filter is what
it is in a dense layer: all weights that feed one output. An architecture says how its own layers are laid out
(`Potential.filter_layout`).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# For each way of connecting in e3nn, the axes of a block's weights that number the output's channels.
OUTPUT_AXES = {"uw": (1,), "uvw": (2,), "uvu": (0,), "uvv": (1,), "uuw": (1,), "uuu": (0,), "uvuv": (0, 1)}

Layout = Callable[[Tensor, nn.Module, str], Tensor]
"""From a parameter, the module that owns it and its name there to the number of each weight's filter."""


def filters(model: nn.Module, normalization: str) -> Tensor:
    """Number of the filter of every weight, (P,) int64 from 0, in the order of `model.parameters()`, flattened."""
    layout = NORMALIZATIONS[normalization]
    if normalization == "irreps":
        layout = getattr(model, "filter_layout", layout)  # single layers, which are no Potential, are as they come
    parts, first = [], 0
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        path, _, key = name.rpartition(".")
        part = layout(parameter, modules[path], key).to(parameter.device)
        parts.append(part.flatten() + first)
        if normalization != "model":
            first += int(part.max()) + 1 if part.numel() else 0
    return torch.cat(parts)


def _filter(parameter: Tensor, module: nn.Module, key: str) -> Tensor:
    return numbered_along(parameter.shape, 0)


def _layer(parameter: Tensor, module: nn.Module, key: str) -> Tensor:
    return torch.zeros(parameter.shape, dtype=torch.int64)


def layer_layout(parameter: Tensor, module: nn.Module, key: str) -> Tensor:
    """Filters of one parameter of an equivariant network, as the layers of e3nn and of torch are laid out.

    - e3nn's Linear and TensorProduct keep one flat weight, block after block, in the order of their instructions.
    - Layers of radial and scalar networks keep (in, out) where they are no `nn.Linear`: a filter is a column.
    - Any other matrix is (out, in) as in torch; a vector (a bias, the frequencies of a basis) is one filter.
    """
    if hasattr(module, "instructions") and key == "weight" and parameter.dim() == 1:
        blocks, first = [], 0
        for path in module.instructions:  # type: ignore[union-attr]
            if getattr(path, "i_in", 0) == -1 or not getattr(path, "has_weight", True):
                continue  # a bias, kept elsewhere; or a path without weights
            block = numbered_along(path.path_shape, *OUTPUT_AXES[getattr(path, "connection_mode", "uw")])
            blocks.append(block.flatten() + first)
            first += int(block.max()) + 1
        return torch.cat(blocks)
    if parameter.dim() == 2 and key == "weight" and not isinstance(module, nn.Linear):
        return numbered_along(parameter.shape, 1)
    return numbered_along(parameter.shape, 0) if parameter.dim() > 1 else _layer(parameter, module, key)


def numbered_along(shape: Sequence[int], *axes: int) -> Tensor:
    """Numbers that differ along the given axes and are equal along the others."""
    kept = [n if axis in axes else 1 for axis, n in enumerate(shape)]
    return torch.arange(math.prod(kept)).reshape(kept).expand(shape)


NORMALIZATIONS: dict[str, Layout] = {
    "filter": _filter,
    "layer": _layer,
    "model": _layer,
    "irreps": layer_layout,
}
