"""Whether energies and forces belong together: with each other, and with those of the training file.

By the trapezoidal rule, two similar frames A and B differ in energy by ΔE ≈ W = -(F_A + F_B)/2 · (r_B - r_A). Over the
nearest pairs of frames of one composition (rotated onto each other where there is no cell) the ratio of the medians of
|ΔE| and |W| is therefore about 1, and so is the correlation Σ W·ΔE / √(ΣW²·ΣΔE²). On real dynamics up to 1200 K (3BPA,
ethanol) the ratio was 0.4-1.7 and the correlation 0.88-0.99. It was 0.56-0.9 with noise of 0.3 standard deviations on
both labels, at most 0.4 with forces or energies of other frames, forces of other atoms or permuted components (0.6
where there were but 14 pairs), and below -0.88 with a flipped sign.

Where the cells of A and B differ as well, what the work of the forces leaves of ΔE is the work of the stress,
(V_A σ_A : ε_A + V_B σ_B : ε_B)/2 with the strain ε from A to B. The error of the work of the forces hides it where
atoms are far apart: of strained metals under EMT the ratio was 0.8-8, and the correlation, 0.86-1 up to 0.1 Å, was any
number above -0.75 beyond, over 12 frames, and above -0.35 over 20. A large ratio or no correlation is therefore no sign
of a fault.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.geometry import complete_cell
from numpy.typing import NDArray

from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError

# An error of the estimated work makes |W| larger as a rule, so that sound labels lie nearer to the lower bound; hence
# the bounds are not symmetric about 1.
CREDIBLE_RATIO = (1 / 9, 6.0)
CREDIBLE_CORRELATION = 0.5
MOST_FRAMES = 200  # of one composition that are compared, each with each
FEWEST_PAIRS = 12  # the median over fewer pairs scatters too much
FEWEST_CORRELATED = 20  # the correlation of fewer pairs scatters too much; a flipped sign shows all the same
NEAR = 0.5  # Å: root-mean-square displacement beyond which the work along a straight line is no estimate of ΔE
APART = 0.005  # Å: root-mean-square displacement below which the numerical noise of the labels prevails
RESOLVED = 0.005  # eV: labels that differ by less cannot be judged
MOST_TORQUE = 0.8  # of an isolated molecule, relative to that of as large forces in random directions, which is 1
MOST_APART = 10.0  # eV for each atom: no chemistry lies between the same atoms
FEWEST_FRAMES = 5  # whose correlation with training frames is looked at
SCATTER = 3.0  # of the correlation that n frames have by chance, times √n; their pairs are no independent samples
STRAINED = (1e-4, 0.1)  # between these, the strain from cell to cell tells something of the stress

CONVERT = "convert to eV and eV/Å (1 Hartree = 27.2114 eV, 1 kcal/mol = 0.0433641 eV)"
STRESS_UNIT = "give eV/Å³ (1 eV/Å³ = 160.218 GPa = 1602.18 kbar)"
IF_RIGHT = "or set dataset.check_units=false if the labels are right"


def check_files(files: Mapping[str, Sequence[Frame]]) -> None:
    """Check every file for itself, and all others against the first, which is that of the training.

    Args:
        files: The name of each file, for messages, and its frames.

    Raises:
        InputError: See `check_consistency` and `check_against`.
    """
    (training_place, training), *others = files.items()
    check_consistency(training, training_place)
    for place, frames in others:
        check_consistency(frames, place)
        check_against(frames, place, training, training_place)


def check_consistency(frames: Sequence[Frame], place: str) -> None:
    """Refuse energies, forces and stresses that cannot belong together.

    These are refused: energies in Hartree, kcal/mol or kJ/mol beside forces in eV/Å, forces in Hartree/Bohr or
    kcal/mol/Å beside energies in eV, and, for larger molecules, energies per atom; energies or forces of the wrong sign
    or of other frames; forces of other atoms or with permuted components. Of molecules without a cell, the last two
    are found in single frames, too, since the forces of an isolated molecule have no torque. Stresses are refused that
    are in GPa or kbar, are virials, or have the wrong sign, where like frames have different cells.

    Not noticed are labels that are both wrong by the same factor (kcal/mol with kcal/mol/Å; `mlip_sweep.data.ranges`
    tells of them), factors below about 6 (Hartree with Hartree/Bohr, Bohr for Å), and whatever is wrong with energies
    in sets with fewer than 12 pairs of frames within 0.5 Å of each other, as where every frame has a composition or a
    cell of its own. Fewer than 20 pairs show no more than a factor and a flipped sign.
    Wrongly refused are relaxed conformers, whose forces vanish while their energies differ, molecules in an external
    field, and labels whose noise is as large as their spread.

    Args:
        frames: The frames of one file.
        place: The name of the file, for the message.

    Raises:
        InputError: Energies do not follow the work of the forces or of the stress, or forces turn isolated molecules.
    """
    torque = _relative_torque(frames)
    if torque > MOST_TORQUE:
        raise InputError(
            f"{place}: the forces would turn its isolated molecules (torque {torque:.2g} of that of random forces, "
            f"where 0 is right); forces of other atoms or frames, or permuted x, y, z; mend the file, {IF_RIGHT}"
        )
    largest = max(_groups(frames).values(), key=len)
    few = _spread(largest)
    pairs = _nearest(_pairs(few, few))
    if pairs is not None:
        _check_sizes(pairs, place, "one label is in another unit")
        _check_signs(pairs, place)
    stressed = max(_stressed(frames).values(), key=len, default=[])
    if stressed:
        few = _spread(stressed)
        _check_stress(few, few, place)


def check_against(frames: Sequence[Frame], place: str, training: Sequence[Frame], training_place: str) -> None:
    """Refuse labels that do not go with those of the training file, however few frames there are.

    These are refused: energies of another unit, zero or method, where frames are near to training frames or energies of
    the same atoms lie more than 10 eV for each atom apart; labels of the wrong sign or of other frames, where at least
    five frames are near to training frames; stresses in GPa or kbar, and virials.

    Args:
        frames: The frames of a validation or test file.
        place: The name of that file, for the message.
        training: The frames of the training file.
        training_place: The name of the training file, for the message.

    Raises:
        InputError: Energies do not follow the work of forces and stress from the training frames, or lie too far from
            theirs.
    """
    both, other_unit = f"{place}, beside {training_place}", "one is in another unit, or of another zero or method"
    groups, known = _stressed(frames), _stressed(training)
    key = _most_shared(groups, known)
    if key is not None:
        _check_stress(_spread(groups[key]), _spread(known[key]), both)
    groups, known = _groups(frames), _groups(training)
    key = _most_shared(groups, known)
    if key is None:
        return
    energies = [float(np.median([frame.energy for frame in part])) / len(part[0]) for part in (groups[key], known[key])]
    if abs(energies[0] - energies[1]) > MOST_APART:
        raise InputError(
            f"{both}: energies of the same atoms are {energies[0]:.6g} and {energies[1]:.6g} eV for each atom; "
            f"{other_unit}; {CONVERT}, {IF_RIGHT}"
        )
    pairs = _nearest(_pairs(_spread(groups[key]), _spread(known[key])))
    if pairs is not None:
        _check_sizes(pairs, both, other_unit)
        if len(groups[key]) >= FEWEST_FRAMES:
            _check_signs(pairs, both)


@dataclass(frozen=True)
class _Pairs:
    """P pairs of frames.

    Attributes:
        displacement: Root mean square over the atoms, (P,) Å.
        work: Of the mean force from the first to the second frame, with the sign of an energy difference, (P,) eV.
        difference: Of the energies, second minus first, (P,) eV.
    """

    displacement: NDArray[np.float64]
    work: NDArray[np.float64]
    difference: NDArray[np.float64]


_Groups = Mapping[tuple[bytes, bytes], list[Frame]]


def _groups(frames: Sequence[Frame]) -> _Groups:
    """Frames with the same atoms in the same order and, where they are periodic, the same cell."""
    groups: dict[tuple[bytes, bytes], list[Frame]] = {}
    for frame in frames:
        cell = frame.cell.tobytes() + frame.pbc.tobytes() if frame.pbc.any() else b""
        groups.setdefault((frame.atomic_numbers.tobytes(), cell), []).append(frame)
    return groups


def _stressed(frames: Sequence[Frame]) -> _Groups:
    """Frames that have a stress, with the same atoms in the same order and the same periodicity."""
    groups: dict[tuple[bytes, bytes], list[Frame]] = {}
    for frame in frames:
        if frame.stress is not None:
            groups.setdefault((frame.atomic_numbers.tobytes(), frame.pbc.tobytes()), []).append(frame)
    return groups


def _most_shared(groups: _Groups, known: _Groups) -> tuple[bytes, bytes] | None:
    """What most pairs of one frame of `groups` and one of `known` have in common; None where nothing is."""
    shared = [key for key in groups if key in known]
    return max(shared, key=lambda each: len(groups[each]) * len(known[each]), default=None)


def _spread(frames: Sequence[Frame]) -> list[Frame]:
    """At most `MOST_FRAMES` of the frames, evenly chosen."""
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).astype(int))]


def _nearest(pairs: _Pairs, apart: float = APART) -> _Pairs | None:
    """The nearest pairs, those for which the trapezoidal rule holds best; None where there are too few to judge by."""
    near = (pairs.displacement >= apart) & (pairs.displacement < NEAR)
    if near.sum() < FEWEST_PAIRS:
        return None
    closest = np.argsort(np.where(near, pairs.displacement, np.inf))[: max(FEWEST_PAIRS, int(near.sum()) // 4)]
    nearest = _Pairs(pairs.displacement[closest], pairs.work[closest], pairs.difference[closest])
    typical = max(float(np.median(np.abs(each))) for each in (nearest.difference, nearest.work))
    return nearest if typical >= RESOLVED else None


def _check_sizes(pairs: _Pairs, place: str, meaning: str) -> None:
    low, high = CREDIBLE_RATIO
    ratio = _ratio(pairs)
    if not low < ratio < high:
        raise InputError(
            f"{place}: energies of like frames differ by {ratio:.3g} times the work of their forces, where 1 is right; "
            f"{meaning}; {CONVERT}, {IF_RIGHT}"
        )


def _check_signs(pairs: _Pairs, place: str) -> None:
    correlation = _correlation(pairs)
    if correlation < -CREDIBLE_CORRELATION:
        meaning = "forces, or energies, have the wrong sign (forces are minus the gradient)"
    elif correlation < CREDIBLE_CORRELATION and len(pairs.work) >= FEWEST_CORRELATED:
        meaning = "forces or energies are those of other frames or atoms, in other axes, or noise"
    else:
        return
    raise InputError(
        f"{place}: energies of like frames do not follow the work of their forces (correlation {correlation:.2f} over "
        f"{len(pairs.work)} pairs, where 1 is right); {meaning}; mend the file, {IF_RIGHT}"
    )


def _check_stress(frames: Sequence[Frame], others: Sequence[Frame], place: str) -> None:
    """Refuse a stress whose work is far from what the work of the forces leaves of the differences in energy."""
    pairs = _nearest(_strained_pairs(frames, others), apart=0.0)
    if pairs is None:
        return
    low, high = CREDIBLE_RATIO
    ratio, correlation = _ratio(pairs), _correlation(pairs)
    beyond_chance = max(CREDIBLE_CORRELATION, SCATTER / np.sqrt(len(frames)))
    if ratio < low or (ratio > high and correlation > beyond_chance):
        raise InputError(
            f"{place}: energies of like frames in other cells differ by {ratio:.3g} times the work of their stress, "
            f"where 1 is right; the stress is in another unit, or a virial; {STRESS_UNIT}, {IF_RIGHT}"
        )
    if correlation < -beyond_chance:
        raise InputError(
            f"{place}: energies of like frames in other cells do not follow the work of their stress (correlation "
            f"{correlation:.2f} over {len(pairs.work)} pairs, where 1 is right); the stress has the wrong sign "
            f"(positive is tension; a virial is -volume times the stress); mend the file, {IF_RIGHT}"
        )


def _ratio(pairs: _Pairs) -> float:
    """Median difference of energies relative to the median work."""
    return float(np.median(np.abs(pairs.difference))) / max(float(np.median(np.abs(pairs.work))), 1e-12)


def _correlation(pairs: _Pairs) -> float:
    norm = float(np.linalg.norm(pairs.work) * np.linalg.norm(pairs.difference))
    return float(pairs.work @ pairs.difference) / max(norm, 1e-300)


def _relative_torque(frames: Sequence[Frame]) -> float:
    """Median over isolated molecules of |Σ r×F| / √Σ|r×F|²: 0 for sound forces, about 1 for random ones."""
    ratios = []
    for frame in frames:
        if frame.pbc.any() or len(frame) < 3:
            continue
        torques = np.cross(frame.positions - frame.positions.mean(axis=0), frame.forces)  # (A, 3)
        size = np.linalg.norm(torques)
        if size > RESOLVED:
            ratios.append(np.linalg.norm(torques.sum(axis=0)) / size)
    return float(np.median(ratios)) if ratios else 0.0


def _pairs(frames: Sequence[Frame], others: Sequence[Frame]) -> _Pairs:
    """Every pair of one of the frames with one of the others, which have the same atoms and cell.

    Where both are the same list, each pair counts once.
    """
    same = frames is others
    cell = frames[0].cell
    pbc = frames[0].pbc
    periodic = bool(pbc.any())
    positions, other_positions = (np.stack([frame.positions for frame in part]) for part in (frames, others))
    forces, other_forces = (np.stack([frame.forces for frame in part]) for part in (frames, others))  # (G, A, 3)
    energies, other_energies = (np.array([frame.energy for frame in part]) for part in (frames, others))  # (G,)
    if periodic:
        inverse = np.linalg.inv(complete_cell(np.where(pbc[:, None], cell, 0.0)))
    else:
        positions, other_positions = (each - each.mean(axis=1, keepdims=True) for each in (positions, other_positions))
    displacement, work, difference = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for a in range(len(frames)):
        chosen = slice(a + 1, None) if same else slice(None)
        ends, end_forces = other_positions[chosen], other_forces[chosen]  # (B, A, 3) both
        if not len(ends):
            continue
        if periodic:
            wraps = np.where(pbc, np.round((ends - positions[a]) @ inverse), 0.0)
            step = ends - positions[a] - wraps[..., pbc] @ cell[pbc]  # (B, A, 3), to the nearest image
        else:
            rotation = _rotations(ends, positions[a])
            step, end_forces = ends @ rotation - positions[a], end_forces @ rotation
        displacement.append(np.sqrt((step**2).sum(axis=2).mean(axis=1)))
        work.append(-0.5 * ((forces[a] + end_forces) * step).sum(axis=(1, 2)))
        difference.append(other_energies[chosen] - energies[a])
    return _Pairs(np.concatenate(displacement), np.concatenate(work), np.concatenate(difference))


def _strained_pairs(frames: Sequence[Frame], others: Sequence[Frame]) -> _Pairs:
    """Pairs of frames with the same atoms whose cells differ by a small strain.

    From A to B, fractional coordinates s and cell h change in proportion, so that dE = -F·(ds h) + V σ : (h⁻¹ dh).
    The displacement is that of the atoms within the cell, the work that of the stress, and the difference is what the
    work of the forces leaves of that of the energies. Where both are the same list, each pair counts once.
    """
    same = frames is others
    pbc = frames[0].pbc
    cells, inverses, scaled, forces, energies, tensions = _stacked(others)
    displacement, work, difference = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for a, frame in enumerate(frames):
        inverse = np.linalg.inv(frame.cell)
        change = cells - frame.cell  # (G, 3, 3) Å
        size = np.linalg.norm(inverse @ change, axis=(1, 2))
        chosen = (size > STRAINED[0]) & (size < STRAINED[1])
        if same:
            chosen[: a + 1] = False
        step = scaled[chosen] - frame.positions @ inverse  # (B, A, 3) fractional
        step -= np.where(pbc, np.round(step), 0.0)
        step -= step.mean(axis=1, keepdims=True)
        here, there = step @ frame.cell, step @ cells[chosen]  # (B, A, 3) Å
        by_forces = -0.5 * (frame.forces * here + forces[chosen] * there).sum(axis=(1, 2))
        tension = abs(np.linalg.det(frame.cell)) * frame.stress  # (3, 3) eV
        strains = inverse @ change[chosen], inverses[chosen] @ change[chosen]  # (B, 3, 3) both
        displacement.append(np.sqrt((here**2).sum(axis=2).mean(axis=1)))
        work.append(0.5 * (tension * strains[0] + tensions[chosen] * strains[1]).sum(axis=(1, 2)))
        difference.append(energies[chosen] - frame.energy - by_forces)
    return _Pairs(np.concatenate(displacement), np.concatenate(work), np.concatenate(difference))


def _stacked(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], ...]:
    """Of G frames with a stress: cells and their inverses, fractional coordinates, forces, energies, and V σ (eV)."""
    cells = np.stack([frame.cell for frame in frames])
    inverses = np.linalg.inv(cells).astype(np.float64)
    stresses = np.stack([np.asarray(frame.stress) for frame in frames])
    return (
        cells,
        inverses,
        np.stack([frame.positions for frame in frames]) @ inverses,
        np.stack([frame.forces for frame in frames]),
        np.array([frame.energy for frame in frames]),
        np.abs(np.linalg.det(cells))[:, None, None] * stresses,
    )


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
