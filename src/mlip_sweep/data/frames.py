"""Labelled structures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One structure of A atoms with its labels.

    | field          | shape  | unit, meaning                                          |
    | -------------- | ------ | ------------------------------------------------------ |
    | atomic_numbers | (A,)   | int64                                                  |
    | positions      | (A, 3) | Å                                                      |
    | cell           | (3, 3) | Å, rows are cell vectors; zeros where there is no cell |
    | pbc            | (3,)   | bool, which cell vectors are periodic                  |
    | energy         | ()     | eV, of the whole structure                             |
    | forces         | (A, 3) | eV/Å                                                   |
    | stress         | (3, 3) | eV/Å³, positive under tension, as ASE's; None where there is no label |
    | config_type    |        | what kind of structure its file calls it, "" where it says nothing |
    | weight         | ()     | of the frame's squared errors in the training loss, from 0 |
    | origin         |        | where the frame came from, for messages: "train.xyz, frame 3" |
    """

    atomic_numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    energy: float
    forces: NDArray[np.float64]
    origin: str = ""
    stress: NDArray[np.float64] | None = None
    config_type: str = ""
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.atomic_numbers)
