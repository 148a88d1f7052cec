"""The landscape engine: losses of a model along straight lines and in planes of its parameters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.measurement.directions import Directions
from mlip_sweep.measurement.evaluation import evaluating
from mlip_sweep.models.interface import Potential
from mlip_sweep.training.loss import ErrorSums


@dataclass(frozen=True)
class Lines:
    """Losses along D directions at G points.

    Attributes:
        t: (G,) displacement, in units of the norm of the parameters.
        energy: (D, G) energy RMSE, eV/atom.
        forces: (D, G) forces RMSE, eV/Å.
    """

    t: NDArray[np.float64]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """Losses in the plane of two directions, kept apart so that they can be weighted after the fact.

    Attributes:
        t: (G,) displacement along either direction.
        energy: (G, G) energy RMSE, eV/atom; row i is t_i along the first direction.
        forces: (G, G) forces RMSE, eV/Å.
    """

    t: NDArray[np.float64]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]

    def weighted(self, energy_weight: float, forces_weight: float) -> NDArray[np.float64]:
        """E_w · ℓ_E + F_w · ℓ_F, (G, G)."""
        return energy_weight * self.energy + forces_weight * self.forces


def grid(points: int, window: float) -> NDArray[np.float64]:
    """`points` values of t from −window to window; the paper's are 81 and 0.25."""
    return np.linspace(-window, window, points)


def lines(
    model: Potential,
    batches: Sequence[GraphBatch],
    directions: Directions,
    t: NDArray[np.float64],
    *,
    progress: bool = True,
) -> Lines:
    """Evaluate θ + t δ̄ for every direction and every t, whole batches at a time. The model is left as it was found."""
    each = [[d[n] for d in directions.tensors] for n in range(len(directions))]
    steps = [[(float(value), direction)] for direction in each for value in t]
    energy, forces = _evaluate(model, batches, steps, "landscape", progress)
    shape = (len(directions), len(t))
    return Lines(np.asarray(t), energy.reshape(shape), forces.reshape(shape))


def plane(
    model: Potential,
    batches: Sequence[GraphBatch],
    directions: Directions,
    t: NDArray[np.float64],
    *,
    progress: bool = True,
) -> Plane:
    """Evaluate θ + t₁ δ̄₁ + t₂ δ̄₂ (eq 3) on the square grid of the first two directions."""
    first, second = ([d[n] for d in directions.tensors] for n in (0, 1))
    steps = [[(float(one), first), (float(two), second)] for one in t for two in t]
    energy, forces = _evaluate(model, batches, steps, "plane", progress)
    shape = (len(t), len(t))
    return Plane(np.asarray(t), energy.reshape(shape), forces.reshape(shape))


Step = Sequence[tuple[float, Sequence[Tensor]]]
"""A displacement Σ t δ̄ as its terms, each a t and one tensor for each parameter."""


def _evaluate(
    model: Potential, batches: Sequence[GraphBatch], steps: Sequence[Step], label: str, progress: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energy RMSE (eV/atom) and forces RMSE (eV/Å) after every displacement, each taken from the same point."""
    losses = np.empty((len(steps), 2))
    with displaceable(model) as displace:
        for k, step in enumerate(tqdm(steps, desc=label, unit="point", leave=False, disable=not progress)):
            displace(step)
            losses[k] = rmse(model, batches)
    return losses[:, 0], losses[:, 1]


@contextmanager
def displaceable(model: Potential) -> Iterator["_Displace"]:
    """Parameters may be displaced inside; outside they are what they were, bit for bit, also after an error.

    Inside, the model is in evaluation mode and its parameters ask for no gradient, so that only forces are derived.
    """
    parameters = list(model.parameters())
    start = [p.detach().clone() for p in parameters]
    wanted = [p.requires_grad for p in parameters]
    with evaluating(model):
        try:
            model.requires_grad_(False)
            yield _Displace(parameters, start)
        finally:
            with torch.no_grad():
                for parameter, value, gradient in zip(parameters, start, wanted, strict=True):
                    parameter.copy_(value)
                    parameter.requires_grad_(gradient)


class _Displace:
    """θ ← θ₀ + Σ t δ̄, each time from the same θ₀, so that nothing accumulates."""

    def __init__(self, parameters: list[torch.nn.Parameter], start: list[Tensor]) -> None:
        self._parameters = parameters
        self._start = start

    @torch.no_grad()
    def __call__(self, step: Step) -> None:
        for k, (parameter, value) in enumerate(zip(self._parameters, self._start, strict=True)):
            parameter.copy_(value)
            for t, direction in step:
                parameter.add_(direction[k], alpha=t)


def rmse(model: Potential, batches: Sequence[GraphBatch]) -> tuple[float, float]:
    """Energy RMSE (eV/atom, over systems) and forces RMSE (eV/Å, over components) of a model as it stands."""
    errors = ErrorSums.empty(batches[0].positions.device)
    for batch in batches:
        errors.add(model(batch), batch)
    energy, forces = errors.mse()
    return float(energy.sqrt()), float(forces.sqrt())
