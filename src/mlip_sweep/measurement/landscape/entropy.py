"""Loss entropy: how flat a loss landscape is (DOI 10.1088/2632-2153/acf115, eqs 6–8)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from mlip_sweep.errors import InputError

COUNTS = 0.01  # a point counts if its Boltzmann weight exceeds this part of the largest one
CURVATURE_WINDOW = 0.025  # |t| within which the parabola is fitted


def landscape_entropy(loss: ArrayLike, temperature: float) -> float | NDArray[np.float64]:
    """S = ln Σ_i exp(−ℓ̄(t_i) / T), eq 6: a plain sum over the points of the grid.

    S depends on the number of points and on the window, which are part of its identity; its ceiling is ln G.

    Args:
        loss: (G,) or (…, G), the RMSE in the unit of `temperature`; the last axis is summed. A point where the model
            gives no finite loss (inf or NaN) counts for nothing.
        temperature: T, positive: 0.004 eV/atom for energies, 0.040 eV/Å for forces.

    Returns:
        A float for (G,), else an array of shape (…).

    Raises:
        InputError: the temperature is not positive.
    """
    if not temperature > 0:
        raise InputError(f"temperature={temperature} of a loss entropy: give a positive number")
    values = np.asarray(loss, dtype=np.float64)
    exponent = -np.where(np.isnan(values), np.inf, values) / temperature
    entropy = logsumexp(exponent, axis=-1)  # the naive form underflows
    return float(entropy) if np.ndim(entropy) == 0 else entropy


def combined_entropy(energy_entropy: float, forces_entropy: float, alpha: float = 0.2) -> float:
    """S = α S_E + (1 − α) S_F, eq 8.

    Raises:
        InputError: alpha lies outside 0 to 1.
    """
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"alpha={alpha} of a loss entropy: give a number from 0 to 1")
    return alpha * energy_entropy + (1.0 - alpha) * forces_entropy


@dataclass(frozen=True)
class EntropySettings:
    """The thermal errors T_E (eV/atom) and T_F (eV/Å), and the weight α of the energy part."""

    temperature_energy: float = 0.004
    temperature_forces: float = 0.040
    alpha: float = 0.2


@dataclass(frozen=True)
class Entropy:
    """S_E, S_F and S of a mean landscape, each with its standard error over directions (NaN for one direction)."""

    energy: float
    forces: float
    total: float
    energy_stderr: float
    forces_stderr: float
    total_stderr: float


def entropy_of(
    energy: NDArray[np.float64],
    forces: NDArray[np.float64],
    settings: EntropySettings,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Entropy:
    """Entropy of the mean over directions, with standard errors by bootstrap over directions.

    Args:
        energy: (D, G) energy RMSE along D directions, eV/atom.
        forces: (D, G) forces RMSE, eV/Å.
        settings: temperatures and weight.
        n_bootstrap: resamples of the D directions; 0 for no standard errors.
        seed: of the resampling.
    """

    def parts(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, D) indices -> (B, 3) of S_E, S_F, S."""
        s_energy = landscape_entropy(energy[chosen].mean(axis=1), settings.temperature_energy)
        s_forces = landscape_entropy(forces[chosen].mean(axis=1), settings.temperature_forces)
        total = settings.alpha * s_energy + (1.0 - settings.alpha) * s_forces
        return np.stack([s_energy, s_forces, total], axis=1)

    n = len(energy)
    values = parts(np.arange(n)[None, :])[0]
    errors = np.full(3, np.nan)
    if n > 1 and n_bootstrap > 1:
        errors = parts(np.random.default_rng(seed).integers(0, n, (n_bootstrap, n))).std(axis=0, ddof=1)
    return Entropy(*map(float, values), *map(float, errors))


def curvature(t: NDArray[np.float64], loss: NDArray[np.float64]) -> float:
    """Curvature at t = 0 of a parabola a t² + b t + c fitted to ℓ̄ where |t| < 0.025: 2a / (1 + b²)^{3/2}.

    NaN where fewer than three points lie there.
    """
    near = np.abs(t) < CURVATURE_WINDOW
    if near.sum() < 3 or not np.isfinite(loss[near]).all():
        return float("nan")
    a, b, _ = np.polyfit(t[near], loss[near], 2)
    return float(2.0 * a / (1.0 + b**2) ** 1.5)


def saturation(loss: NDArray[np.float64], temperature: float) -> float:
    """Share of the grid's points that count, 0 to 1: near 1 the window is full, and a flatter model gains nothing."""
    exponent = -np.where(np.isfinite(loss), loss, np.inf) / temperature
    return float(np.mean(exponent > exponent.max() + np.log(COUNTS)))
