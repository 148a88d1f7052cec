"""Losses of a model along straight lines and in planes of its parameters, every point of a grid evaluated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip_sweep.bars import bar
from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.measurement.evaluation import evaluating
from mlip_sweep.measurement.landscape.directions import Directions
from mlip_sweep.models.interface import Potential, Prediction
from mlip_sweep.models.targets import residuals
from mlip_sweep.training.loss import MeanSquares


@dataclass(frozen=True)
class LineLosses:
    """Losses along D directions at G points.

    Attributes:
        t: (G,) displacement, in units of the norm of the parameters.
        energy: (D, G) energy RMSE, eV/atom.
        forces: (D, G) forces RMSE, eV/Å.
        stress: (D, G) stress RMSE, eV/Å³; None where there are no labels. No part of S.
    """

    t: NDArray[np.float64]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class PlaneLosses:
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
    """`points` values of t from −window to window, exactly symmetric; the paper's are 81 and 0.25."""
    steps = np.arange(points) - (points - 1) / 2
    return steps * (window / steps[-1])


def evaluate_lines(
    model: Potential,
    batches: Sequence[GraphBatch],
    directions: Directions,
    n: int,
    t: NDArray[np.float64],
    *,
    progress: bool = True,
) -> LineLosses:
    """Evaluate θ + t δ̄ for the first n directions and every t, whole batches at a time."""
    steps: list[Step] = [[(float(value), directions[k])] for k in range(n) for value in t]
    losses = _evaluate(model, batches, steps, "landscape", progress)
    return LineLosses(np.asarray(t), **{name: values.reshape(n, len(t)) for name, values in losses.items()})


def evaluate_plane(
    model: Potential,
    batches: Sequence[GraphBatch],
    directions: Directions,
    t: NDArray[np.float64],
    *,
    progress: bool = True,
) -> PlaneLosses:
    """Evaluate θ + t₁ δ̄₁ + t₂ δ̄₂ (eq 3) on the square grid of the first two directions."""
    first, second = directions[0], directions[1]
    steps: list[Step] = [[(float(one), first), (float(two), second)] for one in t for two in t]
    losses = _evaluate(model, batches, steps, "landscape: plane", progress)
    shape = (len(t), len(t))
    return PlaneLosses(np.asarray(t), losses["energy"].reshape(shape), losses["forces"].reshape(shape))


Step = Sequence[tuple[float, list[Tensor]]]
"""A displacement Σ t δ̄ as its terms, each a t and one tensor for each parameter."""


def _evaluate(
    model: Potential, batches: Sequence[GraphBatch], steps: Sequence[Step], label: str, progress: bool
) -> dict[str, NDArray[np.float64]]:
    """RMSE after every displacement, each taken from the same point, by name of the quantity, in its unit."""
    losses: dict[str, list[Tensor]] = {}
    with evaluating(model), torch.no_grad(), bar(len(steps), label, "points", shown=progress) as shown:
        displacements = Displacements(model)
        for step in steps:
            displaced = displacements.at(step)
            errors = MeanSquares()
            for batch in batches:
                errors.add(residuals(displaced, batch))
            for name, root in errors.roots.items():
                losses.setdefault(name, []).append(root)
            shown.update()
    return {name: torch.stack(roots).cpu().numpy() for name, roots in losses.items()}  # the device is waited for here


class Displacements:
    """A model at displaced parameters, θ + Σ t δ̄, each time from the same θ, so that nothing accumulates.

    The model itself is not touched: displaced parameters are tensors of their own, handed to `Potential.predict`. They
    ask for no gradient, so that only forces are derived.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: Potential) -> None:
        self._model = model
        self._names = [name for name, _ in model.named_parameters()]
        self._start = [parameter.detach() for parameter in model.parameters()]

    def at(self, step: Step) -> Callable[[GraphBatch], Prediction]:
        """What predicts with the parameters displaced; an empty step leaves them where they are."""
        displaced = self._start
        for t, direction in step:
            displaced = list(torch._foreach_add(displaced, direction, alpha=t))
        return partial(self._model.predict, dict(zip(self._names, displaced, strict=True)))
