"""What looks wrong about labels, yet may be right: told, not refused."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mlip_sweep.data.frames import Frame

ATOMISATION: Final = (-12.0, -0.3)  # eV for each atom; diamond has -7.4, mercury -0.7; kcal/mol and Hartree lie outside
FORCES: Final = (0.03, 8.0)  # eV/Å, root mean square: 3BPA at 300 K has 1, in kcal/mol/Å 23, in Hartree/Bohr 0.02
LIKE_TRAINING: Final = (0.1, 10.0)  # root-mean-square forces of another set, relative to those of the training set
STRESS: Final = (1e-6, 1.0)  # eV/Å³, root mean square: a solid at ambient pressure has 0.01, in GPa 2
FAR_FORCE: Final = 100.0  # times the typical force component
FAR_ENERGY: Final = 20.0  # eV for each atom, from the median of the same atoms


def notes_on_labels(
    training: Sequence[Frame], others: Mapping[str, Sequence[Frame]], isolated: Mapping[int, float]
) -> tuple[str, ...]:
    """Labels that are out of the usual range, one line each.

    Args:
        training: The frames that may be trained on.
        others: The name of each other set ("validation", "tests.600K") and its frames.
        isolated: Atomic number to the energy of the isolated atom, eV.
    """
    typical = _size(training)
    notes = [*_atomisation(training, isolated), *_size_of_forces(typical), *_stress(training)]
    for name, frames in others.items():
        ratio = _size(frames) / max(typical, 1e-12)
        if frames and not LIKE_TRAINING[0] < ratio < LIKE_TRAINING[1]:
            notes.append(f"forces of {name} are {ratio:.2g} times those of the training set; are both in eV/Å?")
    for frames in (training, *others.values()):
        notes += [*_far_force(frames), *_far_energy(frames)]
    return tuple(notes)


def _size(frames: Sequence[Frame]) -> float:
    """Root mean square of the force components of a frame, eV/Å, the median over the frames."""
    return float(np.median([np.sqrt(np.mean(frame.forces**2)) for frame in frames])) if frames else 0.0


def _atomisation(frames: Sequence[Frame], isolated: Mapping[int, float]) -> list[str]:
    known = [frame for frame in frames if set(frame.atomic_numbers.tolist()) <= set(isolated)]
    if not known:
        return []
    energies = [(f.energy - sum(isolated[z] for z in f.atomic_numbers.tolist())) / len(f) for f in known]
    typical = float(np.median(energies))
    if ATOMISATION[0] < typical < ATOMISATION[1]:
        return []
    return [
        f"energies lie {typical:.3g} eV for each atom from those of isolated atoms, where {ATOMISATION[0]:g} to "
        f"{ATOMISATION[1]:g} is usual; are both in eV, and of the same method?"
    ]


def _size_of_forces(typical: float) -> list[str]:
    if FORCES[0] < typical < FORCES[1]:
        return []
    return [
        f"forces of the training set are {typical:.3g} eV/Å (root mean square), where {FORCES[0]:g} to {FORCES[1]:g} "
        "is usual; are they in eV/Å, and the energies in eV?"
    ]


def _stress(training: Sequence[Frame]) -> list[str]:
    stresses = [frame.stress for frame in training if frame.stress is not None]
    notes = []
    if 0 < len(stresses) < len(training):
        notes.append(f"{len(stresses)} of {len(training)} frames to train on have a stress")
    typical = float(np.median([np.sqrt(np.mean(stress**2)) for stress in stresses])) if stresses else 0.0
    if typical == 0.0 or STRESS[0] < typical < STRESS[1]:
        return notes
    return [
        *notes,
        f"stresses of the training set are {typical:.3g} eV/Å³ (root mean square), where {STRESS[0]:g} to "
        f"{STRESS[1]:g} is usual; are they in eV/Å³ (1 eV/Å³ = 160.218 GPa)?",
    ]


def _far_force(frames: Sequence[Frame]) -> list[str]:
    """The largest force component of a set, where it is far from all others."""
    if not frames:
        return []
    largest = [float(np.abs(frame.forces).max()) for frame in frames]
    typical = float(np.median(np.abs(np.concatenate([frame.forces.ravel() for frame in frames]))))
    worst = int(np.argmax(largest))
    if largest[worst] <= FAR_FORCE * max(typical, FORCES[0]):
        return []
    atom = int(np.argmax(np.abs(frames[worst].forces).max(axis=1)))
    return [
        f"{frames[worst].origin}: a force of {largest[worst]:.3g} eV/Å on atom {atom} is far from the {typical:.2g} "
        "that is typical; is it right?"
    ]


def _far_energy(frames: Sequence[Frame]) -> list[str]:
    """The energy that is farthest from the median of the same atoms, where there are five such frames or more."""
    groups: dict[bytes, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(np.sort(frame.atomic_numbers).tobytes(), []).append(frame)
    notes = []
    for group in groups.values():
        energies = np.array([frame.energy for frame in group])
        apart = np.abs(energies - np.median(energies)) / len(group[0])
        worst = int(np.argmax(apart))
        if len(group) >= 5 and apart[worst] > FAR_ENERGY:
            notes.append(
                f"{group[worst].origin}: an energy of {energies[worst]:.8g} eV is far from {np.median(energies):.8g}, "
                "the median of the same atoms; is it right?"
            )
    return notes
