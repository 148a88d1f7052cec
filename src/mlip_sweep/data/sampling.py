"""Frames of a molecule along Langevin dynamics on a reference method."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.md.langevin import Langevin
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.optimize import BFGS
from numpy.typing import NDArray

from mlip_sweep.data.reference import reference_calculator
from mlip_sweep.errors import InputError

BROKEN_BOND = 2.0  # Å
RELAXED = 0.01  # eV/Å
OFF_SYMMETRY = 0.05  # Å


@dataclass(frozen=True)
class Dynamics:
    """Settings of the dynamics that samples one set.

    Attributes:
        timestep_fs: fs.
        friction_per_fs: 1/fs.
        stride: steps from one frame to the next.
        equilibration: steps before the first frame.
    """

    timestep_fs: float = 1.0
    friction_per_fs: float = 0.02
    stride: int = 30
    equilibration: int = 300

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise InputError(f"dataset.{name}={value}: give a number above 0")


@dataclass(frozen=True)
class Trajectory:
    """Labelled frames of one set: positions (G, A, 3) Å, energies (G,) eV, forces (G, A, 3) eV/Å.

    `restarts` counts how often the molecule broke and the dynamics went back to the start.
    """

    positions: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    restarts: int


def relaxed(molecule: Atoms, reference: Mapping[str, Any]) -> Atoms:
    """The molecule at the minimum of the reference method next to its geometry, forces below 0.01 eV/Å.

    Every atom is first moved a little, always alike: a symmetric geometry would relax to a saddle point and stay there.

    Raises:
        InputError: the reference method fails on it, or finds no minimum in 1000 steps.
    """
    atoms = Atoms(numbers=molecule.numbers, positions=molecule.positions)
    atoms.rattle(stdev=OFF_SYMMETRY, seed=0)
    atoms.calc = reference_calculator(reference)
    try:
        converged = BFGS(atoms, logfile=None).run(fmax=RELAXED, steps=1000)
    except RuntimeError as error:  # ASE's calculation failed
        reason = " ".join(str(error).split())
        raise InputError(f"dataset.molecule={molecule.symbols}: {reference['method']} fails ({reason})") from error
    if not converged:
        raise InputError(f"dataset.molecule={molecule.symbols}: no minimum in 1000 steps; give a better geometry")
    return atoms


def trajectory(
    start: Atoms,
    reference: Mapping[str, Any],
    temperature: float,
    count: int,
    dynamics: Dynamics,
    rng: np.random.Generator,
    progress: Callable[[int], object] = lambda steps: None,
) -> Trajectory:
    """`count` frames along Langevin dynamics from `start`.

    Where a bond of the start is longer than 2 Å (1.3 times its length, where that is more), or the reference method
    finds no solution, the molecule is broken: that frame is left out, and the dynamics starts again from `start` with
    new velocities and a new equilibration.

    Raises:
        InputError: the molecule broke more often than there are frames to take.
    """
    atoms = start.copy()
    atoms.calc = reference_calculator(reference)
    bonds, longest = _bonds(start)
    positions: list[NDArray[np.float64]] = []
    energies: list[float] = []
    forces: list[NDArray[np.float64]] = []
    restarts, fresh = 0, True
    while len(positions) < count:
        if fresh:
            atoms.positions[:] = start.positions
            atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * np.sqrt(_thermal(atoms, temperature)))
            driver = Langevin(
                atoms,
                timestep=dynamics.timestep_fs * units.fs,
                temperature_K=temperature,
                friction=dynamics.friction_per_fs / units.fs,
                rng=rng,
                fixcm=False,  # ASE: holding the centre of mass would not sample the canonical ensemble
            )
        try:
            if fresh:
                driver.run(dynamics.equilibration)
            driver.run(dynamics.stride)
            broken = bool(np.any(_lengths(atoms.positions, bonds) > longest))
        except CalculationFailed:  # far from any molecule
            broken = True
        if fresh and restarts == 0:
            progress(dynamics.equilibration)
        fresh = broken
        if broken:
            restarts += 1
            if restarts > count:
                raise InputError(
                    f"dataset.molecule={start.symbols}: it broke {restarts} times at {temperature:g} K in less than "
                    f"{count} frames; choose a lower temperature or a more stable molecule"
                )
            continue
        positions.append(atoms.positions.copy())
        energies.append(float(atoms.get_potential_energy()))
        forces.append(atoms.get_forces())
        progress(dynamics.stride)
    return Trajectory(np.array(positions), np.array(energies), np.array(forces), restarts)


def _thermal(atoms: Atoms, temperature: float) -> NDArray[np.float64]:
    return (atoms.get_masses() * units.kB * temperature)[:, None]  # variance of the momenta, (A, 1)


def _bonds(start: Atoms) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Bonded pairs (B, 2), and the length (B,) in Å beyond which each counts as broken."""
    i, j = neighbor_list("ij", start, natural_cutoffs(start, mult=1.2))
    bonds = np.stack([i, j], axis=1)[i < j]
    return bonds, np.maximum(BROKEN_BOND, 1.3 * _lengths(start.positions, bonds))


def _lengths(positions: NDArray[np.float64], bonds: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=1)
