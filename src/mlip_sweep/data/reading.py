"""Frames from files: extended xyz, or any other format that ASE reads."""

import itertools
import re
from pathlib import Path
from typing import Final

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.named_labels import HABIT, GivenNames, LabelNames, energy_of, has_label, label_of, stress_of
from mlip_sweep.data.sources import existing_file
from mlip_sweep.data.validation import check_frame
from mlip_sweep.errors import InputError, in_a_line

COLUMNS: Final = re.compile(rb":[A-Z]:(\d{1,18})")  # how many a property has, as in Properties=species:S:1:pos:R:3


def read_frames(path: str | Path, given: GivenNames = HABIT) -> list[Frame]:
    """Labelled frames of one file.

    Args:
        path: A file that `ase.io.read` can read.
        given: What the labels are called in the file.

    Raises:
        InputError: The file cannot be read or is empty, a label is missing, or a frame does not pass `check_frame`.
    """
    structures = read_structures(path)
    names = given.found_in(structures, str(path))
    return [frame_of(atoms, f"{path}, frame {index}", names) for index, atoms in enumerate(structures)]


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
        reason = in_a_line(error) or "unknown format"
        raise InputError(
            f"{path}: ASE cannot read it ({type(error).__name__}: {reason}); mend or convert the file"
        ) from error
    if not structures:
        raise InputError(f"{path}: no frames; give a file with at least one structure")
    return structures if isinstance(structures, list) else [structures]


def check_counts(path: Path) -> None:
    """Refuse an xyz file that promises more atoms or columns than it holds: a reader would look for them for hours.

    Raises:
        InputError: A line that counts atoms is followed by fewer lines than that, or a count of columns is beyond what
            the file can hold.
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
            comment = file.readline()
            columns = [int(digits) for digits in COLUMNS.findall(comment)]
            most = max(columns, default=0)
            if most > left:
                raise InputError(
                    f"{path}, frame {index}: {most} columns are promised, more than the file holds; mend Properties"
                )
            left -= len(comment)
            for _ in range(count):
                left -= len(file.readline())


def frame_of(atoms: Atoms, origin: str, names: LabelNames | None = None) -> Frame:
    """ASE's atoms and their labels as one frame.

    Args:
        atoms: The structure, with its labels in its calculator, its arrays or its info.
        origin: Where the structure came from, for messages.
        names: What the labels are called, of which a stress may be missing; None looks for the names of habit.

    Raises:
        InputError: Another label is missing, or the frame does not pass `check_frame`.
    """
    names = HABIT.found_in([atoms], origin) if names is None else names
    frame = Frame(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.asarray(atoms.cell.array, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=bool),
        energy=energy_of(atoms, names.energy, origin),
        forces=label_of("forces", atoms, names.forces, origin),
        origin=origin,
        stress=stress_of(atoms, names.stress, origin) if names.stress and has_label(atoms, names.stress) else None,
        config_type=str(atoms.info.get("config_type", "")),
        weight=_weight_of(atoms, origin),
    )
    check_frame(frame)
    return frame


def _weight_of(atoms: Atoms, origin: str) -> float:
    value = atoms.info.get("config_weight", 1.0)
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = np.nan
    if not 0.0 <= weight < np.inf:
        raise InputError(f"{origin}: config_weight is {value!r}; give a number from 0, or leave it away for 1")
    return weight


def atoms_of(frame: Frame) -> Atoms:
    """A frame as ASE's atoms, with its labels in a calculator of fixed results."""
    atoms = Atoms(numbers=frame.atomic_numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    if frame.config_type:
        atoms.info["config_type"] = frame.config_type
    if frame.weight != 1.0:
        atoms.info["config_weight"] = frame.weight
    stress = None if frame.stress is None else full_3x3_to_voigt_6_stress(frame.stress)
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces, stress=stress)
    return atoms
