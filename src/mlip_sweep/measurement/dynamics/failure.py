"""What counts as a failed replica, and the monitor that keeps the first failure of each without stopping the device."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry.analysis import Analysis
from numpy.typing import NDArray
from torch import Tensor

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.errors import SettingError

SURVIVED: Final = ""
# In the order in which a step looks for them; those that no limit switches on are always looked for.
REASONS: Final = ("position", "bond", "close", "energy", "forces", "temperature", "drift")
ALWAYS: Final = ("position", "energy", "forces")
NEVER: Final = 2**62


@dataclass(frozen=True)
class Limits:
    """What a replica must keep to, beside numbers that are finite; None: not looked at.

    Attributes:
        bond: longest bond of the starting geometry, Å.
        close: nearest that two atoms may come, as a fraction of the sum of their covalent radii (Cordero et al. 2008,
            https://doi.org/10.1039/b801115j, as in ASE). A pair beyond the model's cutoff is not seen.
        temperature: highest kinetic temperature, K.
        drift: largest change of the total energy since the start, eV/atom.
    """

    bond: float | None = 2.0
    close: float | None = None
    temperature: float | None = None
    drift: float | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason for which a replica can fail under these limits."""
        return tuple(name for name in REASONS if name in ALWAYS or getattr(self, name) is not None)

    def described(self, reason: str) -> str:
        """The limit behind a reason, in words with its unit."""
        units = {"bond": "Å", "close": "of the sum of covalent radii", "temperature": "K", "drift": "eV/atom"}
        return "finite" if reason in ALWAYS else f"{getattr(self, reason):g} {units[reason]}"


UNLIMITED: Final = Limits(bond=None)


@dataclass(frozen=True)
class Bonds:
    """Bonds of a starting geometry.

    Attributes:
        pairs: (2, B).
        shift: (B, 3) Å, from the second atom to its image nearby.
        lengths: (B,) Å.
    """

    pairs: NDArray[np.int64]
    shift: NDArray[np.float64]
    lengths: NDArray[np.float64]

    def __len__(self) -> int:
        return self.pairs.shape[1]


def bonds_of(start: Frame) -> Bonds:
    """Bonds as `ase.geometry.analysis.Analysis` finds them (natural cutoffs), each to its nearest periodic image.

    A bond is followed with the image that it has at the start, so that an atom that leaves does not become bonded again
    to the next copy of its partner.
    """
    atoms = Atoms(numbers=start.atomic_numbers, positions=start.positions, cell=start.cell, pbc=start.pbc)
    (unique,) = Analysis(atoms).unique_bonds
    pairs = np.array([(i, j) for i, partners in enumerate(unique) for j in partners if i != j], dtype=np.int64)
    pairs = pairs.reshape(-1, 2).T
    nearest = np.array([atoms.get_distance(i, j, mic=True, vector=True) for i, j in pairs.T]).reshape(-1, 3)
    shift = nearest - (start.positions[pairs[1]] - start.positions[pairs[0]])
    return Bonds(pairs, shift, np.linalg.norm(nearest, axis=1))


def check_start(start: Frame, limits: Limits) -> None:
    """Refuse limits under which every replica would fail at once, or none ever could.

    Raises:
        SettingError: naming the setting: a bond of the starting geometry is longer than its limit, or bonds alone are
            watched where there are none, so that whatever a model predicts would count as survival.
    """
    place = start.origin or "a frame"
    if limits.bond is not None:
        bonds = bonds_of(start)
        if limits == Limits(limits.bond) and not len(bonds):
            raise SettingError(
                f"criteria: bonds alone would be watched, and the starting geometry ({place}) has none, so that no "
                "replica could fail; choose criteria=[close,temperature], or leave this measurement out"
            )
        if len(bonds) and bonds.lengths.max() >= limits.bond:
            i, j = bonds.pairs[:, bonds.lengths.argmax()]
            names = [Atoms(numbers=[start.atomic_numbers[k]]).symbols[0] + str(k) for k in (i, j)]
            raise SettingError(
                f"max_bond_A={limits.bond}: bond {'-'.join(names)} of the starting geometry ({place}) is already "
                f"{bonds.lengths.max():.2f} Å long; choose a larger max_bond_A, or for a metal "
                "criteria=[close,temperature]"
            )


class FailureMonitor:
    """The first failure of each of R replicas, kept on the device: nothing here waits for it but `failures`.

    Args:
        start: the geometry that all replicas start from.
        replicas: R.
        limits: what they must keep to.
        device: where the replicas are.

    Attributes:
        failed: which replicas have failed so far, (R,) bool.
    """

    def __init__(self, start: Frame, replicas: int, limits: Limits, device: torch.device) -> None:
        check_start(start, limits)
        self.limits = limits
        self._first = torch.full((replicas,), NEVER, dtype=torch.int64, device=device)  # step · len(REASONS) + reason
        self.failed = torch.zeros(replicas, dtype=torch.bool, device=device)
        self._asks = device.type == "cpu"  # whether any has failed; elsewhere the answer would have to be waited for
        self._intact = self._asks
        self._atoms = len(start)
        self._start_energy: Tensor | None = None
        if limits.bond is not None:
            bonds = bonds_of(start)
            self._bonded = torch.as_tensor(bonds.pairs, device=device)
            self._bond_shift = torch.as_tensor(bonds.shift, device=device)
        if limits.close is not None:
            self._radii = torch.as_tensor(limits.close * covalent_radii, dtype=torch.float64, device=device)

    def positions(self, step: int, positions: Tensor) -> None:
        """Look at positions (R, A, 3) Å, before a model sees them: none has to make sense of what has come apart."""
        self._mark(step, "position", ~positions.isfinite().flatten(1).all(dim=1))
        if self.limits.bond is not None:
            first, second = self._bonded
            vectors = positions[:, second] - positions[:, first] + self._bond_shift  # (R, B, 3)
            self._mark(step, "bond", (vectors.square().sum(-1) > self.limits.bond**2).any(dim=1))

    def pairs(self, step: int, batch: GraphBatch, squared_lengths: Tensor) -> None:
        """Look at the edges of a batch of R systems, (E,) Å²."""
        if self.limits.close is not None:
            sender, receiver = batch.edge_index
            radii = self._radii.index_select(0, batch.atomic_numbers)  # (N,) Å
            nearest = radii.index_select(0, sender) + radii.index_select(0, receiver)
            close = (squared_lengths < nearest.square()).to(torch.int64)
            count = torch.zeros_like(self._first).index_add(0, batch.system.index_select(0, sender), close)
            self._mark(step, "close", count > 0)

    def prediction(self, step: int, energy: Tensor, forces: Tensor) -> None:
        """Look at energies (R,) eV and forces (R, A, 3) eV/Å."""
        self._mark(step, "energy", ~energy.isfinite())
        self._mark(step, "forces", ~forces.isfinite().flatten(1).all(dim=1))

    def motion(self, step: int, temperature: Tensor, energy: Tensor) -> None:
        """Look at the temperature (R,) K and the total energy (R,) eV; the first call tells the energy of the start."""
        if self._start_energy is None:
            self._start_energy = energy
        if self.limits.temperature is not None:
            self._mark(step, "temperature", temperature > self.limits.temperature)
        if self.limits.drift is not None:
            self._mark(step, "drift", (energy - self._start_energy).abs() > self.limits.drift * self._atoms)

    def unless_failed(self, values: Tensor, of_failed: Tensor) -> Tensor:
        """Values (R, A, 3), and other ones for the replicas that have failed."""
        return values if self._intact else torch.where(self.failed[:, None, None], of_failed, values)

    @property
    def watches_motion(self) -> bool:
        """Whether any limit is one of temperature or energy."""
        return self.limits.temperature is not None or self.limits.drift is not None

    def failures(self) -> list[tuple[int, str] | None]:
        """For each replica the step and reason of its first failure, or None; waits for the device."""
        return [None if first == NEVER else self._decoded(first) for first in self._first.tolist()]

    def keep(self, kept: Tensor) -> None:
        """Let go of every replica that is False in `kept`, (R,) bool; the others move up."""
        self._first, self.failed = self._first[kept], self.failed[kept]
        self._intact = self._asks and not self.failed.any()
        if self._start_energy is not None:
            self._start_energy = self._start_energy[kept]

    @staticmethod
    def _decoded(first: int) -> tuple[int, str]:
        step, reason = divmod(first, len(REASONS))
        return step, REASONS[reason]

    def _mark(self, step: int, reason: str, failed: Tensor) -> None:
        if self._asks and not failed.any():
            return
        self._intact = False
        coded = step * len(REASONS) + REASONS.index(reason)
        self._first = torch.where(failed, self._first.clamp(max=coded), self._first)
        self.failed = self.failed | failed
