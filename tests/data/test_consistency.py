"""Energies against the work of the forces: what is refused, and that sound data are not."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from scipy.spatial.transform import Rotation

from mlip_sweep.data import consistency
from mlip_sweep.data.consistency import check_against, check_consistency
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.reading import frame_of, read_frames
from mlip_sweep.errors import InputError

KCAL = units.kcal / units.mol


@cache
def copper_frames(count: int, seed: int, width: float = 0.1) -> list[Frame]:
    """Rattled periodic copper under EMT, its atoms wrapped into the cell, so that some have crossed its faces."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(count):
        atoms = bulk("Cu", cubic=True) * (2, 2, 1)
        atoms.positions += width * rng.standard_normal(atoms.positions.shape)
        atoms.wrap()
        atoms.calc = EMT()
        atoms.get_forces()
        made.append(frame_of(atoms, f"copper, frame {k}"))
    return made


@cache
def strained_copper(count: int, seed: int, width: float = 0.05) -> list[Frame]:
    """Rattled copper in cells of which each is strained otherwise, with EMT's stress."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(count):
        atoms = bulk("Cu", cubic=True) * (2, 2, 1)
        strain = 0.02 * rng.standard_normal((3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.positions += width * rng.standard_normal(atoms.positions.shape)
        atoms.wrap()
        atoms.calc = EMT()
        atoms.get_stress()
        made.append(frame_of(atoms, f"strained copper, frame {k}"))
    return made


def shuffled(values, rng):
    return [values[index] for index in rng.permutation(len(values))]


FAULTS: dict[str, Callable[[list[Frame], np.random.Generator], list[Frame]]] = {
    "forces of flipped sign": lambda frames, rng: [replace(f, forces=-f.forces) for f in frames],
    "energies of flipped sign": lambda frames, rng: [replace(f, energy=-f.energy) for f in frames],
    "forces of other frames": lambda frames, rng: [
        replace(f, forces=forces) for f, forces in zip(frames, shuffled([f.forces for f in frames], rng), strict=True)
    ],
    "energies of other frames": lambda frames, rng: [
        replace(f, energy=energy) for f, energy in zip(frames, shuffled([f.energy for f in frames], rng), strict=True)
    ],
    "forces of other atoms": lambda frames, rng: [replace(f, forces=rng.permutation(f.forces)) for f in frames],
    "components permuted": lambda frames, rng: [replace(f, forces=f.forces[:, [1, 2, 0]]) for f in frames],
}


def noisy(frames: list[Frame], sigma: float, rng: np.random.Generator) -> list[Frame]:
    """Frames with noise of `sigma` standard deviations on both labels."""
    forces, energy = np.std([f.forces for f in frames]), np.std([f.energy for f in frames])
    return [
        replace(
            f,
            forces=f.forces + sigma * forces * rng.standard_normal(f.forces.shape),
            energy=f.energy + sigma * energy * rng.standard_normal(),
        )
        for f in frames
    ]


@pytest.fixture(params=["molecule", "copper"])
def sound(request, frames) -> Callable[..., list[Frame]]:
    return frames if request.param == "molecule" else copper_frames


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [3, 30])
def test_sound_labels_pass_with_noise_and_without(sound, count, seed):
    made = sound(count, seed)
    check_consistency(made, "train.xyz")
    check_consistency(noisy(made, 0.1, np.random.default_rng(seed)), "train.xyz")
    check_against(made[:1], "test.xyz", made[1:], "train.xyz")
    check_against(sound(count, seed + 100, 0.15), "test.xyz", made, "train.xyz")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fault", FAULTS)
def test_labels_that_do_not_belong_together_are_refused(sound, fault, seed):
    wrong = FAULTS[fault](sound(30, seed), np.random.default_rng(seed))
    with pytest.raises(InputError, match=r"^train.xyz: .* where (0|1) is right.*check_units=false") as error:
        check_consistency(wrong, "train.xyz")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", ["forces of other atoms", "components permuted"])
def test_single_molecules_tell_by_their_torque(frames, fault):
    wrong = FAULTS[fault](frames(1), np.random.default_rng(0))
    with pytest.raises(InputError, match=r"one.xyz: the forces would turn its isolated molecules"):
        check_consistency(wrong, "one.xyz")


def test_frames_without_neighbours_are_not_judged(frames):
    rng = np.random.default_rng(0)
    apart = [replace(f, positions=rng.uniform(0.0, 5.0, (9, 3)), forces=np.zeros((9, 3))) for f in frames(40)]
    check_consistency([replace(f, energy=rng.normal(0.0, 5.0)) for f in apart], "conformers.xyz")


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize(
    ("energy_factor", "forces_factor"),
    [(1 / units.Hartree, 1.0), (1 / KCAL, 1 / KCAL), (1 / units.Hartree, units.Bohr / units.Hartree)],
)
def test_a_test_file_in_another_unit_than_the_training_file(sound, count, energy_factor, forces_factor):
    training = [replace(f, energy=f.energy - 500.0) for f in sound(30, 0)]
    test = [replace(f, energy=f.energy - 500.0) for f in sound(count, 1)]
    check_against(test, "test.xyz", training, "train.xyz")
    wrong = [replace(f, energy=f.energy * energy_factor, forces=f.forces * forces_factor) for f in test]
    with pytest.raises(InputError, match=r"^test.xyz, beside train.xyz: energies of .* one is in another unit"):
        check_against(wrong, "test.xyz", training, "train.xyz")


def test_files_of_other_atoms_are_not_compared(frames):
    check_against(copper_frames(3, 0), "test.xyz", frames(20), "train.xyz")


@pytest.mark.parametrize("file", ["test_300K.xyz"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_3bpa(published_3bpa, file, fault):
    wrong = FAULTS[fault](read_frames(published_3bpa / file), np.random.default_rng(0))
    with pytest.raises(InputError, match=rf"{file}: .* where (0|1) is right"):
        check_consistency(wrong, file)


def test_the_tests_of_3bpa_belong_to_its_training_file(published_3bpa):
    training = read_frames(published_3bpa / "train_300K.xyz")
    for file in FILES[1::2]:
        check_against(read_frames(published_3bpa / file), file, training, "train.xyz")


@pytest.mark.parametrize("width", [0.02, 0.1])
def test_units_of_a_known_energy_surface(frames, width):
    sound = frames(60, width=width)
    check_consistency(sound, "train.xyz")
    hartree = [replace(frame, energy=frame.energy / units.Hartree) for frame in sound]
    with pytest.raises(InputError, match=r"train.xyz: energies of like frames differ .*1 Hartree"):
        check_consistency(hartree, "train.xyz")


STRESS_FAULTS = {
    "wrong sign": (lambda f: -f.stress, "the stress has the wrong sign"),
    "GPa": (lambda f: f.stress / units.GPa, r"another unit, or a virial; give eV/Å³ \(1 eV/Å³ = 160.218 GPa"),
    "kbar": (lambda f: f.stress / units.GPa * 10, "another unit, or a virial"),
    "Hartree/Bohr³": (lambda f: f.stress / units.Hartree * units.Bohr**3, "another unit, or a virial"),
    "virial": (lambda f: -np.linalg.det(f.cell) * f.stress, "another unit, or a virial"),
}


@pytest.mark.parametrize("width", [0.0, 0.05])
@pytest.mark.parametrize("fault", STRESS_FAULTS)
def test_a_stress_of_another_sign_or_unit_is_refused(fault, width):
    sound = strained_copper(20, 0, width)
    check_consistency(sound, "train.xyz")
    change, message = STRESS_FAULTS[fault]
    with pytest.raises(InputError, match=rf"^train.xyz: .* their stress.* where 1 is right.*{message}.*check_units=f"):
        check_consistency([replace(f, stress=change(f)) for f in sound], "train.xyz")


@pytest.mark.parametrize("fault", ["GPa", "kbar", "virial"])
def test_a_stress_of_another_unit_than_that_of_the_training_file(fault):
    known, few = strained_copper(40, 1), strained_copper(20, 0)[:2]
    check_against(few, "test.xyz", known, "train.xyz")
    with pytest.raises(InputError, match=r"^test.xyz, beside train.xyz: .* their stress.*another unit, or a virial"):
        check_against([replace(f, stress=STRESS_FAULTS[fault][0](f)) for f in few], "test.xyz", known, "train.xyz")


@pytest.mark.parametrize("width", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(2))
def test_a_sound_stress_passes_where_the_forces_hide_its_work(width, seed):
    sound = strained_copper(20, seed, width)
    check_consistency(sound, "train.xyz")
    check_consistency([*sound[:10], *(replace(f, stress=None) for f in sound[10:])], "some.xyz")
    check_against(strained_copper(10, seed + 5, width), "test.xyz", sound, "train.xyz")


def test_a_sound_stress_of_few_frames_is_not_refused_by_chance(monkeypatch):
    sets = [strained_copper(8, seed, 0.2) for seed in range(12)]
    for sound in sets:
        check_consistency(sound, "few.xyz")
    monkeypatch.setattr(consistency, "SCATTER", 0.0)  # as if the bound of many frames were that of few
    with pytest.raises(InputError, match=r"few.xyz: .*wrong sign"):
        for sound in sets:
            check_consistency(sound, "few.xyz")


FILES = ["train_300K.xyz", "test_300K.xyz", "test_600K.xyz", "test_1200K.xyz"]


@pytest.mark.parametrize("file", FILES)
def test_units_on_3bpa(published_3bpa, file):
    frames = read_frames(published_3bpa / file)
    check_consistency(frames, file)
    wrong = {
        "energies in Hartree": (1 / units.Hartree, 1.0),
        "energies in kcal/mol": (1 / KCAL, 1.0),
        "forces in Hartree/Bohr": (1.0, units.Bohr / units.Hartree),
        "forces in kcal/mol/Å": (1.0, 1 / KCAL),
    }
    for energy_factor, forces_factor in wrong.values():
        with pytest.raises(InputError, match=r"another unit"):
            check_consistency(
                [replace(f, energy=f.energy * energy_factor, forces=f.forces * forces_factor) for f in frames], file
            )


def test_units_that_cannot_be_told_pass(frames):
    check_consistency(frames(3), "few frames")
    both = [replace(f, energy=f.energy / KCAL, forces=f.forces / KCAL) for f in frames(60)]
    check_consistency(both, "one factor on both labels, as the docstring says")


def test_molecules_are_compared_after_rotation(frames):
    rng = np.random.default_rng(0)
    sound = []
    for frame in frames(60):
        turn = Rotation.random(rng=rng).as_matrix()
        shift = rng.uniform(-5.0, 5.0, 3)
        sound.append(replace(frame, positions=frame.positions @ turn.T + shift, forces=frame.forces @ turn.T))
    check_consistency(sound, "turned.xyz")
    hartree = [replace(frame, energy=frame.energy / units.Hartree) for frame in sound]
    with pytest.raises(InputError, match=r"turned.xyz: energies of like frames differ"):
        check_consistency(
            hartree, "turned.xyz"
        )  # unless turned back, no two of them would be near enough to be compared


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
        check_consistency([*shapes, *twins([1, 1, 1])], "twins.xyz")
    check_consistency([*shapes, *twins([-1, 1, 1])], "mirrored.xyz")  # no two of them are near
