"""Random directions in the space of parameters, filter-normalised (Li et al. 2018, DOI 10.48550/arXiv.1712.09913)."""

import hashlib
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlip_sweep.errors import SettingError
from mlip_sweep.models.filters import filters

PASSES = 20  # of orthogonalisation and normalisation in turn
ORTHOGONAL = 1e-3  # largest cosine with an earlier direction at which the passes end


class Directions:
    """Directions δ̄ for the parameters of one model, drawn one after another as they are asked for.

    Each is Gaussian, made orthogonal to those before it, every filter given the norm of θ's filter (eq 4). Direction k
    is therefore the same however many follow. Every parameter draws from a generator of its own, seeded by the seed and
    its name: models that share a parameter's name and shape share its random numbers.

    The two demands pull at each other. Filters have their norms exactly; orthogonality is approached in turns with it
    and reported (`max_cosine`).

    Args:
        model: whose parameters to displace.
        seed: of the numbers.
        frozen: regular expressions; parameters whose name has a match stay where they are. One may match a buffer of
            this model, which is a parameter in others that S is compared with.
        normalization: what a filter is, a key of `mlip_sweep.models.filters.NORMALIZATIONS`.

    Raises:
        SettingError: a pattern is no regular expression or matches nothing, or no parameter is left to displace.
    """

    def __init__(
        self, model: nn.Module, *, seed: int, frozen: Sequence[str] = (), normalization: str = "filter"
    ) -> None:
        names = [name for name, _ in model.named_parameters()]
        still = _matching(names, [name for name, _ in model.named_buffers()], frozen)
        parameters = [p.detach() for p in model.parameters()]
        self._shapes = [p.shape for p in parameters]
        self._dtypes = [p.dtype for p in parameters]
        self._dtype = max(parameters, key=torch.numel).dtype
        reference = torch.cat(
            [(p * (name not in still)).flatten().double() for name, p in zip(names, parameters, strict=True)]
        )  # (P,), zero where frozen
        self._moves = torch.cat(
            [torch.full((p.numel(),), name not in still) for name, p in zip(names, parameters, strict=True)]
        ).to(reference.device)
        self._filters = filters(model, normalization)
        self._norms = self._norms_of(reference)  # (F,)
        sizes = torch.bincount(self._filters[self._moves], minlength=len(self._norms)).clamp_min(1)
        scale = (self._norms / sizes.sqrt())[self._filters]  # (P,) root mean square of each weight's filter
        self._per_scale = torch.where(scale > 0, 1.0 / scale.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
        self._generators = [_generator(f"{seed}/{name}") for name in names]
        self._drawn = reference.new_empty((0, len(reference)), dtype=self._dtype)  # (D, P)
        self.max_cosine = 0.0  # the largest |cos| between two of them

    def __getitem__(self, k: int) -> list[Tensor]:
        """Direction k as one tensor for each parameter, in the order of `model.parameters()`; zeros where frozen."""
        while len(self._drawn) <= k:
            self._draw()
        parts = self._drawn[k].split([shape.numel() for shape in self._shapes])
        return [
            part.view(shape).to(dtype) for part, shape, dtype in zip(parts, self._shapes, self._dtypes, strict=True)
        ]

    def _draw(self) -> None:
        """One more direction.

        What is corrected is the Gaussian vector z behind it, δ̄ = normalised(z): elements that are alone in their filter
        can only change sign, and do so where z is near zero.
        """
        z = torch.cat(
            [
                torch.randn(shape.numel(), generator=generator, dtype=torch.float64)
                for shape, generator in zip(self._shapes, self._generators, strict=True)
            ]
        ).to(self._drawn.device)
        z = z * self._moves
        for _ in range(PASSES):
            direction = self._normalised(z).to(self._dtype)
            cosines = (self._drawn @ direction).double() / self._norms.square().sum()  # all have the norm of θ
            if len(cosines) == 0 or cosines.abs().max() < ORTHOGONAL:
                break
            z = z - self._per_scale * (cosines.to(self._dtype) @ self._drawn).double()
        if len(cosines):
            self.max_cosine = max(self.max_cosine, float(cosines.abs().max()))
        self._drawn = torch.cat([self._drawn, direction[None]])

    def _normalised(self, z: Tensor) -> Tensor:
        """Every filter takes the norm of θ's filter."""
        ratio = self._norms / self._norms_of(z).clamp_min(torch.finfo(torch.float64).tiny)
        return z * ratio[self._filters]

    def _norms_of(self, values: Tensor) -> Tensor:
        """(P,) -> (F,) Euclidean norms of the filters."""
        return torch.bincount(self._filters, weights=values.square()).sqrt()


def _generator(key: str) -> torch.Generator:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)


def _matching(names: Sequence[str], buffers: Sequence[str], patterns: Sequence[str]) -> set[str]:
    matching: set[str] = set()
    for pattern in patterns:
        try:
            matches = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise SettingError(f"frozen={pattern!r}: not a regular expression ({error})") from None
        if not matches and not any(re.search(pattern, name) for name in buffers):
            raise SettingError(f"frozen={pattern!r}: matches no parameter; there are {', '.join(names)}")
        matching |= matches
    if len(matching) == len(names):
        raise SettingError(f"frozen={list(patterns)}: matches every parameter, so that there is nothing to displace")
    return matching
