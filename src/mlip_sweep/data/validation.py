"""Checks of labelled frames, made before anything heavy. Each failure is one line: file, frame, value, remedy."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError

SAME_POSITION = 1e-6  # Å
LARGEST_ATOMIC_NUMBER = len(chemical_symbols) - 1


def check_frame(frame: Frame) -> None:
    """Refuse a frame that cannot be trained on.

    Raises:
        InputError: no atoms, an unknown element, a wrong shape, a value that is not finite, or a periodic direction
            without a cell vector.
    """
    place, atoms = frame.origin, len(frame)
    if atoms == 0:
        raise InputError(f"{place}: no atoms; remove the frame")
    unknown = [int(z) for z in frame.atomic_numbers if not 1 <= z <= LARGEST_ATOMIC_NUMBER]
    if unknown:
        raise InputError(f"{place}: atomic number {unknown[0]} is no element; give every atom its symbol")
    for name, values in (("positions", frame.positions), ("forces", frame.forces)):
        if values.shape != (atoms, 3):
            raise InputError(f"{place}: {name} have shape {values.shape}, not {(atoms, 3)}; write three for each atom")
        if not np.isfinite(values).all():
            atom = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise InputError(f"{place}: {name} of atom {atom} are {values[atom].tolist()}; remove or mend the frame")
    if not np.isfinite(frame.energy):
        raise InputError(f"{place}: energy is {frame.energy}; remove or recompute the frame")
    if np.any(frame.pbc & (np.linalg.norm(frame.cell, axis=1) == 0)):
        raise InputError(f"{place}: periodic along a cell vector of length 0; write the cell, or pbc=F")


def check_enough(frames: Sequence[Frame], wanted: int, option: str, place: str) -> None:
    """Refuse to draw more frames than there are.

    Raises:
        InputError: naming the option, what it asks for and what there is.
    """
    if wanted < 1:
        raise InputError(f"{option}={wanted}: ask for at least 1 frame")
    if wanted > len(frames):
        raise InputError(f"{option}={wanted}: {place} has only {len(frames)} frames; ask for at most that many")


def check_seed(seed: int) -> None:
    """Refuse a seed that NumPy cannot take.

    Raises:
        InputError: it is negative.
    """
    if seed < 0:
        raise InputError(f"dataset.seed={seed}: give 0 or more")


def temperature_label(kelvin: float) -> str:
    """Name of a set at a temperature, as in 300K."""
    return f"{kelvin:g}K"


def generated_sets(
    temperature: float,
    test_temperatures: Sequence[float],
    *,
    n_pool: int,
    n_validation: int,
    n_test: int,
    n_train: int | None,
) -> dict[str, tuple[float, int]]:
    """What a set that is made on the spot consists of: label -> temperature (K) and number of frames.

    Raises:
        InputError: a number of frames or a temperature cannot be.
    """
    for option, count in (("n_pool", n_pool), ("n_validation", n_validation), ("n_test", n_test)):
        if count < 1:
            raise InputError(f"dataset.{option}={count}: ask for at least 1 frame")
    if n_train is not None and n_train > n_pool:
        raise InputError(f"dataset.n_train={n_train}: only {n_pool} frames are computed; set dataset.n_pool={n_train}")
    sets = {"train": (float(temperature), n_pool), "validation": (float(temperature), n_validation)}
    sets |= {temperature_label(kelvin): (float(kelvin), n_test) for kelvin in test_temperatures}
    if not all(kelvin > 0 for kelvin, _ in sets.values()):
        raise InputError(
            f"dataset.temperature={temperature}, test_temperatures={list(test_temperatures)}: above 0 K only"
        )
    return sets


def check_disjoint(train: Sequence[Frame], others: Mapping[str, Sequence[Frame]]) -> None:
    """Refuse frames that are in the training set as well: they would be measured as if they were new.

    The same means the same atomic numbers, in order, and every position within 1e-6 Å. A frame's key is the cell, on a
    line, that a weighted sum of its positions falls in; two equal frames lie in the same cell or in neighbouring
    ones, so the work grows with the number of frames and not with its square.

    Args:
        train: the frames that may be trained on.
        others: name of a set ("validation", "tests.600K") to its frames.

    Raises:
        InputError: naming both frames.
    """
    seen: dict[tuple[bytes, int], list[Frame]] = {}
    for frame in train:
        seen.setdefault((frame.atomic_numbers.tobytes(), _line_cell(frame)), []).append(frame)
    for name, frames in others.items():
        for frame in frames:
            numbers, cell = frame.atomic_numbers.tobytes(), _line_cell(frame)
            for candidate in (twin for step in (-1, 0, 1) for twin in seen.get((numbers, cell + step), [])):
                if np.allclose(candidate.positions, frame.positions, rtol=0.0, atol=SAME_POSITION):
                    raise InputError(
                        f"{frame.origin}: this frame of {name} has the positions of a training frame "
                        f"({candidate.origin}); remove one of the two"
                    )


def _line_cell(frame: Frame) -> int:
    weights = 1.0 + np.sqrt(2.0) * np.arange(frame.positions.size) % 1.0  # between 1 and 2, so that atoms differ
    # Equal frames differ in the sum by at most 1e-6 Å · Σ weights: less than the width of one cell.
    width = SAME_POSITION * 2.0 * frame.positions.size
    return int(np.floor(np.dot(weights, frame.positions.ravel()) / width))


# Measured: 0.4-1.7 on the frames of 3BPA and of ethanol, 300-1200 K. An error of the estimated work only adds to it, so
# the true ratio lies nearer to the lower bound, and the bounds are not symmetric.
CREDIBLE_RATIO = (1 / 9, 6.0)
SAMPLE = 200  # frames of one composition that are compared
FEWEST_PAIRS = 12  # the median of fewer pairs strays too far
NEAR = 0.5  # Å: beyond this root-mean-square displacement the work along a straight line means nothing
APART = 0.005  # Å: within this the numerical noise of the labels takes over
RESOLVED = 0.005  # eV: labels that vary less than this say nothing


def check_units(frames: Sequence[Frame], place: str) -> None:
    """Refuse energies and forces that cannot belong together, as when one of them is in another unit.

    Two like frames A and B differ in energy by about the work W = -(F_A + F_B)/2 · (r_B - r_A). The ratio of the
    medians of |ΔE| and |W|, over the nearest pairs of frames of the same composition (rotated onto each other where
    there is no cell), is about 1, and 0.4-1.7 on real dynamics up to 1200 K.

    It catches: energies in Hartree or kcal/mol (or kJ/mol) beside forces in eV/Å, forces in Hartree/Bohr or kcal/mol/Å
    beside energies in eV, and, for larger molecules, energies given per atom.
    It cannot catch: both labels wrong by the same factor (kcal/mol with kcal/mol/Å), factors below about 6 (Hartree
    with Hartree/Bohr, Bohr for Å), sets with fewer than 12 pairs of frames within 0.5 Å of each other, and sets
    of changing cells; these pass. Relaxed conformers, whose forces vanish while their energies differ, are refused
    wrongly: `dataset.check_units=false` is for them.

    Raises:
        InputError: naming the ratio.
    """
    groups: dict[tuple[bytes, bytes], list[Frame]] = {}
    for frame in frames:
        cell = frame.cell.tobytes() if frame.pbc.any() else b""
        groups.setdefault((frame.atomic_numbers.tobytes(), cell), []).append(frame)
    largest = max(groups.values(), key=len)
    displacement, work, difference = _pairs(largest)
    near = (displacement > APART) & (displacement < NEAR)
    if near.sum() < FEWEST_PAIRS:
        return
    closest = np.argsort(np.where(near, displacement, np.inf))[: max(FEWEST_PAIRS, int(near.sum()) // 4)]
    typical_difference = float(np.median(np.abs(difference[closest])))
    typical_work = float(np.median(np.abs(work[closest])))
    if max(typical_difference, typical_work) < RESOLVED:
        return
    low, high = CREDIBLE_RATIO
    ratio = typical_difference / max(typical_work, 1e-12)
    if not low < ratio < high:
        raise InputError(
            f"{place}: energies of like frames differ by {ratio:.3g} times the work of their forces, where 1 is right; "
            "one label is in another unit; convert to eV and eV/Å (1 Hartree = 27.2114 eV, 1 kcal/mol = 0.0433641 eV), "
            "or set dataset.check_units=false if the labels are right"
        )


def _pairs(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """RMS displacement (Å), work and energy difference (eV) of every pair among at most SAMPLE frames, (P,) each."""
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, SAMPLE).astype(int))]
    positions = np.stack([frame.positions for frame in chosen])  # (G, A, 3)
    forces = np.stack([frame.forces for frame in chosen])
    energies = np.array([frame.energy for frame in chosen])
    periodic = bool(chosen[0].pbc.any())
    if not periodic:
        positions = positions - positions.mean(axis=1, keepdims=True)
    displacement, work, difference = [], [], []
    for a in range(len(chosen) - 1):
        others, pull = positions[a + 1 :], forces[a + 1 :]
        if not periodic:
            rotation = _rotations(others, positions[a])
            others, pull = others @ rotation, pull @ rotation
        step = others - positions[a]  # (B, A, 3)
        displacement.append(np.sqrt((step**2).sum(axis=2).mean(axis=1)))
        work.append(-0.5 * ((forces[a] + pull) * step).sum(axis=(1, 2)))
        difference.append(energies[a + 1 :] - energies[a])
    if not work:
        return np.empty(0), np.empty(0), np.empty(0)
    return np.concatenate(displacement), np.concatenate(work), np.concatenate(difference)


def _rotations(positions: NDArray[np.float64], onto: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations (B, 3, 3) that bring centred positions (B, A, 3) nearest to `onto` (A, 3): Kabsch, 1976."""
    u, _, vt = np.linalg.svd(positions.transpose(0, 2, 1) @ onto)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]  # a rotation, never a reflection
    return u @ vt
