"""Checks of labelled frames before heavy work starts. Each failure is one line: file, frame, value, remedy."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.labels import temperature_label
from mlip_sweep.errors import InputError

SAME_POSITION = 1e-6  # Å: coordinates that differ by less are the same
LARGEST_ATOMIC_NUMBER = len(chemical_symbols) - 1


def check_frame(frame: Frame) -> None:
    """Refuse a frame that cannot be trained on.

    Raises:
        InputError: The frame has no atoms, an unknown element, an array of the wrong shape, a value that is not finite,
            or a periodic direction without a cell vector.
    """
    place, n_atoms = frame.origin, len(frame)
    if n_atoms == 0:
        raise InputError(f"{place}: no atoms; remove the frame")
    unknown = [int(z) for z in frame.atomic_numbers if not 1 <= z <= LARGEST_ATOMIC_NUMBER]
    if unknown:
        raise InputError(f"{place}: atomic number {unknown[0]} is no element; give every atom its symbol")
    for name, values in (("positions", frame.positions), ("forces", frame.forces)):
        if values.shape != (n_atoms, 3):
            raise InputError(f"{place}: {name} have shape {values.shape}, not {(n_atoms, 3)}; write 3 for each atom")
        if not np.isfinite(values).all():
            atom = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise InputError(f"{place}: {name} of atom {atom} are {values[atom].tolist()}; remove or mend the frame")
    if not np.isfinite(frame.energy):
        raise InputError(f"{place}: energy is {frame.energy}; remove or recompute the frame")
    if np.any(frame.pbc & (np.linalg.norm(frame.cell, axis=1) == 0)):
        raise InputError(f"{place}: periodic along a cell vector of length 0; write the cell, or pbc=F")


def check_enough(frames: Sequence[Frame], n_drawn: int, option: str, place: str) -> None:
    """Refuse to draw more frames than there are.

    Args:
        frames: The frames to draw from.
        n_drawn: How many are to be drawn.
        option: The name of the option that asks for them, for the message.
        place: Where the frames come from, for the message.

    Raises:
        InputError: There are fewer frames, or none is asked for.
    """
    if n_drawn < 1:
        raise InputError(f"{option}={n_drawn}: ask for at least 1 frame")
    if n_drawn > len(frames):
        raise InputError(f"{option}={n_drawn}: {place} has only {len(frames)} frames; ask for at most that many")


def check_seed(seed: int) -> None:
    """Refuse a seed that NumPy cannot take.

    Raises:
        InputError: The seed is negative.
    """
    if seed < 0:
        raise InputError(f"dataset.seed={seed}: give 0 or more")


def generated_sets(
    temperature: float,
    test_temperatures: Sequence[float],
    *,
    n_pool: int,
    n_validation: int,
    n_test: int,
    n_train: int | None,
) -> dict[str, tuple[float, int]]:
    """The sets that a computed data set consists of.

    Args:
        temperature: The temperature of the training and validation frames, K.
        test_temperatures: The temperature of each test set, K.
        n_pool: How many training frames are computed.
        n_validation: How many validation frames are computed.
        n_test: How many frames of each test set are computed.
        n_train: How many training frames are used, checked against `n_pool`; None means all of them.

    Returns:
        The label of each set, with its temperature (K) and its number of frames.

    Raises:
        InputError: A number of frames or a temperature is out of range.
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
    """Refuse frames that are in the training set as well: their errors would be taken for errors on new structures.

    Two frames are the same where their atomic numbers agree, in order, and every coordinate agrees within 1e-6 Å. A
    weighted sum of its positions places each frame on a line that is divided into intervals; equal frames lie in the
    same interval or in neighbouring ones, so that the work grows with the number of frames and not with its square.

    Args:
        train: The frames that may be trained on.
        others: The name of each other set ("validation", "tests.600K") and its frames.

    Raises:
        InputError: A frame is in the training set; the message names both frames.
    """
    seen: dict[tuple[bytes, int], list[Frame]] = {}
    for frame in train:
        seen.setdefault((frame.atomic_numbers.tobytes(), _interval(frame)), []).append(frame)
    for name, frames in others.items():
        for frame in frames:
            numbers, interval = frame.atomic_numbers.tobytes(), _interval(frame)
            for candidate in (twin for step in (-1, 0, 1) for twin in seen.get((numbers, interval + step), [])):
                if np.allclose(candidate.positions, frame.positions, rtol=0.0, atol=SAME_POSITION):
                    raise InputError(
                        f"{frame.origin}: this frame of {name} has the positions of a training frame "
                        f"({candidate.origin}); remove one of the two"
                    )


def _interval(frame: Frame) -> int:
    """The interval of the line of `check_disjoint` that a frame lies in."""
    weights = 1.0 + np.sqrt(2.0) * np.arange(frame.positions.size) % 1.0  # between 1 and 2, so that atoms differ
    # The sums of equal frames differ by at most 1e-6 Å · Σ weights: less than the width of an interval.
    width = SAME_POSITION * 2.0 * frame.positions.size
    return int(np.floor(np.dot(weights, frame.positions.ravel()) / width))


# Measured on frames of 3BPA and of ethanol at 300-1200 K: 0.4-1.7. An error of the estimated work makes |W| larger as a
# rule, so that sound labels lie nearer to the lower bound; hence the bounds are not symmetric about 1.
CREDIBLE_RATIO = (1 / 9, 6.0)
MOST_FRAMES = 200  # of one composition that are compared, each with each
FEWEST_PAIRS = 12  # the median over fewer pairs scatters too much
NEAR = 0.5  # Å: root-mean-square displacement beyond which the work along a straight line is no estimate of ΔE
APART = 0.005  # Å: root-mean-square displacement below which the numerical noise of the labels prevails
RESOLVED = 0.005  # eV: labels that differ by less cannot be judged


def check_units(frames: Sequence[Frame], place: str) -> None:
    """Refuse energies and forces that cannot belong together, as when one of them is in another unit.

    By the trapezoidal rule, two similar frames A and B differ in energy by ΔE ≈ W = -(F_A + F_B)/2 · (r_B - r_A). The
    ratio of the medians of |ΔE| and |W|, over the nearest pairs of frames of the same composition (rotated onto each
    other where there is no cell), is therefore about 1; on real dynamics up to 1200 K it is 0.4-1.7.

    The check refuses energies in Hartree, kcal/mol or kJ/mol beside forces in eV/Å, forces in Hartree/Bohr or
    kcal/mol/Å beside energies in eV, and, for larger molecules, energies per atom.
    It does not notice labels that are both wrong by the same factor (kcal/mol with kcal/mol/Å), factors below about 6
    (Hartree with Hartree/Bohr, Bohr for Å), sets with fewer than 12 pairs of frames within 0.5 Å of each other, and
    sets of changing cells.
    It wrongly refuses relaxed conformers, whose forces vanish while their energies differ;
    `dataset.check_units=false` is for them.

    Args:
        frames: The frames of one file.
        place: The name of the file, for the message.

    Raises:
        InputError: The ratio is not credible; the message names it.
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
    """Every pair among at most `MOST_FRAMES` frames of one composition, P pairs.

    Returns:
        Root-mean-square displacement (P,) Å, work of the mean force W (P,) eV, and energy difference ΔE (P,) eV.
    """
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).astype(int))]
    positions = np.stack([frame.positions for frame in chosen])  # (G, A, 3)
    forces = np.stack([frame.forces for frame in chosen])  # (G, A, 3)
    energies = np.array([frame.energy for frame in chosen])  # (G,)
    periodic = bool(chosen[0].pbc.any())
    if not periodic:
        positions = positions - positions.mean(axis=1, keepdims=True)
    displacement, work, difference = [], [], []
    for a in range(len(chosen) - 1):
        others, other_forces = positions[a + 1 :], forces[a + 1 :]  # (B, A, 3) both
        if not periodic:
            rotation = _rotations(others, positions[a])
            others, other_forces = others @ rotation, other_forces @ rotation
        step = others - positions[a]  # (B, A, 3)
        displacement.append(np.sqrt((step**2).sum(axis=2).mean(axis=1)))
        work.append(-0.5 * ((forces[a] + other_forces) * step).sum(axis=(1, 2)))
        difference.append(energies[a + 1 :] - energies[a])
    if not work:
        return np.empty(0), np.empty(0), np.empty(0)
    return np.concatenate(displacement), np.concatenate(work), np.concatenate(difference)


def _rotations(positions: NDArray[np.float64], onto: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotations that bring structures nearest to one of them (Kabsch, doi:10.1107/S0567739476001873).

    Args:
        positions: Positions with the origin at their centre, (B, A, 3) Å.
        onto: Positions of the one structure, with the origin at their centre, (A, 3) Å.

    Returns:
        Rotation matrices R (B, 3, 3), to be used as `positions @ R`.
    """
    u, _, vt = np.linalg.svd(positions.transpose(0, 2, 1) @ onto)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]  # a rotation, never a reflection
    return u @ vt
