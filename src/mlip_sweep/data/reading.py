"""Frames from files: extended xyz, or any other format that ASE reads."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.sources import existing_file
from mlip_sweep.data.validation import check_frame
from mlip_sweep.errors import InputError


def read_frames(path: str | Path, energy_key: str = "energy", forces_key: str = "forces") -> list[Frame]:
    """Labelled frames of one file.

    Args:
        path: A file that `ase.io.read` can read.
        energy_key: The name of the total energy (eV) in the file.
        forces_key: The name of the forces (eV/Å) in the file.

    Raises:
        InputError: The file cannot be read or is empty, a label is missing, or a frame does not pass `check_frame`.
    """
    structures = read_structures(path)
    return [frame_of(atoms, f"{path}, frame {index}", energy_key, forces_key) for index, atoms in enumerate(structures)]


def read_structures(path: str | Path) -> list[Atoms]:
    """Every structure of a file, as ASE reads it.

    Raises:
        InputError: There is no such file, ASE cannot read it, or it holds no structure.
    """
    file = existing_file(path)
    check_counts(file)
    try:
        structures = ase.io.read(file, index=":")
    except Exception as error:  # ASE's readers raise errors of any kind on a file that they cannot parse
        reason = " ".join(str(error).split()) or "unknown format"
        raise InputError(
            f"{path}: ASE cannot read it ({type(error).__name__}: {reason}); mend or convert the file"
        ) from error
    if not structures:
        raise InputError(f"{path}: no frames; give a file with at least one structure")
    return structures if isinstance(structures, list) else [structures]


def check_counts(path: Path) -> None:
    """Refuse an xyz file that promises more atoms than it holds: a reader would look for them for hours.

    Raises:
        InputError: A line that counts atoms is followed by fewer lines than that.
    """
    if not path.name.lower().endswith((".xyz", ".extxyz")):
        return
    with path.open("rb") as file:
        left = path.stat().st_size
        for index in itertools.count():
            line = file.readline()
            left -= len(line)
            try:
                count = int(line)
            except ValueError:
                return  # the end, or something that its reader refuses
            if count > left:
                raise InputError(
                    f"{path}, frame {index}: {count} atoms are promised, more than the file holds; mend the number"
                )
            for _ in range(count + 1):
                left -= len(file.readline())


def frame_of(atoms: Atoms, origin: str, energy_key: str = "energy", forces_key: str = "forces") -> Frame:
    """ASE's atoms and their labels as one frame.

    Args:
        atoms: The structure, with its labels in its calculator, its arrays or its info.
        origin: Where the structure came from, for messages.
        energy_key: The name of the total energy, eV.
        forces_key: The name of the forces, eV/Å.

    Raises:
        InputError: A label is missing, or the frame does not pass `check_frame`.
    """
    frame = Frame(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.asarray(atoms.cell.array, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=bool),
        energy=energy_of(atoms, energy_key, origin),
        forces=_label(atoms, forces_key, "dataset.forces_key", origin),
        origin=origin,
    )
    check_frame(frame)
    return frame


def atoms_of(frame: Frame) -> Atoms:
    """A frame as ASE's atoms, with its labels in a calculator of fixed results."""
    atoms = Atoms(numbers=frame.atomic_numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
    return atoms


def energy_of(atoms: Atoms, key: str, origin: str) -> float:
    """The energy that stands under a name, eV.

    Args:
        atoms: The structure, with its labels in its calculator, its arrays or its info.
        key: The name of the energy.
        origin: Where the structure came from, for messages.

    Raises:
        InputError: There is no such label, or it is not one finite number.
    """
    value = _label(atoms, key, "dataset.energy_key", origin)
    if value.size != 1:
        raise InputError(f"{origin}: {key} has shape {value.shape}, not one number; write the total energy")
    return finite_energy(value.item(), f"{origin}, {key}")


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


def _label(atoms: Atoms, key: str, option: str, origin: str) -> NDArray[np.float64]:
    """The label that stands under a name.

    ASE >= 3.23 moves labels whose names it knows into the calculator, and leaves others in the arrays or the info.
    """
    results = {} if atoms.calc is None else atoms.calc.results
    places: tuple[Mapping[str, object], ...] = (results, atoms.arrays, atoms.info)
    for place in places:
        if place.get(key) is not None:
            try:
                return np.asarray(place[key], dtype=np.float64)
            except (TypeError, ValueError):
                raise InputError(f"{origin}: {key} is {place[key]!r}; give numbers, or another {option}") from None
    known = sorted({name for place in places for name in place} - {"numbers", "positions"})
    raise InputError(f"{origin}: no {key}; choose {option} among {', '.join(known) or 'labels (the frame has none)'}")
