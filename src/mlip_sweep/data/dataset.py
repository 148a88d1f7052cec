"""What a data set is made of: frames by split, and their graphs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.labels import temperature_of
from mlip_sweep.errors import SettingError

if TYPE_CHECKING:
    from mlip_sweep.data.graphs import GraphBatch


@dataclass(frozen=True)
class Dataset:
    """The frames of one run, which stay as they are.

    A split is one list of frames: "train", "train_clean", "validation", or the label of a test set.

    Attributes:
        name: The name of the data set.
        train: The training frames with the labels that are trained on, which may be noisy.
        validation: The validation frames, as noisy as the training frames.
        tests: The label of each test set ("300K", "1200K", or any name) and its frames, whose labels are never noisy.
        train_clean: The training frames, in the same order, with their original labels; the list `train` itself where
            there is no noise.
        training_temperature: The temperature that the training frames were sampled at, K; None where they have none.
        isolated_atom_energies: Atomic number to the energy of the isolated atom, eV.
        checksums: The name of each file or source and the SHA-256 of what was read or computed.
        reference: How the labels can be computed again, such as {"method": "GFN2-xTB"}, as
            `mlip_sweep.data.reference.reference_calculator` takes it; None where they cannot.
        notes: What a reader has to know about the frames, one line each.
    """

    name: str
    train: list[Frame]
    validation: list[Frame]
    tests: dict[str, list[Frame]]
    train_clean: list[Frame]
    training_temperature: float | None = None
    isolated_atom_energies: dict[int, float] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    reference: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    _graphs: "dict[tuple[str, float], Sequence[GraphBatch]]" = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def frames(self, split: str) -> list[Frame]:
        """The frames of a split.

        Args:
            split: "train", "train_clean", "validation", or the label of a test set.

        Raises:
            SettingError: There is no such split.
        """
        splits = {"train": self.train, "train_clean": self.train_clean, "validation": self.validation, **self.tests}
        if split not in splits:
            raise SettingError(f"split={split}: dataset {self.name} has {', '.join(splits)}; choose one of these")
        return splits[split]

    def graphs(self, split: str, cutoff: float) -> "Sequence[GraphBatch]":
        """One graph for each frame of a split, in order, with the labels of that split.

        Neighbour lists are searched for the first time that a split is asked for at a cutoff; whoever asks again gets
        the same sequence, which nobody may change: a list, or of a large set, one that reads neighbour lists from a
        file (`mlip_sweep.data.stored_graphs`). It is kept as long as this object, and never pickled.

        Args:
            split: "train", "train_clean", "validation", or the label of a test set.
            cutoff: The distance up to which atoms are neighbours, Å.

        Raises:
            SettingError: There is no such split.
        """
        from mlip_sweep.data.datamodule import graphs_of  # frames are read and checked without PyTorch, slow to import

        frames = self.frames(split)
        if split == "train_clean" and not self.noisy:
            split = "train"
        if (split, cutoff) not in self._graphs:
            self._graphs[split, cutoff] = graphs_of(frames, cutoff)
        return self._graphs[split, cutoff]

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: everything but the graphs, which are built faster than they are sent."""
        return {**vars(self), "_graphs": {}}

    @property
    def test_temperatures(self) -> dict[str, float]:
        """The label of every test set that names a temperature, such as "600K", and that temperature in K."""
        return {label: kelvin for label in self.tests if (kelvin := temperature_of(label)) is not None}

    @property
    def atomic_numbers(self) -> tuple[int, ...]:
        """The atomic number of every element of any split, sorted."""
        frames = [*self.train, *self.validation, *(f for test in self.tests.values() for f in test)]
        return tuple(int(z) for z in np.unique(np.concatenate([f.atomic_numbers for f in frames])))

    @property
    def noisy(self) -> bool:
        """Whether noise was added to the training labels."""
        return self.train is not self.train_clean
