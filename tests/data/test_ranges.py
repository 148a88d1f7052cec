"""What is told of labels that are out of the usual range."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units

from mlip_sweep.data.ranges import notes_on_labels

KCAL = units.kcal / units.mol
ATOMS = {1: -10.0, 6: -10.0, 8: -10.0}  # eV: the frames' energy of about -100 eV lies a little below


@pytest.fixture
def usual(frames):
    return [replace(f, energy=f.energy - 20.0, forces=f.forces / np.std(f.forces)) for f in frames(20)]  # 1 eV/Å


def in_unit(frames, energy, forces):
    return [replace(f, energy=f.energy / energy, forces=f.forces / forces) for f in frames]


def test_nothing_is_told_of_usual_labels(usual):
    assert notes_on_labels(usual, {"validation": usual[:2], "tests.empty": []}, ATOMS) == ()


@pytest.mark.parametrize(("energy", "forces"), [(KCAL, KCAL), (units.Hartree, units.Hartree / units.Bohr)])
def test_both_labels_in_another_unit_are_told(usual, energy, forces):
    isolated = {number: value / energy for number, value in ATOMS.items()}
    first, second = notes_on_labels(in_unit(usual, energy, forces), {}, isolated)
    assert "for each atom from those of isolated atoms" in first
    assert "forces of the training set are" in second


def test_forces_of_another_size_than_those_of_the_training_set_are_told(usual):
    (note,) = notes_on_labels(usual, {"tests.hot": in_unit(usual, 1.0, KCAL)}, {})
    assert note.startswith("forces of tests.hot are 23 times those of the training set")


def test_one_label_that_is_far_from_all_others_is_told(usual):
    usual[3] = replace(usual[3], energy=usual[3].energy + 1e4)
    usual[5].forces[4, 1] = 1e4
    force, energy = notes_on_labels(usual, {}, {})
    assert force.startswith("made, frame 5: a force of 1e+04 eV/Å on atom 4 is far")
    assert energy.startswith("made, frame 3: an energy of ")


def test_stresses_in_another_unit_are_told(usual):
    stressed = [replace(frame, stress=0.02 * np.eye(3)) for frame in usual]
    assert notes_on_labels(stressed, {"tests.none": usual}, {}) == ()
    assert notes_on_labels([*stressed, *usual], {}, {}) == ("20 of 40 frames to train on have a stress",)
    (note,) = notes_on_labels([replace(f, stress=f.stress / units.GPa) for f in stressed], {}, {})
    assert note.startswith("stresses of the training set are 1.85 eV/Å³ (root mean square), where")
