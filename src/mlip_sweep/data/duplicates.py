"""Frames that stand in two sets: their errors would be taken for errors on new structures."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist

from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError

# A coordinate that is rounded to three decimals changes a distance by less than this. Frames of a trajectory, even of
# neighbouring time steps, differ by ten times as much.
SAME_DISTANCE = 0.002  # Å
FEWEST_ATOMS = 4  # The few distances of fewer atoms agree by chance: there, a twin is a copy
SAME_POSITION = 1e-6  # Å: coordinates of a copy that differ by less are the same
WAVES = np.array([[a, b, c] for a in (0, 1, 2) for b in (-2, -1, 0, 1, 2) for c in (-2, -1, 0, 1, 2)])[13:]  # (62, 3)


def check_disjoint(sets: Mapping[str, Sequence[Frame]]) -> None:
    """Refuse frames that are in two sets, whether copied, moved, turned, mirrored, renumbered or rounded.

    Of fewer than four atoms only copies are found.
    Training frames may stand in no other set, validation frames in no test set; test sets may share frames.

    Args:
        sets: The name of each set ("train", "validation", "tests.600K") and its frames.

    Raises:
        InputError: Two sets share a frame; the message names both frames.
    """
    described = {name: _described(frames) for name, frames in sets.items()}
    for (first, frames), (second, others) in combinations(described.items(), 2):
        if first.startswith("tests."):
            continue
        for kind in frames.keys() & others.keys():
            twins = _twins(*frames[kind], *others[kind])
            if twins is not None:
                a, b = twins
                known = "a training frame" if first == "train" else f"a frame of {first}"
                raise InputError(
                    f"{b.origin}: this frame of {second} is {known} ({a.origin}), perhaps moved, turned, renumbered "
                    "or rounded; remove one of the two"
                )


def _described(frames: Sequence[Frame]) -> dict[bytes, tuple[list[Frame], NDArray[np.float64]]]:
    """Frames by their atoms and periodicity, each kind with its descriptions (G, D) Å."""
    kinds: dict[bytes, list[Frame]] = {}
    for frame in frames:
        kind = np.sort(frame.atomic_numbers).tobytes() + np.sort(frame.pbc).tobytes()
        kinds.setdefault(kind, []).append(frame)
    return {kind: (same, np.stack([_description(frame) for frame in same])) for kind, same in kinds.items()}


def _description(frame: Frame) -> NDArray[np.float64]:
    """Numbers (D,) in Å that no rotation, translation or renumbering changes, and a small displacement only a little.

    Fewer than four atoms are described by their elements, coordinates and cell, as they are.
    For a molecule these are the distances from the centre, sorted for each element. For a periodic structure they are
    the lengths and angles of its cell and, for each element, the moduli of the first structure factors.
    """
    if len(frame) < FEWEST_ATOMS:
        return np.concatenate([frame.atomic_numbers, frame.positions.ravel(), frame.cell.ravel()])
    if not frame.pbc.any():
        radii = np.linalg.norm(frame.positions - frame.positions.mean(axis=0), axis=1)
        return np.concatenate([np.sort(radii[frame.atomic_numbers == z]) for z in np.unique(frame.atomic_numbers)])
    vectors = frame.cell[frame.pbc]  # (D, 3)
    metric = np.linalg.svd(vectors, compute_uv=False)
    waves = np.unique(WAVES[:, frame.pbc], axis=0)
    waves = waves[waves.any(axis=1)]
    phases = 2.0 * np.pi * (frame.positions @ np.linalg.pinv(vectors)) @ waves.T  # (A, K)
    # Displacements of all A atoms by about δ, at random, change a modulus by about √A·2π|k|δ/L; scaled, by about δ.
    scale = np.linalg.norm(vectors, axis=1).min() / (2.0 * np.pi * np.linalg.norm(waves, axis=1))  # (K,)
    elements = [frame.atomic_numbers == z for z in np.unique(frame.atomic_numbers)]
    moduli = [scale * np.abs(np.exp(1j * phases[chosen]).sum(axis=0)) / np.sqrt(chosen.sum()) for chosen in elements]
    return np.concatenate([metric, np.linalg.norm(vectors, axis=1), *moduli])


def _twins(
    frames: list[Frame], known: NDArray[np.float64], others: list[Frame], described: NDArray[np.float64]
) -> tuple[Frame, Frame] | None:
    """A frame and one of the others that is the same structure, or None."""
    tolerance = SAME_DISTANCE if len(frames[0]) >= FEWEST_ATOMS else SAME_POSITION
    near = KDTree(known).query_ball_point(described, tolerance, p=np.inf)
    for other, candidates in zip(others, near, strict=True):
        for index in candidates:
            if other.pbc.any() or _same_distances(frames[index], other, tolerance):
                return frames[index], other
    return None


def _same_distances(a: Frame, b: Frame, tolerance: float) -> bool:
    """Whether all distances between atoms agree, sorted."""
    return bool(np.abs(np.sort(pdist(a.positions)) - np.sort(pdist(b.positions))).max(initial=0.0) < tolerance)
