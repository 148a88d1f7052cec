"""Random directions in the space of parameters, filter-normalised (Li et al. 2018, DOI 10.48550/arXiv.1712.09913)."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mlip_sweep.errors import InputError

PASSES = 10  # of orthogonalisation and normalisation in turn
ORTHOGONAL = 1e-3  # largest cosine between two directions at which the passes end


@dataclass(frozen=True)
class Directions:
    """D directions δ̄ for the parameters of one model.

    Attributes:
        tensors: one (D, *shape) tensor for each parameter, in the order of `model.parameters()`; zeros where frozen.
        max_cosine: the largest |cos| between two of them.
    """

    tensors: list[Tensor]
    max_cosine: float

    def __len__(self) -> int:
        return len(self.tensors[0])


def draw(model: nn.Module, n: int, *, seed: int, frozen: Sequence[str] = ()) -> Directions:
    """Draw n directions: Gaussian, made orthogonal to one another, every filter given the norm of θ's filter (eq 4).

    A filter is `parameter[i]`; a parameter of one dimension is scaled element by element, so that for the flat weights
    of e3nn δ_i = ±|θ_i|, as in the published code. Every parameter draws from a generator of its own, seeded by the
    seed and its name: models that share a parameter's name and shape share its random numbers.

    The two demands pull at each other. Filters have their norms exactly; orthogonality is approached in turns with it
    and reported (`max_cosine`), since elements of fixed modulus cannot be rotated.

    Args:
        model: whose parameters to displace.
        n: how many directions.
        seed: of the numbers.
        frozen: regular expressions; parameters whose name has a match stay where they are.

    Raises:
        InputError: a pattern is no regular expression or matches no parameter, or nothing is left to displace.
    """
    names = [name for name, _ in model.named_parameters()]
    still = _matching(names, frozen)
    parameters = [p.detach() for p in model.parameters()]
    drawn = [
        torch.zeros(n, *p.shape, dtype=torch.float64, device=p.device)
        if name in still
        else _gaussian(n, p, f"{seed}/{name}")
        for name, p in zip(names, parameters, strict=True)
    ]
    tensors = [_normalised(d, p) for d, p in zip(drawn, parameters, strict=True)]
    for _ in range(PASSES):
        if _max_cosine(tensors) < ORTHOGONAL:
            break
        tensors = [_normalised(d, p) for d, p in zip(_orthogonal(tensors), parameters, strict=True)]
    return Directions(
        [d.to(p.dtype) for d, p in zip(tensors, parameters, strict=True)], max_cosine=_max_cosine(tensors)
    )


def _matching(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            matches = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise InputError(f"frozen={pattern!r}: not a regular expression ({error})") from None
        if not matches:
            raise InputError(f"frozen={pattern!r}: matches no parameter; there are {', '.join(names)}")
        found |= matches
    if len(found) == len(names):
        raise InputError(f"frozen={list(patterns)}: matches every parameter, so that there is nothing to displace")
    return found


def _gaussian(n: int, parameter: Tensor, key: str) -> Tensor:
    """(n, *shape) standard normal numbers; direction k is the same whatever n."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(parameter.shape, generator=generator, dtype=torch.float64) for _ in range(n)]
    return torch.stack(drawn).to(parameter.device)


def _normalised(directions: Tensor, parameter: Tensor) -> Tensor:
    """Every filter of (D, *shape) directions takes the norm of the same filter of the parameter."""
    reference = parameter.double()
    if parameter.dim() <= 1:
        return directions.sign() * reference.abs()
    filters = tuple(range(2, directions.dim()))
    norms = torch.linalg.vector_norm(directions, dim=filters, keepdim=True)
    target = torch.linalg.vector_norm(reference, dim=tuple(range(1, reference.dim())), keepdim=True)
    return directions * (target / norms.clamp_min(torch.finfo(torch.float64).tiny))


def _gram(tensors: Sequence[Tensor]) -> Tensor:
    """(D, D) scalar products."""
    return sum((flat @ flat.T for flat in (t.flatten(1) for t in tensors)), torch.zeros(()))


def _orthogonal(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The orthogonal set nearest to the given one (Löwdin): each is moved alike, whatever the order."""
    gram = _gram(tensors).cpu().numpy()
    scale = np.sqrt(np.diag(gram))
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    mixing = vectors @ np.diag(1.0 / np.sqrt(np.maximum(values, 1e-12))) @ vectors.T
    return [torch.tensordot(torch.as_tensor(mixing, device=t.device), t, dims=1) for t in tensors]


def _max_cosine(tensors: Sequence[Tensor]) -> float:
    gram = _gram(tensors)
    if len(gram) < 2:
        return 0.0
    scale = gram.diagonal().sqrt()
    cosines = (gram / torch.outer(scale, scale)).abs()
    return float(cosines.fill_diagonal_(0.0).max())
