"""Frames that stand in two sets, however they were changed on the way."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from samples import copper_frame
from scipy.spatial.transform import Rotation

from mlip_sweep.data.duplicates import check_disjoint
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.reading import read_frames
from mlip_sweep.errors import InputError


def copper_frames(count: int, seed: int = 0, width: float = 0.05) -> list[Frame]:
    rng, copper = np.random.default_rng(seed), copper_frame()
    return [
        replace(copper, positions=copper.positions + width * rng.standard_normal((4, 3)), origin=f"copper, frame {k}")
        for k in range(count)
    ]


@pytest.fixture(params=["molecules", "crystals"])
def some(request, frames):
    return frames if request.param == "molecules" else copper_frames


def moved(frame: Frame, rng: np.random.Generator) -> Frame:
    return replace(frame, positions=frame.positions + rng.uniform(-9.0, 9.0, 3))


def turned(frame: Frame, rng: np.random.Generator) -> Frame:
    turn = Rotation.random(rng=rng).as_matrix()
    return replace(frame, positions=frame.positions @ turn.T, cell=frame.cell @ turn.T, forces=frame.forces @ turn.T)


def renumbered(frame: Frame, rng: np.random.Generator) -> Frame:
    order = rng.permutation(len(frame))
    return replace(frame, atomic_numbers=frame.atomic_numbers[order], positions=frame.positions[order])


def rounded(frame: Frame, rng: np.random.Generator) -> Frame:
    return replace(frame, positions=frame.positions.round(3))


def wrapped(frame: Frame, rng: np.random.Generator) -> Frame:
    if not frame.pbc.any():
        return frame
    return replace(frame, positions=(moved(frame, rng).positions @ np.linalg.inv(frame.cell) % 1.0) @ frame.cell)


def all_of_them(frame: Frame, rng: np.random.Generator) -> Frame:
    return rounded(turned(renumbered(wrapped(moved(frame, rng), rng), rng), rng), rng)


@pytest.mark.parametrize("change", [moved, turned, renumbered, rounded, wrapped, all_of_them])
def test_a_training_frame_in_a_test_set_is_found(some, change):
    train, rng = some(25), np.random.default_rng(0)
    for frame in train:
        twin = replace(change(frame, rng), origin="test, frame 7")
        with pytest.raises(InputError, match=rf"^test, frame 7: .*tests.600K is a training frame \({frame.origin}\)"):
            check_disjoint({"train": train, "tests.600K": [*some(5, seed=1), twin]})


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("width", [0.01, 0.05])
def test_frames_that_only_resemble_are_kept(some, width, seed):
    train = some(100, seed, width)
    steps = [
        replace(f, positions=f.positions + 0.01 * np.sin(np.arange(f.positions.size)).reshape(-1, 3)) for f in train
    ]
    check_disjoint({"train": train, "validation": some(100, seed + 50, width), "tests.300K": steps})


def test_other_elements_at_the_same_places_are_another_frame(some):
    train = some(20)
    check_disjoint({"train": train, "tests.300K": [replace(f, atomic_numbers=f.atomic_numbers + 1) for f in train]})


@pytest.mark.parametrize("seed", range(3))
def test_diatomics_that_agree_by_chance_are_kept(seed):
    rng, copper = np.random.default_rng(seed), copper_frame()

    def pairs(count):
        lengths = rng.normal(2.2, 0.05, count)
        return [
            replace(copper, atomic_numbers=np.array([29, 29]), positions=np.array([[0, 0, 0], [r, 0, 0]], dtype=float),
                    pbc=np.zeros(3, dtype=bool), cell=np.zeros((3, 3)), forces=np.zeros((2, 3)))
            for r in lengths
        ]  # fmt: skip

    train = pairs(100)
    check_disjoint({"train": train, "tests.300K": pairs(100)})
    with pytest.raises(InputError, match="is a training frame"):
        check_disjoint({"train": train, "tests.300K": [replace(train[3], origin="copy")]})


def test_large_cells_at_a_temperature_are_kept():
    crystal = bulk("Al", cubic=True) * 8
    rng, copper = np.random.default_rng(0), copper_frame()
    hot = [
        replace(
            copper, atomic_numbers=crystal.numbers, cell=np.asarray(crystal.cell), positions=crystal.positions + step
        )
        for step in 0.05 * rng.standard_normal((6, len(crystal), 3))
    ]
    check_disjoint({"train": hot[:3], "tests.300K": hot[3:]})
    with pytest.raises(InputError, match="is a training frame"):
        check_disjoint({"train": hot[:3], "tests.300K": [all_of_them(hot[1], rng)]})


def test_validation_frames_are_no_test_frames_but_tests_may_share(some):
    train, validation, test = some(10), some(10, seed=1), some(10, seed=2)
    check_disjoint({"train": train, "validation": validation, "tests.300K": test, "tests.600K": test})
    with pytest.raises(InputError, match=r"this frame of tests.600K is a frame of validation"):
        check_disjoint({"train": train, "validation": validation, "tests.600K": [*test, validation[4]]})


def test_3bpa_is_sound(published_3bpa):
    names = {"train": "train_300K", "tests.300K": "test_300K", "tests.600K": "test_600K", "tests.1200K": "test_1200K"}
    check_disjoint({name: read_frames(published_3bpa / f"{file}.xyz") for name, file in names.items()})
