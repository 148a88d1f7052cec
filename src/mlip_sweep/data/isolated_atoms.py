"""Isolated atoms: found among the frames of a file, and their energies.

Training files often hold the isolated atoms beside the structures, marked `config_type=IsolatedAtom`. They are no
structures to train on: their energies are the zero of the atomisation energy, and they have no neighbours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.named_labels import HABIT, GivenNames, LabelNames, energy_of, finite_energy
from mlip_sweep.data.reading import frame_of, read_structures
from mlip_sweep.errors import InputError

TOLERANCE: Final = 1e-3  # eV: energies of one atom that differ by less are the same


@dataclass(frozen=True)
class IsolatedAtom:
    """One isolated atom that a file holds.

    Attributes:
        atomic_number: Its element.
        energy: Its energy, eV.
        origin: Where it came from, for messages: "train.xyz, frame 3".
    """

    atomic_number: int
    energy: float
    origin: str


@dataclass(frozen=True)
class FileContents:
    """What one file holds.

    Attributes:
        frames: The labelled frames.
        isolated: The isolated atoms among them.
        names: What the labels are called in the file.
    """

    frames: list[Frame]
    isolated: list[IsolatedAtom]
    names: LabelNames


def read_apart(path: str | Path, given: GivenNames = HABIT) -> FileContents:
    """The labelled frames of one file, and, apart from them, its isolated atoms, which need no forces.

    Args:
        path: A file that `ase.io.read` can read.
        given: What the labels are called in the file.

    Raises:
        InputError: The file cannot be read or holds nothing but isolated atoms, a label is missing, a frame does not
            pass `check_frame`, or an isolated atom is several.
    """
    structures = read_structures(path)
    names = given.found_in(structures, str(path))
    frames, isolated = [], []
    for index, atoms in enumerate(structures):
        origin = f"{path}, frame {index}"
        if is_isolated(atoms, origin):
            isolated.append(_isolated_atom(atoms, names, origin))
        else:
            frames.append(frame_of(atoms, origin, names))
    if not frames:
        raise InputError(
            f"{path}: it holds isolated atoms only; give a file of structures, and this one as dataset.isolated_atoms"
        )
    return FileContents(frames, isolated, names)


def is_isolated(atoms: Atoms, origin: str) -> bool:
    """Whether a structure is an isolated atom: marked so by its `config_type`, or one atom without a periodic cell.

    Args:
        atoms: The structure, as ASE reads it.
        origin: Where it came from, for messages.

    Raises:
        InputError: The structure is marked as an isolated atom, and has not exactly one atom.
    """
    config_type = str(atoms.info.get("config_type", ""))
    if config_type.replace("_", "").lower() != "isolatedatom":
        return len(atoms) == 1 and not atoms.pbc.any()
    if len(atoms) != 1:
        raise InputError(
            f"{origin}: config_type={config_type} with {len(atoms)} atoms; keep one atom, or change the config_type"
        )
    return True


def isolated_atom_energies(source: str | Path | Mapping[str, float], given: GivenNames = HABIT) -> dict[int, float]:
    """Energies of isolated atoms.

    Args:
        source: A file of frames of one atom each, or a mapping from chemical symbol to energy in eV.
        given: What the energy is called in the file.

    Returns:
        Atomic number to energy, eV.

    Raises:
        InputError: A frame has several atoms, a symbol is unknown, an energy is missing or not finite, or two frames of
            one element disagree.
    """
    if isinstance(source, Mapping):
        energies: dict[int, float] = {}
        for symbol, energy in source.items():
            number = atomic_numbers.get(str(symbol), 0)
            if number == 0:
                raise InputError(f"dataset.isolated_atoms: {symbol!r} is no element; write symbols: {{H: -13.6}}")
            energies[number] = finite_energy(energy, f"dataset.isolated_atoms, {symbol}")
        return energies
    structures = read_structures(source)
    names = given.found_in(structures, str(source))
    isolated = []
    for index, atoms in enumerate(structures):
        origin = f"{source}, frame {index}"
        if len(atoms) != 1:
            raise InputError(f"{origin}: {len(atoms)} atoms, where isolated atoms are asked for; keep one in a frame")
        isolated.append(_isolated_atom(atoms, names, origin))
    return agreed_energies(isolated)


def agreed_energies(isolated: Iterable[IsolatedAtom]) -> dict[int, float]:
    """The energy of each element (eV), by atomic number; of several frames that agree, that of the last.

    Raises:
        InputError: Two atoms of one element differ by more than 1 meV; the message names both.
    """
    first: dict[int, IsolatedAtom] = {}
    energies: dict[int, float] = {}
    for atom in isolated:
        other = first.setdefault(atom.atomic_number, atom)
        if abs(atom.energy - other.energy) > TOLERANCE:
            symbol = chemical_symbols[atom.atomic_number]
            raise InputError(
                f"{atom.origin}: isolated atom {symbol} has {atom.energy:.4f} eV, and {other.energy:.4f} eV in "
                f"{other.origin}; keep one of the two, or give dataset.isolated_atoms={{{symbol}: {other.energy:.4f}}}"
            )
        energies[atom.atomic_number] = atom.energy
    return energies


def taken_out(
    isolated: Mapping[str, Sequence[IsolatedAtom]], given: Mapping[int, float]
) -> tuple[dict[int, float], tuple[str, ...]]:
    """The energies of all isolated atoms, and what a reader has to know about those that were found among the frames.

    Args:
        isolated: The name of each file, and the isolated atoms among its frames.
        given: Atomic number to the energy (eV) that a user gave, which is preferred.

    Returns:
        Atomic number to energy (eV), and notes of one line each.

    Raises:
        InputError: Two frames of an element that `given` lacks disagree.
    """
    found = [atom for atoms in isolated.values() for atom in atoms]
    energies = agreed_energies(atom for atom in found if atom.atomic_number not in given)
    notes = []
    if found:
        counts = " and ".join(f"{len(atoms)} of {file}" for file, atoms in isolated.items() if atoms)
        told = ", ".join(f"{chemical_symbols[number]} {energy:.3f} eV" for number, energy in sorted(energies.items()))
        taken = f"isolated-atom energies {told}" if told else "dataset.isolated_atoms gives their energies"
        notes.append(f"frames of isolated atoms ({counts}) are in no set; {taken}")
    disagreeing = {
        atom.atomic_number: atom
        for atom in reversed(found)  # so that the first of an element is told
        if abs(atom.energy - given.get(atom.atomic_number, atom.energy)) > TOLERANCE
    }
    for number, atom in sorted(disagreeing.items()):
        notes.append(
            f"isolated atom {chemical_symbols[number]}: {given[number]:.3f} eV of dataset.isolated_atoms is used, not "
            f"{atom.energy:.3f} eV of {atom.origin}"
        )
    return {**energies, **given}, tuple(notes)


def _isolated_atom(atoms: Atoms, names: LabelNames, origin: str) -> IsolatedAtom:
    """The one atom of a structure with its energy."""
    if atoms.numbers[0] == 0:
        raise InputError(f"{origin}: 'X' is no element; give the atom its symbol")
    return IsolatedAtom(int(atoms.numbers[0]), energy_of(atoms, names.energy, origin), origin)
