"""Frames from files: extended xyz, or anything else that ASE reads."""

from collections.abc import Mapping
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.validation import check_frame
from mlip_sweep.errors import InputError


def read_frames(path: str | Path, energy_key: str = "energy", forces_key: str = "forces") -> list[Frame]:
    """Labelled frames of one file.

    Args:
        path: a file that `ase.io.read` can read.
        energy_key: name of the total energy, eV.
        forces_key: name of the forces, eV/Å.

    Raises:
        InputError: the file cannot be read or is empty, a label is missing, or a frame does not pass `check_frame`.
    """
    structures = read_structures(path)
    return [frame_of(atoms, f"{path}, frame {index}", energy_key, forces_key) for index, atoms in enumerate(structures)]


def read_structures(path: str | Path) -> list[Atoms]:
    """Every structure of a file, as ASE reads it.

    Raises:
        InputError: there is no such file, ASE cannot read it, or it holds no structure.
    """
    if not Path(path).expanduser().is_file():
        raise InputError(f"{path}: no such file; give the path of a file that ASE can read, such as extended xyz")
    try:
        structures = ase.io.read(Path(path).expanduser(), index=":")
    except Exception as error:  # ASE's readers raise whatever their parsing meets
        reason = " ".join(str(error).split()) or "unknown format"
        raise InputError(
            f"{path}: ASE cannot read it ({type(error).__name__}: {reason}); mend or convert the file"
        ) from error
    if not structures:
        raise InputError(f"{path}: no frames; give a file with at least one structure")
    return structures if isinstance(structures, list) else [structures]


def frame_of(atoms: Atoms, origin: str, energy_key: str = "energy", forces_key: str = "forces") -> Frame:
    """One labelled frame.

    Raises:
        InputError: a label is missing, or the frame does not pass `check_frame`.
    """
    frame = Frame(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.asarray(atoms.cell.array, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=bool),
        energy=_energy(atoms, energy_key, origin),
        forces=_label(atoms, forces_key, "dataset.forces_key", origin),
        origin=origin,
    )
    check_frame(frame)
    return frame


def atoms_of(frame: Frame) -> Atoms:
    """A frame as ASE atoms, with its labels in a calculator of fixed results."""
    atoms = Atoms(numbers=frame.atomic_numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
    return atoms


def isolated_atom_energies(source: str | Path | Mapping[str, float], energy_key: str = "energy") -> dict[int, float]:
    """Energies of isolated atoms, atomic number -> eV.

    Args:
        source: a file of frames of one atom each, or a mapping from chemical symbol to eV.
        energy_key: name of the energy in the file.

    Raises:
        InputError: a frame of several atoms, an unknown symbol, or an energy that is missing or not finite.
    """
    energies: dict[int, float] = {}
    if isinstance(source, Mapping):
        for symbol, energy in source.items():
            number = atomic_numbers.get(str(symbol), 0)
            if number == 0:
                raise InputError(f"dataset.isolated_atoms: {symbol!r} is no element; write symbols: {{H: -13.6}}")
            energies[number] = _finite_number(energy, f"dataset.isolated_atoms, {symbol}")
        return energies
    for index, atoms in enumerate(read_structures(source)):
        place = f"{source}, frame {index}"
        if len(atoms) != 1:
            raise InputError(f"{place}: {len(atoms)} atoms, where isolated atoms are asked for; keep one in a frame")
        if atoms.numbers[0] == 0:
            raise InputError(f"{place}: 'X' is no element; give the atom its symbol")
        energies[int(atoms.numbers[0])] = _energy(atoms, energy_key, place)
    return energies


def _energy(atoms: Atoms, key: str, origin: str) -> float:
    value = _label(atoms, key, "dataset.energy_key", origin)
    if value.size != 1:
        raise InputError(f"{origin}: {key} has shape {value.shape}, not one number; write the total energy")
    return _finite_number(value.item(), f"{origin}, {key}")


def _finite_number(value: object, place: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(f"{place}: energy is {value!r}; give a finite number in eV")
    return number


def _label(atoms: Atoms, key: str, option: str, origin: str) -> NDArray[np.float64]:
    """A label by its name. ASE >= 3.23 moves names that it knows into the calculator, and leaves others in place."""
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
