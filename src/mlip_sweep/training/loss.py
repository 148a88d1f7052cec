"""The training loss, Σ_q w_q · MSE_q over the quantities q: energies per atom, components of forces and of stresses."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from mlip_sweep.errors import InputError
from mlip_sweep.models.targets import QUANTITIES, Quantity, Residuals


@dataclass(frozen=True)
class Term:
    """One quantity of a loss and its weight, per square of the quantity's unit."""

    quantity: Quantity
    weight: float


@dataclass(frozen=True)
class Loss:
    """A weighted sum of mean squares.

    Attributes:
        terms: one a quantity.
        huber_delta: residuals beyond it, in the unit of each quantity (eV/atom, eV/Å, eV/Å³), count in proportion to
            their size instead of its square, so that few bad labels do not rule; None squares all.
    """

    terms: tuple[Term, ...]
    huber_delta: float | None = None

    def __call__(self, residuals: Residuals) -> Tensor:
        """The loss of one batch, a scalar."""
        return self.of_mean_squares({name: self._mean(values) for name, values in residuals.items()})

    def _mean(self, residuals: Tensor) -> Tensor:
        """Mean square, or twice the mean Huber loss, which is the same where residuals are small."""
        if self.huber_delta is None:
            return residuals.square().mean()
        return 2.0 * huber_loss(residuals, torch.zeros_like(residuals), delta=self.huber_delta)

    def of_mean_squares(self, mean_squares: Mapping[str, Tensor]) -> Tensor:
        """The loss of mean squared residuals, by name of the quantity; a stress without labels adds nothing."""
        present = [term for term in self.terms if term.quantity.always or term.quantity.name in mean_squares]
        first, *others = (term.weight * mean_squares[term.quantity.name] for term in present)
        return sum(others, start=first)

    @property
    def weights(self) -> dict[str, float]:
        """By name of the quantity."""
        return {term.quantity.name: term.weight for term in self.terms}


def weighted_loss(weights: Mapping[str, float], place: str = "loss") -> Loss:
    """The loss with a weight for each quantity.

    Args:
        weights: by name of the quantity, each per square of its unit; 0 for a stress that has none.
        place: of the weights in the config, for messages.

    Raises:
        InputError: a weight is negative or not a finite number, all are zero, or a quantity is missing or unknown.
    """
    given = ", ".join(f"{place}.{name}_weight={weight}" for name, weight in weights.items())
    needed = {name for name, quantity in QUANTITIES.items() if quantity.always}
    if not needed <= weights.keys() <= QUANTITIES.keys():
        raise InputError(f"{place}: give one weight each for {', '.join(QUANTITIES)} (given: {given})")
    numbers = [w for w in weights.values() if type(w) in (int, float) and 0.0 <= w < float("inf")]
    if len(numbers) < len(weights) or not any(weights[name] for name in needed):
        raise InputError(f"{given}: give numbers that are not negative, that of {' or '.join(sorted(needed))} above 0")
    return Loss(tuple(Term(quantity, float(weights.get(name, 0.0))) for name, quantity in QUANTITIES.items()))


def losses_of(group: Mapping[str, Any]) -> tuple[Loss, Loss]:
    """The losses of training and of validation that the config group `loss` describes.

    Raises:
        InputError: as `weighted_loss`; or the group has an entry that nothing knows.
    """
    place = "loss"
    others = ("validation", "cycle", "fit_energy_shift", "huber_delta")
    group = {str(name): value for name, value in group.items()}
    unknown = [name for name in group if not name.endswith("_weight") and name not in others]
    if unknown:
        raise InputError(f"{place}.{unknown[0]}: there is no such setting; see conf/loss for what it takes")
    own = {name.removesuffix("_weight"): value for name, value in group.items() if name.endswith("_weight")}
    kept = group.get("validation")
    if not isinstance(kept, Mapping):
        raise InputError(f"{place}.validation={kept}: give one weight each for {', '.join(QUANTITIES)}")
    validation = {str(name).removesuffix("_weight"): value for name, value in kept.items()}
    delta = group.get("huber_delta")
    if delta is not None and not (type(delta) in (int, float) and delta > 0):
        raise InputError(f"{place}.huber_delta={delta!r}: give a number above 0, or null for squares")
    training = replace(weighted_loss(own, place), huber_delta=delta)
    return training, weighted_loss(validation, f"{place}.validation")


def fits_energy_shift(group: Mapping[str, Any]) -> bool:
    """Whether the config group `loss` asks for a fitted shift of the energies.

    Raises:
        InputError: it says neither yes nor no.
    """
    wanted = group.get("fit_energy_shift", False)
    if not isinstance(wanted, bool):
        raise InputError(f"loss.fit_energy_shift={wanted}: give true or false")
    return wanted


class MeanSquares:
    """Mean squared residuals over several batches, so that each residual counts the same whatever its batch."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, residuals: Residuals) -> None:
        """Count one batch. Nothing leaves the device."""
        for name, values in residuals.items():
            squares = values.square().sum()
            self._sums[name] = self._sums[name] + squares if name in self._sums else squares
            self._counts[name] = self._counts.get(name, 0) + values.numel()

    @property
    def values(self) -> dict[str, Tensor]:
        """By name of the quantity, in the square of its unit."""
        return {name: total / self._counts[name] for name, total in self._sums.items()}

    @property
    def roots(self) -> dict[str, Tensor]:
        """Root mean squares, by name of the quantity, in its unit."""
        return {name: torch.sqrt(value) for name, value in self.values.items()}
