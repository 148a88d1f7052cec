"""Labels of structures as ASE reads them, each found by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from mlip_sweep.errors import InputError

HABITS: Final[Mapping[str, tuple[str, ...]]] = {
    "energy": ("energy", "REF_energy"),
    "forces": ("forces", "REF_forces"),
    "stress": ("stress", "virial", "virials", "REF_stress", "REF_virial", "REF_virials"),
}
"""What labels are called where nobody says so, by quantity."""

SAME: Final = {"energy": 1e-3, "forces": 1e-3, "stress": 1e-5}  # eV, eV/Å, eV/Å³: labels that differ by less agree


@dataclass(frozen=True)
class LabelNames:
    """What labels are called in one file.

    Attributes:
        energy: Of the total energy, eV.
        forces: Of the forces, eV/Å.
        stress: Of the stress, eV/Å³, or, where the name contains "virial", of the virial, eV; None where there is none.
    """

    energy: str
    forces: str
    stress: str | None


@dataclass(frozen=True)
class GivenNames:
    """The names that a user gave; None stands for those of habit, which `found_in` looks for.

    Attributes:
        energy: As in `LabelNames`.
        forces: As in `LabelNames`.
        stress: As in `LabelNames`; False for none.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | Literal[False] | None = None

    def found_in(self, structures: Sequence[Atoms], place: str) -> LabelNames:
        """The names that structures use.

        Args:
            structures: All structures of one file.
            place: The name of that file, for messages.

        Raises:
            InputError: A structure has a label under two names, and they differ; or some have their label under one
                name, and others under another.
        """
        stress = _used("stress", structures, place) if self.stress is None else self.stress
        return LabelNames(
            energy=self.energy or _used("energy", structures, place) or HABITS["energy"][0],
            forces=self.forces or _used("forces", structures, place) or HABITS["forces"][0],
            stress=stress or None,
        )


HABIT: Final = GivenNames()


def notes_on_names(names: Mapping[str, LabelNames], given: GivenNames) -> tuple[str, ...]:
    """What to tell of labels that were found under another name than that of their quantity, one line each.

    Args:
        names: The name of each file, and what its labels are called.
        given: The names that the user gave, which need not be told.
    """
    files: dict[str, list[str]] = {}
    for file, found in names.items():
        told = [
            name + (" (stress = -virial/volume)" if "virial" in name else "")
            for quantity in HABITS
            if getattr(given, quantity) is None and (name := getattr(found, quantity)) not in (None, quantity)
        ]
        if told:
            files.setdefault(", ".join(told), []).append(file)
    return tuple(f"labels of {', '.join(paths)}: {told}" for told, paths in files.items())


def _used(quantity: str, structures: Sequence[Atoms], place: str) -> str | None:
    """The name of habit that most of the structures use; None where they use none."""
    users = {name: [i for i, one in enumerate(structures) if has_label(one, name)] for name in HABITS[quantity]}
    chosen = max(users, key=lambda name: len(users[name]))
    for other in (name for name in users if name != chosen):
        for index in users[other]:
            origin = f"{place}, frame {index}"
            remedy = f"choose one: dataset.{quantity}_key={chosen}, or {other}"
            if not has_label(structures[index], chosen):
                raise InputError(
                    f"{origin}: it has {other}, and other frames {chosen}; write the same in all, or {remedy}"
                )
            here, there = (_value(quantity, structures[index], name, origin) for name in (chosen, other))
            if here.shape != there.shape or not (np.abs(here - there) <= SAME[quantity]).all():
                raise InputError(f"{origin}: {chosen} and {other} differ; {remedy}")
    return chosen if users[chosen] else None


def _value(quantity: str, atoms: Atoms, name: str, origin: str) -> NDArray[np.float64]:
    return stress_of(atoms, name, origin) if quantity == "stress" else label_of(quantity, atoms, name, origin)


def energy_of(atoms: Atoms, name: str, origin: str) -> float:
    """The energy that stands under a name, eV.

    Args:
        atoms: The structure, with its labels in its calculator, its arrays or its info.
        name: The name of the energy.
        origin: Where the structure came from, for messages.

    Raises:
        InputError: There is no such label, or it is not one finite number.
    """
    value = label_of("energy", atoms, name, origin)
    if value.size != 1:
        raise InputError(f"{origin}: {name} has shape {value.shape}, not one number; write the total energy")
    return finite_energy(value.item(), f"{origin}, {name}")


def finite_energy(value: object, place: str) -> float:
    """An energy (eV) that a user wrote, as a number; `place` says where, for the message.

    Raises:
        InputError: It is no finite number.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(f"{place}: energy is {value!r}; give a finite number in eV")
    return number


def stress_of(atoms: Atoms, name: str, origin: str) -> NDArray[np.float64]:
    """The stress (3, 3) in eV/Å³ that stands under a name, or follows from the virial that does.

    Six numbers are in ASE's Voigt order, xx, yy, zz, yz, xz, xy. A virial is -volume times the stress.

    Args:
        atoms: The structure, with its labels in its calculator, its arrays or its info.
        name: The name of the stress, or, where it contains "virial", of the virial.
        origin: Where the structure came from, for messages.

    Raises:
        InputError: There is no such label, it is not 6 or 9 numbers, or there is no cell to divide a virial by.
    """
    value = label_of("stress", atoms, name, origin)
    if value.shape == (6,):
        value = voigt_6_to_full_3x3_stress(value)
    if value.size != 9:
        raise InputError(f"{origin}: {name} has shape {value.shape}; write 6 or 9 numbers, or see dataset.stress_key")
    value = value.reshape(3, 3)
    if "virial" not in name.lower():
        return value
    volume = abs(np.linalg.det(atoms.cell.array))
    if not volume > 0.0:
        raise InputError(f"{origin}: {name}, but no cell; write the cell, or set dataset.stress_key=false to read none")
    return -value / volume


def has_label(atoms: Atoms, name: str) -> bool:
    """Whether a structure has a label of this name."""
    return _find(atoms, name) is not None


def label_of(quantity: str, atoms: Atoms, name: str, origin: str) -> NDArray[np.float64]:
    """The label that stands under a name.

    Args:
        quantity: What it is a label of, a key of `HABITS`, for messages.
        atoms: The structure, with its labels in its calculator, its arrays or its info.
        name: The name of the label.
        origin: Where the structure came from, for messages.

    Raises:
        InputError: There is no such label, or it holds something else than numbers.
    """
    option = f"dataset.{quantity}_key"
    value = _find(atoms, name)
    if value is None:
        known = sorted({known for place in _places(atoms) for known in place} - {"numbers", "positions"})
        raise InputError(
            f"{origin}: no {name}; choose {option} among {', '.join(known) or 'labels (the frame has none)'}"
        )
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{origin}: {name} is {value!r}; give numbers, or another {option}") from None


def _find(atoms: Atoms, name: str) -> object | None:
    return next((place[name] for place in _places(atoms) if place.get(name) is not None), None)


def _places(atoms: Atoms) -> tuple[Mapping[str, object], ...]:
    """Where labels stand: ASE >= 3.23 moves those whose names it knows into the calculator, and leaves others."""
    return {} if atoms.calc is None else atoms.calc.results, atoms.arrays, atoms.info
