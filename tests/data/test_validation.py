from dataclasses import replace

import numpy as np
import pytest
from samples import copper_frame

from mlip_sweep.data.validation import check_elements, check_enough, check_frame
from mlip_sweep.errors import InputError


def test_a_sound_frame_passes(frames):
    check_frame(frames(1)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forces": np.zeros((9, 2))}, r"forces have shape \(9, 2\), not \(9, 3\)"),
        ({"forces": np.full((9, 3), np.inf)}, "forces of atom 0 are"),
        ({"positions": np.full((9, 3), np.nan)}, "positions of atom 0 are"),
        ({"energy": float("nan")}, "energy is nan"),
        ({"atomic_numbers": np.array([6, 6, 8, 1, 1, 1, 1, 1, 0])}, "atomic number 0 is no element"),
        ({"atomic_numbers": np.array([6, 6, 8, 1, 1, 1, 1, 1, 900])}, "atomic number 900 is no element"),
        ({"atomic_numbers": np.array([], dtype=np.int64)}, "no atoms"),
        ({"pbc": np.ones(3, dtype=bool)}, "periodic along a cell vector of length 0"),
    ],
)
def test_an_unsound_frame_is_named(frames, change, message):
    with pytest.raises(InputError, match=rf"made, frame 0: {message}"):
        check_frame(replace(frames(1)[0], **change))


def test_fewer_frames_than_asked_for(frames):
    with pytest.raises(InputError, match=r"dataset.n_train=30: the file has only 20 frames"):
        check_enough(frames(20), 30, "dataset.n_train", "the file")
    with pytest.raises(InputError, match=r"dataset.n_train=0: ask for at least 1"):
        check_enough(frames(20), 0, "dataset.n_train", "the file")


CUBE = np.eye(3)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (0.3 * CUBE, "its periodic cell vectors span 0.027 Å³ for 4 atoms, too little"),
        (0.01 * CUBE, "span 1e-06 Å³"),
        ([[9, 0, 0], [0, 9, 0], [9, 9, 0]], "span 0 Å³"),
        ([[9, 0, 0], [9, 1e-6, 0], [0, 0, 9]], "span .* Å³ for 4 atoms"),
        ([[9, 0, 0], [9, 0, 0], [9, 0, 0]], "span .* Å³ for 4 atoms"),
        (np.nan * CUBE, "cell is .*nan.*; give three finite vectors"),
        (np.inf * CUBE, "cell is .*; give three finite vectors"),
        (1e200 * CUBE, "cell is .*; give three finite vectors"),
        (np.eye(2), "cell is .*; give three finite vectors"),
    ],
)
def test_a_cell_that_is_none_is_named(cell, message):
    with pytest.raises(InputError, match=rf"copper: .*{message}"):
        check_frame(replace(copper_frame(), cell=np.array(cell, dtype=float)))


@pytest.mark.parametrize("directions", [1, 2])
def test_a_cell_is_measured_along_its_periodic_vectors_only(frames, directions):
    pbc = np.arange(3) < directions
    (molecule,) = frames(1)
    check_frame(replace(molecule, cell=9.0 * CUBE, pbc=pbc))
    check_frame(replace(molecule, cell=np.diag([9.0 if along else 0.0 for along in pbc]), pbc=pbc))
    with pytest.raises(InputError, match="periodic cell vectors span"):
        check_frame(replace(molecule, cell=0.1 * CUBE, pbc=pbc))


@pytest.mark.parametrize("shift", [0.0, 3.61])
def test_two_atoms_at_the_same_place_are_named(shift):
    copper = copper_frame()
    positions = copper.positions.copy()
    positions[3] = positions[1] + [0.01, -shift, 0.0]  # in the next cell, too
    with pytest.raises(InputError, match=r"copper: atoms 1 and 3 stand at the same place \(0.01 Å apart\)"):
        check_frame(replace(copper, positions=positions))


@pytest.mark.parametrize("value", [1e20, -1e20, 1e300])
def test_labels_beyond_all_that_is_known_are_named(value):
    copper = copper_frame()
    with pytest.raises(InputError, match=r"copper: energy is .*e\+"):
        check_frame(replace(copper, energy=value))
    for name in ("forces", "positions"):
        far = getattr(copper, name).copy()
        far[2, 1] = value
        with pytest.raises(InputError, match=rf"copper: {name} of atom 2 are .*e\+"):
            check_frame(replace(copper, **{name: far}))


def test_an_element_that_no_training_frame_has_is_named(frames):
    train = frames(3)
    other = replace(train[0], atomic_numbers=np.where(train[0].atomic_numbers == 8, 16, train[0].atomic_numbers))
    check_elements([*train, other], {"tests.bulk": [other]})
    with pytest.raises(InputError, match=r"made, frame 0: this frame of tests.bulk has S, which no training frame has"):
        check_elements(train, {"validation": train, "tests.bulk": [other]})
