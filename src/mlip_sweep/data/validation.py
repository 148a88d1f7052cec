"""Checks of labelled frames before heavy work starts. Each failure is one line: file, frame, value, remedy."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols
from ase.geometry import complete_cell
from scipy.spatial import KDTree

from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError

LARGEST_ATOMIC_NUMBER = len(chemical_symbols) - 1
# No method gives more for atoms that any study would hold, not even all electrons of the heaviest elements (1.5 MeV) or
# nuclei at a tenth of a bond length.
LARGEST = {"positions": 1e8, "cell": 1e8, "energy": 1e7, "forces": 1e6, "stress": 1e3}  # Å, Å, eV/atom, eV/Å, eV/Å³
SMALLEST_CELL = 0.7  # Å: side of the cube that an atom has in a periodic cell; solid hydrogen at 500 GPa has 1.1 Å
ASYMMETRY = 0.01  # of a stress, relative to its largest component
LEAST_ASYMMETRY = 1e-4  # eV/Å³: where the components nearly vanish, their numerical noise prevails
SAME_PLACE = 0.05  # Å: atoms that are nearer stand at the same place


def check_frame(frame: Frame) -> None:
    """Refuse a frame that cannot be trained on.

    Raises:
        InputError: The frame has no atoms, an unknown element, an array of the wrong shape, a value that is not finite
            or far beyond any that is known, a periodic cell that is flat or too small for its atoms, a stress without a
            cell or that is not symmetric, or two atoms at the same place.
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
        unsound = ~(np.abs(values) <= LARGEST[name])  # true for what is not a number, too
        if unsound.any():
            atom = int(np.argwhere(unsound)[0, 0])
            raise InputError(f"{place}: {name} of atom {atom} are {values[atom].tolist()}; remove or mend the frame")
    if not abs(frame.energy) <= LARGEST["energy"] * n_atoms:
        raise InputError(f"{place}: energy is {frame.energy:g} eV; remove or recompute the frame")
    if frame.cell.shape != (3, 3) or not (np.abs(frame.cell) <= LARGEST["cell"]).all():
        raise InputError(f"{place}: cell is {frame.cell.tolist()}; give three finite vectors in Å")
    check_cell(frame)
    _check_stress(frame)
    _check_apart(frame)


def check_cell(frame: Frame) -> None:
    """Refuse periodic vectors that span no cell, or one that is too small for its atoms.

    Raises:
        InputError: The message names the cell.
    """
    vectors = frame.cell[frame.pbc]  # (D, 3), the periodic ones
    directions = len(vectors)
    if directions == 0:
        return
    if not vectors.any(axis=1).all():
        raise InputError(f"{frame.origin}: periodic along a cell vector of length 0; write the cell, or pbc=F")
    span = float(np.prod(np.linalg.svd(vectors, compute_uv=False)))  # a length, an area or a volume
    side = (span / len(frame) if directions == 3 else span) ** (1 / directions)
    if side < SMALLEST_CELL:
        raise InputError(
            f"{frame.origin}: its periodic cell vectors span {span:.3g} Å{('', '²', '³')[directions - 1]} for "
            f"{len(frame)} atoms, too little (cell {frame.cell.tolist()}); write the cell in Å, or pbc=F"
        )


def _check_stress(frame: Frame) -> None:
    """Refuse a stress that is none: of no cell, of another shape, far beyond any that is known, or not symmetric."""
    stress, place = frame.stress, frame.origin
    if stress is None:
        return
    without = "or set dataset.stress_key=false to read none"
    if np.linalg.matrix_rank(frame.cell) < 3:
        raise InputError(f"{place}: a stress, but no cell of three vectors; write the cell, {without}")
    if stress.shape != (3, 3) or not (np.abs(stress) <= LARGEST["stress"]).all():
        raise InputError(f"{place}: stress is {stress.tolist()}; give 6 or 9 finite numbers in eV/Å³, {without}")
    if np.abs(stress - stress.T).max() > max(LEAST_ASYMMETRY, ASYMMETRY * np.abs(stress).max()):
        raise InputError(f"{place}: stress {stress.tolist()} is not symmetric; mend or remove it, {without}")


def _check_apart(frame: Frame) -> None:
    """Refuse two atoms at the same place, periodic images included."""
    cell = complete_cell(np.where(frame.pbc[:, None], frame.cell, 0.0))
    inverse = np.linalg.inv(cell)
    fractional = frame.positions @ inverse
    fractional[:, frame.pbc] %= 1.0
    fractional[:, frame.pbc] %= 1.0  # a tiny negative number became 1
    within = SAME_PLACE * np.linalg.norm(inverse, ord=2)  # no fractional distance is larger at `SAME_PLACE`
    tree = KDTree(fractional, boxsize=np.where(frame.pbc, 1.0, 0.0))
    for i, j in tree.query_pairs(within):
        step = fractional[j] - fractional[i]
        step[frame.pbc] -= np.round(step[frame.pbc])
        distance = float(np.linalg.norm(step @ cell))
        if distance < SAME_PLACE:
            raise InputError(
                f"{frame.origin}: atoms {i} and {j} stand at the same place ({distance:.2g} Å apart); "
                "remove one of them, or mend the frame"
            )


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


def check_elements(training: Sequence[Frame], others: Mapping[str, Sequence[Frame]]) -> None:
    """Refuse elements that no training frame has: what a model says of them would be a matter of chance.

    Args:
        training: The frames that may be trained on.
        others: The name of each other set ("validation", "tests.600K") and its frames.

    Raises:
        InputError: The message names the element and the frame.
    """
    known = set(np.unique(np.concatenate([frame.atomic_numbers for frame in training])).tolist())
    for name, frames in others.items():
        for frame in frames:
            unknown = set(frame.atomic_numbers.tolist()) - known
            if unknown:
                raise InputError(
                    f"{frame.origin}: this frame of {name} has {chemical_symbols[min(unknown)]}, which no training "
                    "frame has; remove it, or add such frames to the training set"
                )
