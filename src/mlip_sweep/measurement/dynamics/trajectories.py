"""What became of the replicas, and their trajectories as files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from mlip_sweep.data.frames import Frame
from mlip_sweep.measurement.dynamics.failure import SURVIVED


@dataclass(frozen=True)
class Snapshot:
    """One replica at one step: positions (A, 3) Å, momenta (A, 3) in ASE's units, energy in eV, forces (A, 3) eV/Å."""

    step: int
    positions: NDArray[np.float64]
    momenta: NDArray[np.float64]
    energy: float
    forces: NDArray[np.float64]


@dataclass(frozen=True)
class Trajectories:
    """What became of R replicas of A atoms.

    | field            | shape     | unit                                                              |
    | ---------------- | --------- | ----------------------------------------------------------------- |
    | last_step        | (R,)      | step at which it failed, or the last of the simulation            |
    | reason           | (R,)      | one of `failure.REASONS`, or "" for a replica that survived       |
    | time_fs          | (K,)      | fs, when the traces were sampled                                  |
    | temperature      | (K, R)    | K, NaN from a replica's failure on                                |
    | potential_energy | (K, R)    | eV, likewise                                                      |
    | positions        | (R, A, 3) | Å, at the last step                                               |
    | momenta          | (R, A, 3) | ASE units, at the last step (before its second half if it failed) |
    | snapshots        | (R,)      | of each replica in order of time; empty where none were asked for |
    | forces_spread    | (K, R)    | eV/Å, of a committee, at the atom where it is largest; else None  |
    """

    last_step: NDArray[np.int64]
    reason: list[str]
    time_fs: NDArray[np.float64]
    temperature: NDArray[np.float64]
    potential_energy: NDArray[np.float64]
    positions: NDArray[np.float64]
    momenta: NDArray[np.float64]
    snapshots: list[list[Snapshot]] = field(default_factory=list)
    forces_spread: NDArray[np.float64] | None = None

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which replicas failed, (R,)."""
        return np.array([reason != SURVIVED for reason in self.reason])

    def last_time_ps(self, timestep_fs: float) -> NDArray[np.float64]:
        """Time of the last step, (R,) ps."""
        return self.last_step.astype(np.float64) * (timestep_fs / 1000.0)


def write_extxyz(path: Path, start: Frame, trajectories: Trajectories, replica: int, timestep_fs: float) -> None:
    """Write the snapshots of one replica as extended xyz, which ASE reads back: energy, forces, momenta and time.

    A replica that failed has one frame more, where it did: without energy and forces, its `failure` says why.
    """
    ase.io.write(path, list(_frames(start, trajectories, replica, timestep_fs)), format="extxyz")


def _frames(start: Frame, trajectories: Trajectories, replica: int, timestep_fs: float) -> Iterator[Atoms]:
    for snapshot in trajectories.snapshots[replica]:
        atoms = _atoms(start, snapshot.positions, snapshot.momenta, snapshot.step, timestep_fs)
        atoms.calc = SinglePointCalculator(atoms, energy=snapshot.energy, forces=snapshot.forces)
        yield atoms
    if trajectories.reason[replica] != SURVIVED:
        step = int(trajectories.last_step[replica])
        atoms = _atoms(start, trajectories.positions[replica], trajectories.momenta[replica], step, timestep_fs)
        atoms.info["failure"] = trajectories.reason[replica]
        yield atoms


def _atoms(
    start: Frame, positions: NDArray[np.float64], momenta: NDArray[np.float64], step: int, timestep_fs: float
) -> Atoms:
    info = {"step": step, "time_fs": step * timestep_fs}
    return Atoms(start.atomic_numbers, positions, cell=start.cell, pbc=start.pbc, momenta=momenta, info=info)
