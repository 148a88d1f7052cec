"""Labelled structures: what a frame is, and what a data set is made of."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One structure with its labels.

    | field          | shape  | unit         |
    | -------------- | ------ | ------------ |
    | atomic_numbers | (A,)   | int64        |
    | positions      | (A, 3) | Å            |
    | cell           | (3, 3) | Å, rows are vectors; zeros where there is none |
    | pbc            | (3,)   | bool         |
    | energy         | ()     | eV           |
    | forces         | (A, 3) | eV/Å         |

    `origin` says where the frame came from, for messages: "train.xyz, frame 3".
    """

    atomic_numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    energy: float
    forces: NDArray[np.float64]
    origin: str = ""

    def __len__(self) -> int:
        return len(self.atomic_numbers)


@dataclass(frozen=True)
class Dataset:
    """The frames of one run.

    `train` carries the labels that are trained on, noise and all; `train_clean` the same frames in the same order with
    their original labels. `tests` goes from a label ("300K", "1200K", or any name) to frames whose labels are always
    clean. `training_test` is the label of the test set drawn at the training temperature, left out of "high-T".
    """

    name: str
    train: list[Frame]
    validation: list[Frame]
    tests: dict[str, list[Frame]]
    train_clean: list[Frame]
    training_test: str | None = None
    isolated_atom_energies: dict[int, float] = field(default_factory=dict)  # atomic number -> eV
    checksums: dict[str, str] = field(default_factory=dict)  # file or source -> SHA-256 of what was read
    reference: dict[str, Any] | None = (
        None  # how the labels can be made again: {"method": "GFN2-xTB"}; None if they cannot
    )

    @property
    def atomic_numbers(self) -> tuple[int, ...]:
        """Every element of any split, sorted."""
        frames = [*self.train, *self.validation, *(f for test in self.tests.values() for f in test)]
        return tuple(int(z) for z in np.unique(np.concatenate([f.atomic_numbers for f in frames])))

    @property
    def noisy(self) -> bool:
        """Whether noise was added to the training labels."""
        return self.train is not self.train_clean
