"""How sharp the training loss is around the weights that a run keeps: two cheap relatives of the loss entropy.

Critical sharpness: https://arxiv.org/abs/2601.16979. SAM sharpness: Foret et al., ICLR 2021,
https://doi.org/10.48550/arXiv.2010.01412.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import GraphBatch, batches
from mlip_sweep.measurement.evaluation import device_of, evaluating
from mlip_sweep.measurement.interface import Measurement, Report
from mlip_sweep.measurement.landscape.grid import Displacements
from mlip_sweep.metrics import Metric
from mlip_sweep.models.interface import Potential, Prediction, deriving_by
from mlip_sweep.models.targets import residuals
from mlip_sweep.settings import settings
from mlip_sweep.training.loss import Loss, MeanSquares, weighted_loss

CRITICAL: Final = "critical_sharpness"
CRITICAL_SCALED: Final = "critical_sharpness_scaled"
SAM: Final = "sam_sharpness"
SAM_SCALED: Final = "sam_sharpness_scaled"
EVALUATIONS: Final = "sharpness_evaluations"
BRACKET: Final = 1.1  # ratio of the two steps between which the critical one is known to lie in the end
MOST_EVALUATIONS: Final = 60


@settings
class Sharpness(Measurement):
    """Sharpness of the training loss L(θ) = Σ_q w_q · MSE_q over all training frames, at the kept weights.

    - Critical sharpness λ_c = 2 / η_c: η_c is the smallest step along the negative gradient that raises the loss, found
      by doubling and bisection. For a quadratic loss λ_c is its curvature along the gradient, gᵀHg / |g|². Scaled, it
      is λ_c |θ|² / L, a number without a unit that does not change when weights or loss are scaled.
    - SAM sharpness is L(θ + ρ g/|g|) − L(θ), the rise of the loss at the point that is worst to first order among those
      within a distance ρ; once with ρ itself, once with ρ |θ|, so that models compare.

    The weights of the loss are the same for every run, whatever it was trained with.

    Args:
        energy_weight: per (eV/atom)².
        forces_weight: per (eV/Å)².
        radius: ρ.
        max_atoms: of one batch.
    """

    energy_weight: NonNegativeFloat = 1000.0
    forces_weight: NonNegativeFloat = 10.0
    radius: PositiveFloat = 0.05
    max_atoms: PositiveInt = 1024

    metrics = (
        Metric(CRITICAL, better="lower"),
        Metric(CRITICAL_SCALED, better="lower"),
        Metric(SAM, better="lower"),
        Metric(SAM_SCALED, better="lower"),
        Metric(EVALUATIONS),
    )

    def __call__(self, model: Potential, dataset: Dataset) -> Report:
        """Measure a model, which is left as it was found."""
        device = device_of(model)
        frames = batches(dataset.graphs("train", model.cutoff), self.max_atoms, device)
        loss = weighted_loss({"energy": self.energy_weight, "forces": self.forces_weight}, "measurement.sharpness")
        here, gradient = loss_and_gradient(model, frames, loss)
        norm = _norm(gradient)
        size = _norm([parameter.detach() for parameter in model.parameters()])
        with evaluating(model), torch.no_grad():
            displacements = Displacements(model)
            count = 0

            def at(t: float) -> float:
                """The loss after a step of length t along the gradient."""
                nonlocal count
                count += 1
                return _loss_of(displacements.at([(t / norm, gradient)]), frames, loss)

            step = critical_step(lambda t: at(-t) - here, first=2.0 * here / norm) if norm > 0 else math.nan
            rises = [at(radius) - here if norm > 0 else math.nan for radius in (self.radius, self.radius * size)]
        critical = 2.0 * norm / step  # a step of length t is one of η = t / |g|
        notes = (
            [] if math.isfinite(critical) else ["no step along the gradient raised the loss: sharpness is not known"]
        )
        return Report(
            metrics={
                CRITICAL: critical,
                CRITICAL_SCALED: critical * size**2 / here,
                SAM: rises[0],
                SAM_SCALED: rises[1],
                EVALUATIONS: float(count),
            },
            notes=notes,
        )


def critical_step(rise: Callable[[float], float], *, first: float) -> float:
    """The smallest step that raises the loss, to within 5 %, by doubling or halving and then bisection.

    A loss that is not finite counts as raised.

    Args:
        rise: change of the loss after a step of a length.
        first: the length to begin with; near the answer saves evaluations.

    Returns:
        NaN where none was found within `MOST_EVALUATIONS`.
    """

    def raised(length: float) -> bool:
        change = rise(length)
        return not change <= 0.0

    low, high = 0.0, math.inf
    length = first
    for _ in range(MOST_EVALUATIONS):
        if raised(length):
            high = length
        else:
            low = length
        if high / low < BRACKET if low else False:
            return math.sqrt(low * high)
        if math.isinf(high):
            length = 2.0 * low
        elif not low:
            length = 0.5 * high
        else:
            length = math.sqrt(low * high)
    return math.nan


def loss_and_gradient(model: Potential, frames: Sequence[GraphBatch], loss: Loss) -> tuple[float, list[Tensor]]:
    """The loss over all batches and its gradient, one tensor for each parameter.

    The mean over all frames is no mean over batches, so residuals of a batch are weighted by their share of all.

    Args:
        model: left in the mode it was in.
        frames: labelled batches on the model's device.
        loss: that is taken.
    """
    # In one pass: batches of a large set are put together where they are asked for.
    systems, components = map(sum, zip(*((b.n_systems, 3 * len(b.positions)) for b in frames), strict=True))
    parameters = list(model.parameters())
    wanted = [p.requires_grad for p in parameters]
    total = 0.0
    gradient = [torch.zeros_like(p) for p in parameters]
    with evaluating(model), deriving_by(model, None):  # autograd cannot derive a compiled program twice
        model.train()  # only then are forces differentiable in the parameters
        model.requires_grad_(True)
        try:
            for batch in frames:
                missed = residuals(model, batch)
                shares = {"energy": systems, "forces": components}
                value = loss.of_mean_squares({q: r.square().sum() / shares[q] for q, r in missed.items()})
                total += value.item()
                found = torch.autograd.grad(value, parameters, allow_unused=True)
                gradient = [g if f is None else g + f for g, f in zip(gradient, found, strict=True)]
        finally:
            for parameter, wish in zip(parameters, wanted, strict=True):
                parameter.requires_grad_(wish)
    return total, [g.detach() for g in gradient]


def _loss_of(model: Callable[[GraphBatch], Prediction], frames: Sequence[GraphBatch], loss: Loss) -> float:
    errors = MeanSquares()
    for batch in frames:
        errors.add(residuals(model, batch))
    return float(loss.of_mean_squares(errors.values))


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))
