"""Isolated atoms among the frames of a user's files: they give energies, and are no frames to train or test on."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_sweep.data.datasets import extxyz
from mlip_sweep.data.isolated_atoms import isolated_atom_energies, read_apart
from mlip_sweep.errors import InputError


def atom(symbol: str, energy: float, config_type: str | None = "IsolatedAtom", *, forces: bool = True, **settings):
    """One atom as codes of the field write it."""
    made = Atoms(symbol, **settings)
    if config_type is not None:
        made.info["config_type"] = config_type
    made.calc = SinglePointCalculator(made, energy=energy, **({"forces": np.zeros((1, 3))} if forces else {}))
    return made


HYDROGEN, CARBON, OXYGEN = atom("H", -13.5), atom("C", -1029.5), atom("O", -2042.0, None, forces=False)
CELL = {"cell": [9.0, 9.0, 9.0], "pbc": True}
HEADER = "Properties=species:S:1:pos:R:3 energy"


def test_they_leave_the_training_set_and_give_their_energies(structures, write):
    train = write("train.xyz", [HYDROGEN, *structures(30), CARBON, OXYGEN])
    data = extxyz(name="own", train=train, seed=0)
    assert (len(data.train), len(data.validation)) == (27, 3)
    assert {len(frame) for frame in (*data.train, *data.validation)} == {9}
    assert data.isolated_atom_energies == {1: -13.5, 6: -1029.5, 8: -2042.0}
    assert data.notes[0] == (
        f"frames of isolated atoms (3 of {train}) are in no set; isolated-atom energies H -13.500 eV, C -1029.500 eV, "
        "O -2042.000 eV"
    )
    origins = {frame.origin for frame in (*data.train, *data.validation)}
    assert origins == {f"{train}, frame {index}" for index in range(1, 31)}  # as they are counted in the file


def test_they_leave_validation_and_tests_as_well(structures, write):
    train, validation, test = (
        write(f"{name}.xyz", [*structures(5, seed=seed), *atoms])
        for seed, (name, atoms) in enumerate([("train", []), ("valid", [HYDROGEN]), ("test", [CARBON, HYDROGEN])])
    )
    data = extxyz(name="own", train=train, validation=validation, tests={"bulk": test}, seed=0)
    assert (len(data.train), len(data.validation), len(data.tests["bulk"])) == (5, 5, 5)
    assert data.isolated_atom_energies == {1: -13.5, 6: -1029.5}
    (note,) = data.notes
    assert f"(1 of {validation} and 2 of {test})" in note


def test_files_without_them_have_nothing_to_tell(structures, write):
    data = extxyz(name="own", train=write("train.xyz", structures(5)), seed=0)
    assert data.notes == ()
    assert data.isolated_atom_energies == {}


@pytest.mark.parametrize("config_type", ["IsolatedAtom", "isolatedatom", "isolated_atom", "Isolated_Atom"])
def test_the_mark_counts_in_a_periodic_cell_too(structures, write, config_type):
    path = write("train.xyz", [*structures(3), atom("H", -13.5, config_type, **CELL)])
    contents = read_apart(path)
    assert len(contents.frames) == 3
    assert [(found.atomic_number, found.energy) for found in contents.isolated] == [(1, -13.5)]


def test_a_periodic_cell_of_one_atom_is_a_structure(write):
    contents = read_apart(write("train.xyz", [atom("Cu", -3.5, "bulk", cell=[2.5] * 3, pbc=True)]))
    assert (len(contents.frames), len(contents.isolated)) == (1, 0)


def test_what_the_user_says_is_preferred_and_a_disagreement_is_told(structures, write):
    train = write("train.xyz", [*structures(5), HYDROGEN, CARBON])
    agreeing = extxyz(name="own", train=train, isolated_atoms={"H": -13.5005, "C": -1029.5, "N": -1480.0}, seed=0)
    assert agreeing.isolated_atom_energies == {1: -13.5005, 6: -1029.5, 7: -1480.0}
    assert len(agreeing.notes) == 1 and "dataset.isolated_atoms gives their energies" in agreeing.notes[0]
    other = extxyz(name="own", train=train, isolated_atoms={"H": -13.6}, seed=0)
    assert other.isolated_atom_energies == {1: -13.6, 6: -1029.5}
    assert other.notes[1:] == (
        f"isolated atom H: -13.600 eV of dataset.isolated_atoms is used, not -13.500 eV of {train}, frame 5",
    )


def test_several_of_one_element_have_to_agree(structures, write):
    train = write("train.xyz", [*structures(5), HYDROGEN, atom("H", -13.5008)])
    test = write("test.xyz", [*structures(5, seed=1), atom("H", -13.6)])
    assert extxyz(name="own", train=train, seed=0).isolated_atom_energies == {1: -13.5008}
    with pytest.raises(InputError, match=r"test.xyz, frame 5: isolated atom H has -13.6000 eV, and .*train.xyz"):
        extxyz(name="own", train=train, tests={"bulk": test}, seed=0)
    decided = extxyz(name="own", train=train, tests={"bulk": test}, isolated_atoms={"H": -13.6}, seed=0)
    assert decided.isolated_atom_energies == {1: -13.6}


def test_files_that_do_not_serve(structures, write):
    (pair,) = structures(1)
    pair.info["config_type"] = "IsolatedAtom"
    with pytest.raises(InputError, match=r"train.xyz, frame 5: config_type=IsolatedAtom with 9 atoms; keep one"):
        read_apart(write("train.xyz", [*structures(5), pair]))
    with pytest.raises(InputError, match=r"atoms.xyz: it holds isolated atoms only; .*dataset.isolated_atoms"):
        read_apart(write("atoms.xyz", [HYDROGEN, CARBON]))
    with pytest.raises(InputError, match=r"bare.xyz, frame 5: no energy; choose dataset.energy_key"):
        read_apart(write("bare.xyz", [*structures(5), Atoms("H")]))


def test_energies_from_a_file_and_from_a_mapping(tmp_path):
    path = tmp_path / "atoms.xyz"
    path.write_text(f"1\n{HEADER}=-13.5\nH 0 0 0\n1\n{HEADER}=-1029.5\nC 0 0 0\n")
    assert isolated_atom_energies(path) == {1: -13.5, 6: -1029.5}
    assert isolated_atom_energies({"H": -13.5, "C": -1029.5}) == {1: -13.5, 6: -1029.5}


def test_energies_that_do_not_serve(tmp_path):
    path = tmp_path / "atoms.xyz"
    path.write_text(f"2\n{HEADER}=-13.5\nH 0 0 0\nH 0 0 1\n")
    with pytest.raises(InputError, match=r"frame 0: 2 atoms, where isolated atoms"):
        isolated_atom_energies(path)
    path.write_text(f"1\n{HEADER}=-13.5\nH 0 0 0\n1\n{HEADER}=-13.6\nH 0 0 0\n")
    with pytest.raises(InputError, match=r"atoms.xyz, frame 1: isolated atom H has -13.6000 eV, and -13.5000 eV in"):
        isolated_atom_energies(path)
    with pytest.raises(InputError, match=r"'Hx' is no element"):
        isolated_atom_energies({"Hx": 1.0})
    with pytest.raises(InputError, match=r"dataset.isolated_atoms, H: energy is 'much'"):
        isolated_atom_energies({"H": "much"})
