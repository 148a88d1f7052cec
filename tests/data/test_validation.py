from dataclasses import replace

import numpy as np
import pytest
from ase import units
from scipy.spatial.transform import Rotation

from mlip_sweep.data.reading import read_frames
from mlip_sweep.data.validation import check_disjoint, check_enough, check_frame, check_units
from mlip_sweep.errors import InputError

KCAL = units.kcal / units.mol


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


def test_a_training_frame_in_a_test_set_is_found_within_the_tolerance(frames):
    train = frames(50)
    rng = np.random.default_rng(0)
    for origin in train:  # many frames, so that some fall on the border of a cell of the hash
        twin = replace(
            origin, positions=origin.positions + rng.choice([-0.99e-6, 0.99e-6], (9, 3)), origin="test, frame 7"
        )
        with pytest.raises(InputError, match=rf"test, frame 7: .*tests.600K.*{origin.origin}"):
            check_disjoint(train, {"tests.600K": [*frames(5, seed=1), twin]})


def test_frames_that_only_resemble_are_kept(frames):
    train = frames(50)
    moved = [replace(frame, positions=frame.positions + 1e-5) for frame in train]
    swapped = [replace(frame, atomic_numbers=np.flip(frame.atomic_numbers).copy()) for frame in train]
    check_disjoint(train, {"validation": moved, "tests.300K": swapped})


@pytest.mark.parametrize("width", [0.02, 0.1])
def test_units_of_a_known_energy_surface(frames, width):
    sound = frames(60, width=width)
    check_units(sound, "train.xyz")
    hartree = [replace(frame, energy=frame.energy / units.Hartree) for frame in sound]
    with pytest.raises(InputError, match=r"train.xyz: energies of like frames differ .*1 Hartree"):
        check_units(hartree, "train.xyz")


FILES = ["train_300K.xyz", "test_300K.xyz", "test_600K.xyz", "test_1200K.xyz"]


@pytest.mark.parametrize("file", FILES)
def test_units_on_3bpa(published_3bpa, file):
    frames = read_frames(published_3bpa / file)
    check_units(frames, file)
    wrong = {
        "energies in Hartree": (1 / units.Hartree, 1.0),
        "energies in kcal/mol": (1 / KCAL, 1.0),
        "forces in Hartree/Bohr": (1.0, units.Bohr / units.Hartree),
        "forces in kcal/mol/Å": (1.0, 1 / KCAL),
    }
    for energy_factor, forces_factor in wrong.values():
        with pytest.raises(InputError, match=r"another unit"):
            check_units(
                [replace(f, energy=f.energy * energy_factor, forces=f.forces * forces_factor) for f in frames], file
            )


def test_units_that_cannot_be_told_pass(frames):
    check_units(frames(3), "few frames")
    both = [replace(f, energy=f.energy / KCAL, forces=f.forces / KCAL) for f in frames(60)]
    check_units(both, "one factor on both labels, as the docstring says")


def test_molecules_are_compared_after_rotation(frames):
    rng = np.random.default_rng(0)
    sound = []
    for frame in frames(60):
        turn = Rotation.random(rng=rng).as_matrix()
        shift = rng.uniform(-5.0, 5.0, 3)
        sound.append(replace(frame, positions=frame.positions @ turn.T + shift, forces=frame.forces @ turn.T))
    check_units(sound, "turned.xyz")
    hartree = [replace(frame, energy=frame.energy / units.Hartree) for frame in sound]
    with pytest.raises(InputError, match=r"turned.xyz: energies of like frames differ"):
        check_units(hartree, "turned.xyz")  # unless turned back, no two of them would be near enough to be compared


def test_molecules_are_never_compared_with_their_mirror_images(frames):
    (ethanol,) = frames(1)
    rng = np.random.default_rng(0)
    shapes = [replace(ethanol, positions=rng.uniform(0.0, 4.0, (9, 3)), forces=np.zeros((9, 3))) for _ in range(20)]

    def twins(mirror):
        """Each shape again, nearly the same, at an energy 5 eV higher that no force accounts for."""
        return [
            replace(f, positions=(f.positions + 0.05 * rng.standard_normal((9, 3))) * mirror, energy=f.energy + 5.0)
            for f in shapes
        ]

    with pytest.raises(InputError, match="energies of like frames differ"):
        check_units([*shapes, *twins([1, 1, 1])], "twins.xyz")
    check_units([*shapes, *twins([-1, 1, 1])], "mirrored.xyz")  # no two of them are near
