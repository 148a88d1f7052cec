"""Frames of a molecule, sampled by Langevin dynamics on a reference method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.md.langevin import Langevin
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.optimize import BFGS
from numpy.typing import NDArray

from mlip_sweep.data.generated import Count, FrictionPerFs, TimestepFs
from mlip_sweep.data.reference import reference_calculator
from mlip_sweep.errors import InputError, in_a_line
from mlip_sweep.settings import settings

# A bond is broken where it is longer than both of these: a length in Å, and a multiple of its length in the start.
BROKEN_BOND = 2.0
STRETCHED_BOND = 1.3
RELAXED_FORCES = 0.01  # eV/Å: no atom of a relaxed molecule feels a larger force
OFF_SYMMETRY = 0.05  # Å: standard deviation of the first displacement of each coordinate


@settings
class Dynamics:
    """Settings of the Langevin dynamics that samples one set.

    Attributes:
        timestep_fs: Time step, fs.
        friction_per_fs: Friction of the thermostat, 1/fs.
        stride: Number of time steps from one frame to the next.
        equilibration: Number of time steps before the first frame.
    """

    timestep_fs: TimestepFs = 1.0
    friction_per_fs: FrictionPerFs = 0.02
    stride: Count = 30
    equilibration: Count = 300


@dataclass(frozen=True)
class Trajectory:
    """Labelled frames of one set: G frames of a molecule of A atoms.

    Attributes:
        positions: Positions, (G, A, 3) Å.
        energies: Energies, (G,) eV.
        forces: Forces, (G, A, 3) eV/Å.
        restarts: How often the molecule broke, so that the dynamics went back to the start.
    """

    positions: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    restarts: int


def relaxed(molecule: Atoms, reference: Mapping[str, Any]) -> Atoms:
    """The molecule relaxed by the reference method to the nearest minimum, where forces are below 0.01 eV/Å.

    Every atom is first displaced a little, in the same way each time: a symmetric geometry could relax to a saddle
    point and stay there.

    Args:
        molecule: Elements and positions; nothing else is used.
        reference: The method, as `mlip_sweep.data.reference.reference_calculator` takes it.

    Returns:
        The relaxed molecule, with the reference method as its calculator.

    Raises:
        InputError: The reference method fails on the molecule, or no minimum is reached in 1000 steps.
    """
    atoms = Atoms(numbers=molecule.numbers, positions=molecule.positions)
    atoms.rattle(stdev=OFF_SYMMETRY, seed=0)
    atoms.calc = reference_calculator(reference)
    try:
        converged = BFGS(atoms, logfile=None).run(fmax=RELAXED_FORCES, steps=1000)
    except RuntimeError as error:  # CalculationFailed of ASE is one
        reason = in_a_line(error)
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
    """Sample frames along Langevin dynamics.

    The molecule is broken where one of its bonds has grown longer than 2 Å (1.3 times its first length, where that is
    more), or where the reference method finds no solution. Such a frame is left out, and the dynamics starts again from
    `start` with new velocities and a new equilibration.

    Args:
        start: The molecule that the dynamics starts from; its bonds are those that may break.
        reference: The method, as `mlip_sweep.data.reference.reference_calculator` takes it.
        temperature: The temperature of the thermostat, K.
        count: The number of frames, G.
        dynamics: The settings of the dynamics.
        rng: The source of velocities and thermostat.
        progress: Called with the number of time steps that were made since the last call.

    Raises:
        InputError: The molecule broke more often than there are frames to sample.
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
            atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * np.sqrt(_momentum_variance(atoms, temperature)))
            driver = Langevin(
                atoms,
                timestep=dynamics.timestep_fs * units.fs,
                temperature_K=temperature,
                friction=dynamics.friction_per_fs / units.fs,
                rng=rng,
                fixcm=False,  # with the centre of mass held, ASE's Langevin does not sample the canonical ensemble
            )
        try:
            if fresh:
                driver.run(dynamics.equilibration)
            driver.run(dynamics.stride)
            broken = bool(np.any(_lengths(atoms.positions, bonds) > longest))
        except CalculationFailed:  # the geometry is far from that of any molecule
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


def _momentum_variance(atoms: Atoms, temperature: float) -> NDArray[np.float64]:
    """Variance m·k_B·T of each component of the momenta in thermal equilibrium, (A, 1) u·eV."""
    return (atoms.get_masses() * units.kB * temperature)[:, None]


def _bonds(start: Atoms) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of bonded atoms, (B, 2), and the length beyond which each bond counts as broken, (B,) Å."""
    i, j = neighbor_list("ij", start, natural_cutoffs(start, mult=1.2))
    bonds = np.stack([i, j], axis=1)[i < j]
    return bonds, np.maximum(BROKEN_BOND, STRETCHED_BOND * _lengths(start.positions, bonds))


def _lengths(positions: NDArray[np.float64], bonds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Lengths of bonds, (B,) Å, from positions (A, 3) Å and pairs of atoms (B, 2)."""
    return np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=1)
