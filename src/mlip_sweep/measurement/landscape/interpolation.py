"""A whole line of the landscape from a few of its points.

What is interpolated is not the loss but the errors behind it, energy by energy and force by force: they vary half as
fast in t as their squares, so that seven points give what thirteen give otherwise, and the loss cannot become negative.
The interpolation is linear in the errors e_j of the nodes, e(t) = Σ_j w_j(t) e_j, so that

    MSE(t) = Σ_jk w_j(t) w_k(t) ⟨e_j · e_k⟩

needs nothing but the mean products ⟨e_j · e_k⟩, which are small enough to be kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

PRODUCTS = ("energy", "forces", "stress")  # of `LineNodes`
DEGREE = 5  # of the splines, where there are nodes enough

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LineNodes:
    """What was evaluated along one direction, at M nodes.

    Attributes:
        t: (M,) the nodes, ascending.
        energy: (M, M) mean products of the energy errors at two nodes, (eV/atom)²; the diagonal is the MSE.
        forces: (M, M) mean products of the forces errors, (eV/Å)².
        stress: (M, M) mean products of the stress errors, (eV/Å³)²; None where there are no labels.
    """

    t: Array
    energy: Array
    forces: Array
    stress: Array | None = None

    @property
    def finite(self) -> bool:
        """Whether the model gave a finite loss at every node."""
        return bool(np.isfinite(self.energy).all() and np.isfinite(self.forces).all())

    def at(self, chosen: NDArray[np.bool_]) -> "LineNodes":
        """The line as if it had been evaluated at some of its nodes only."""
        both = np.ix_(chosen, chosen)
        stress = None if self.stress is None else self.stress[both]
        return LineNodes(self.t[chosen], self.energy[both], self.forces[both], stress)

    def rmse(self, t: Array) -> tuple[Array, Array]:
        """Energy RMSE (eV/atom) and forces RMSE (eV/Å) at (G,) values of t; at a node, what was evaluated there.

        Where a node has no finite loss there is nothing smooth to follow: the RMSE then runs straight from node to
        node, and is NaN beside a lost one.
        """
        return self._rmse(t, self.energy), self._rmse(t, self.forces)

    def stress_rmse(self, t: Array) -> Array | None:
        """Stress RMSE (eV/Å³) at (G,) values of t, likewise; None where there are no labels."""
        return None if self.stress is None else self._rmse(t, self.stress)

    def _rmse(self, t: Array, products: Array) -> Array:
        if not self.finite:
            with np.errstate(invalid="ignore"):
                return np.interp(t, self.t, np.sqrt(np.diag(products)))
        weights = _weights(tuple(self.t), tuple(t))  # (G, M)
        mse = np.einsum("gi,ij,gj->g", weights, products, weights)
        return np.sqrt(np.maximum(mse, 0.0))  # rounding may give −1e-20


@lru_cache(maxsize=64)  # most lines of a landscape have the same nodes
def _weights(nodes: tuple[float, ...], t: tuple[float, ...]) -> Array:
    """(G, M) weights of the nodes at every t; at a node its own alone, however large the losses at the others are."""
    spline = make_interp_spline(nodes, np.eye(len(nodes)), k=min(DEGREE, len(nodes) - 1))
    weights = spline(np.array(t))
    row, node = np.nonzero(np.array(t)[:, None] == np.array(nodes))
    weights[row] = np.eye(len(nodes))[node]
    return weights


def to_arrays(lines: Sequence[LineNodes]) -> dict[str, Array]:
    """Lines as arrays to be stored, filled up with NaN.

    node_t (D, M), node_energy, node_forces and, where there are labels, node_stress (D, M, M).
    """
    if not lines:
        return {}
    width = max(len(line.t) for line in lines)
    names = [name for name in PRODUCTS if getattr(lines[0], name) is not None]
    arrays = {"node_t": np.full((len(lines), width), np.nan)}
    arrays |= {f"node_{name}": np.full((len(lines), width, width), np.nan) for name in names}
    for k, line in enumerate(lines):
        m = len(line.t)
        arrays["node_t"][k, :m] = line.t
        for name in names:
            arrays[f"node_{name}"][k, :m, :m] = getattr(line, name)
    return arrays


def from_arrays(arrays: Mapping[str, Array]) -> list[LineNodes]:
    """The lines of `to_arrays`."""
    lines = []
    names = [name for name in PRODUCTS if f"node_{name}" in arrays]
    for k, t in enumerate(arrays["node_t"]):
        m = int(np.isfinite(t).sum())
        lines.append(LineNodes(t[:m], **{name: arrays[f"node_{name}"][k, :m, :m] for name in names}))
    return lines
