"""The loss entropy from few evaluations: lines refined until S has converged, directions added until it is certain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from mlip_sweep.bars import bar
from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.measurement.evaluation import evaluating
from mlip_sweep.measurement.landscape.directions import Directions
from mlip_sweep.measurement.landscape.entropy import EntropySettings
from mlip_sweep.measurement.landscape.grid import Displacements, LineLosses
from mlip_sweep.measurement.landscape.interpolation import Array, LineNodes
from mlip_sweep.models.interface import Potential, Prediction
from mlip_sweep.models.targets import Residuals, residuals

PILOTS = 2  # directions that are refined further than needed, to learn how fast the others converge
PILOT_TOLERANCE = 0.5  # of theirs, in units of the tolerance
SAFETY = 3.0  # factor on the error that the pilots predict
FIRST_SPLIT = 0.125  # where an interval that begins at t = 0 is split: losses bend most there
MIN_DIRECTIONS = 5  # before a standard error is believed


@dataclass(frozen=True)
class SampledLandscape:
    """Losses on a grid, and what was evaluated for them.

    Attributes:
        lines: what was evaluated, one for each direction; none where that is the grid itself.
        curves: their losses on the grid.
        evaluations: of the whole data set.
        error: estimate of what interpolation adds to S, nat.
    """

    lines: list[LineNodes]
    curves: LineLosses
    evaluations: int
    error: float


def sample_lines(
    model: Potential,
    batches: Sequence[GraphBatch],
    directions: Directions,
    n: int,
    t: Array,
    settings: EntropySettings,
    *,
    tolerance: float,
    target_stderr: float | None = None,
    progress: bool = True,
) -> SampledLandscape:
    """Losses on the grid t along up to n directions, each evaluated at as few points as S allows.

    Along a direction, pairs ±t of grid points are added where they matter most to S, until the error that is left in
    S, the mean over directions, is below the tolerance. In the end that is the whole grid, so that a landscape too
    sharp to be interpolated, or one without finite losses, is simply evaluated. The point t = 0 is shared by all.

    The error that is left is estimated from the change that leaving out every other pair makes. The first two
    directions (pilots) go on until that change itself is small, and so show which part of it is left as an error after
    k pairs.

    Args:
        model: left as it was found.
        batches: on the model's device.
        directions: drawn as they are needed.
        n: the largest number of directions.
        t: (G,) the grid, symmetric about 0, ascending.
        settings: temperatures and weight of S.
        tolerance: of S, nat.
        target_stderr: standard error of S at which no more directions are added; None takes all n.
        progress: whether to show a bar.
    """
    lines: list[LineNodes] = []
    losses: list[tuple[Array, Array]] = []  # on the grid
    estimates: list[float] = []
    with (
        evaluating(model),
        torch.no_grad(),
        bar(n, "landscape", "directions", shown=progress) as shown,
    ):
        displacements = Displacements(model)
        centre = all_residuals(displacements.at([]), batches)
        plan = _RefinementPlan(t, settings)
        for k in range(n):
            direction = directions[k]

            def at(value: float, direction: list[Tensor] = direction) -> Residuals:
                return all_residuals(displacements.at([(value, direction)]), batches)

            left = min(2 * tolerance, tolerance * (k + 1) - sum(estimates))  # S is off by the mean over directions
            line, estimate = plan.follow(_DirectionSampler(at, centre), losses, left, pilot=k < PILOTS)
            lines.append(line)
            losses.append(line.rmse(t))
            estimates.append(estimate)
            shown.update()
            if target_stderr is not None and k + 1 >= MIN_DIRECTIONS and _stderr(losses, settings) <= target_stderr:
                break
    energy, forces = (np.array(part) for part in zip(*losses, strict=True))
    evaluations = 1 + sum(len(line.t) - 1 for line in lines)
    stresses = [stress for line in lines if (stress := line.stress_rmse(t)) is not None]
    curves = LineLosses(t, energy, forces, np.array(stresses) if stresses else None)
    return SampledLandscape(lines, curves, evaluations, float(np.mean(estimates)))


def all_residuals(model: Callable[[GraphBatch], Prediction], batches: Sequence[GraphBatch]) -> Residuals:
    """Residuals of the whole data set, in the order of the batches, on the device."""
    parts = [residuals(model, batch) for batch in batches]
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}


class _DirectionSampler:
    """Evaluates along one direction, and keeps the mean products of the residuals."""

    def __init__(self, at: Callable[[float], Residuals], centre: Residuals) -> None:
        self._at = at
        self._t = [0.0]
        self._residuals = {name: [values] for name, values in centre.items()}
        self._products = {name: _products(values) for name, values in self._residuals.items()}

    def add(self, values: Sequence[float]) -> None:
        """Evaluate at more values of t."""
        for value in values:
            self._t.append(value)
            for name, new in self._at(value).items():
                self._residuals[name].append(new)
        self._products = {name: _products(kept, self._products[name]) for name, kept in self._residuals.items()}

    @property
    def line(self) -> LineNodes:
        """What was evaluated so far."""
        order = np.argsort(self._t)
        products = {name: values[np.ix_(order, order)] for name, values in self._products.items()}
        return LineNodes(np.array(self._t)[order], **products)


def _products(kept: list[Tensor], old: Array | None = None) -> Array:
    """(M, M) mean products of M residual vectors, of which the first are known already."""
    known = 0 if old is None else len(old)
    every = torch.stack(kept)  # (M, n)
    new = (every[known:] @ every.T / every.shape[1]).cpu().numpy()  # the device is waited for once a pair
    products = np.empty((len(kept), len(kept)))
    if old is not None:
        products[:known, :known] = old
    products[known:] = new
    products[:, known:] = new.T
    return products


class _RefinementPlan:
    """In which order pairs ±t are added, and when a line has enough of them; both learnt from the first directions."""

    def __init__(self, t: Array, settings: EntropySettings) -> None:
        self._t = t
        self._settings = settings
        self._half = t[t > 0]
        self._order = [len(self._half) - 1]  # indices of `half`: the ends of the window first
        self._share: dict[int, float] = {}  # number of pairs -> part of the change that was left as an error

    def follow(
        self, sampler: _DirectionSampler, others: Sequence[tuple[Array, Array]], tolerance: float, *, pilot: bool
    ) -> tuple[LineNodes, float]:
        """Add pairs to a line until it has converged; the line, and the error in S that is left on it.

        Args:
            sampler: of the line.
            others: losses of the lines that are finished: S belongs to the mean of all.
            tolerance: of the error that is left.
            pilot: whether to learn from this line.
        """
        history: list[tuple[Array, Array]] = []
        changes: list[float] = []
        for pairs in range(1, len(self._half) + 1):
            value = float(self._half[self._order[pairs - 1]])
            sampler.add([-value, value])
            line = sampler.line
            if not line.finite:
                sampler.add([x for x in self._t if x != 0 and x not in line.t])
                return sampler.line, 0.0
            history.append(line.rmse(self._t))
            coarse = self._coarser(line, pairs)
            change = np.full(len(self._t), np.inf)
            if coarse is not None:
                change = self._effect(history[-1], coarse.rmse(self._t), others)
            changes.append(float(change.sum()))
            estimate = changes[-1] * (1.0 if pilot else min(1.0, SAFETY * self._share.get(pairs, 1.0)))
            if estimate <= tolerance * (PILOT_TOLERANCE if pilot else 1.0):
                break
            if pairs == len(self._order) and pairs < len(self._half):
                self._order.append(self._next(change))
        else:
            return sampler.line, 0.0  # every point of the grid is evaluated; too wild to learn from
        if pilot:
            self._learn(history, changes, others)
        return sampler.line, estimate

    def _effect(
        self, losses: tuple[Array, Array], before: tuple[Array, Array], others: Sequence[tuple[Array, Array]]
    ) -> Array:
        """Bound on how much a change of one line's losses changes S, point by point (G,).

        To first order S changes by −Σ_i p_i δℓ_i / T with the Boltzmann weights p of the mean curve; moduli are summed.
        """
        total = np.zeros(len(self._t))
        for part, (temperature, weight) in enumerate(_terms(self._settings)):
            mean = np.mean([losses[part], *(other[part] for other in others)], axis=0)
            total += weight * _boltzmann(mean, temperature) * np.abs(losses[part] - before[part]) / temperature
        return total

    def _coarser(self, line: LineNodes, pairs: int) -> LineNodes | None:
        """A line without every other pair of its nodes, the outermost kept; None where that leaves nothing."""
        outwards = np.sort(self._order[:pairs])
        kept = self._half[outwards[::-2]]
        return line.at(np.isin(np.abs(line.t), [0.0, *kept])) if pairs > 1 else None

    def _next(self, change: Array) -> int:
        """The next pair: where every other pair matters most to S, an interval between pairs is split."""
        if not np.isfinite(change).all():
            return self._split(-1, len(self._half) - 1)
        ends = [-1, *sorted(self._order)]
        position = np.searchsorted(self._half, np.abs(self._t))  # (G,)
        wide = [(low, high) for low, high in pairwise(ends) if high - low > 1]
        low, high = max(wide, key=lambda ab: change[(position > ab[0]) & (position < ab[1])].sum())
        return self._split(low, high)

    def _split(self, low: int, high: int) -> int:
        """An index between two others; −1 stands for t = 0."""
        share = FIRST_SPLIT if low < 0 else 0.5
        return int(np.clip(round(low + share * (high - low)), low + 1, high - 1))

    def _learn(
        self, history: Sequence[tuple[Array, Array]], changes: Sequence[float], others: Sequence[tuple[Array, Array]]
    ) -> None:
        for k, (losses, change) in enumerate(zip(history[:-1], changes[:-1], strict=True)):
            if k > 0 and change > 0:
                left = self._effect(history[-1], losses, others).sum() / change
                self._share[k + 1] = max(self._share.get(k + 1, 0.0), float(left))


def _terms(settings: EntropySettings) -> tuple[tuple[float, float], tuple[float, float]]:
    """Temperature and weight of the energy part and of the forces part."""
    return (settings.temperature_energy, settings.alpha), (settings.temperature_forces, 1.0 - settings.alpha)


def _boltzmann(loss: Array, temperature: float) -> Array:
    """Weights (G,) of the points in S; zero where there is no finite loss."""
    exponent = -np.where(np.isfinite(loss), loss, np.inf) / temperature
    return softmax(exponent) if np.isfinite(exponent).any() else np.zeros(len(loss))


def _stderr(losses: Sequence[tuple[Array, Array]], settings: EntropySettings) -> float:
    """Standard error of S over directions, to first order in their spread."""
    parts = np.zeros(len(losses))
    for part, (temperature, weight) in enumerate(_terms(settings)):
        values = np.array([one[part] for one in losses])  # (D, G)
        chances = _boltzmann(values.mean(axis=0), temperature)
        parts += weight * np.where(chances > 0, chances * values, 0.0).sum(axis=1) / temperature
    return float(parts.std(ddof=1) / np.sqrt(len(parts)))
