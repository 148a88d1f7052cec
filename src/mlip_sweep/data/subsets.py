"""Drawing from the training frames: a validation set, nested subsets of n frames, and label noise."""

from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Annotated, Final

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from pydantic import Field

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.validation import check_enough
from mlip_sweep.errors import InputError
from mlip_sweep.settings import nested, settings

Sigma = Annotated[float, Field(ge=0, le=10)]
"""The width of noise, in standard deviations of the labels."""


@settings
class LabelNoise:
    """Gaussian noise on the labels of training and validation frames.

    Attributes:
        forces_sigma: The width for every force component, in standard deviations of all of them.
        energy_sigma: The width for every energy, in standard deviations of all of them.
        stress_sigma: The width for every component of a stress, in standard deviations of all of them.
    """

    forces_sigma: Sigma = 0.0
    energy_sigma: Sigma = 0.0
    stress_sigma: Sigma = 0.0


Noise = Annotated[LabelNoise, nested(LabelNoise)]
"""`LabelNoise`, or a mapping with its names."""

NO_NOISE: Final = LabelNoise()


class Draw(IntEnum):
    """What is drawn. Each has random numbers of its own under one seed, so that one draw does not change another."""

    VALIDATION = 1
    SUBSET = 2
    NOISE = 3
    STRESS_NOISE = 4


def generator(seed: int, draw: Draw, part: int = 0) -> np.random.Generator:
    """A generator of random numbers for one draw.

    Args:
        seed: The seed of the data.
        draw: What is drawn.
        part: Tells apart the parts of one draw that need random numbers of their own.
    """
    return np.random.default_rng([seed, int(draw), part])


def split_off(frames: Sequence[Frame], n_drawn: int, seed: int) -> tuple[list[Frame], list[Frame]]:
    """Draw `n_drawn` frames at random.

    Returns:
        The remaining frames and the drawn ones, both in the order that they have in `frames`.
    """
    drawn = set(generator(seed, Draw.VALIDATION).permutation(len(frames))[:n_drawn].tolist())
    rest = [frame for index, frame in enumerate(frames) if index not in drawn]
    return rest, [frames[index] for index in sorted(drawn)]


def subset(frames: Sequence[Frame], n_train: int | None, seed: int) -> list[int]:
    """Indices of `n_train` frames, or of all where it is None, in a random order that follows from the seed.

    Subsets are nested: the 25 indices of `n_train` = 25 are the first 25 of those of `n_train` = 125.

    Raises:
        InputError: There are fewer frames than that.
    """
    if n_train is not None:
        check_enough(frames, n_train, "dataset.n_train", "the training set")
    return generator(seed, Draw.SUBSET).permutation(len(frames))[:n_train].tolist()


def with_label_noise(
    train: Sequence[Frame], validation: Sequence[Frame], noise: LabelNoise, seed: int
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """Training and validation frames with Gaussian noise N(0, σ·σ_DFT) on their labels.

    σ_DFT is the standard deviation, over `train`, of all force components (eV/Å), and of the total energies (eV), as in
    section 3.1 and fig. 1a of doi:10.1088/2632-2153/acf115. Noise on energies and noise on forces are independent:
    noisy forces are not the gradient of noisy energies. A noisy stress (eV/Å³) is still symmetric.

    Args:
        train: All training frames, before a subset is drawn, so that a frame has the same noise at every `n_train`.
        validation: The validation frames, which get noise of the same width.
        noise: The σ of each label.
        seed: The seed of the data.

    Returns:
        Training and validation frames; the very objects that were given where every σ is 0.

    Raises:
        InputError: Noise is asked for on stresses, and no training frame has one.
    """
    if noise == NO_NOISE:
        return train, validation
    forces_width = noise.forces_sigma * float(np.std(np.concatenate([frame.forces.ravel() for frame in train])))
    energy_width = noise.energy_sigma * float(np.std([frame.energy for frame in train]))
    stresses = [frame.stress for frame in train if frame.stress is not None]
    if noise.stress_sigma and not stresses:
        raise InputError(
            f"dataset.noise.stress_sigma={noise.stress_sigma:g}: no training frame has a stress; set it to 0"
        )
    stress_width = noise.stress_sigma * float(np.std(stresses)) if stresses else 0.0

    def noisy(clean: Sequence[Frame], part: int) -> list[Frame]:
        rng, of_stress = (generator(seed, draw, part) for draw in (Draw.NOISE, Draw.STRESS_NOISE))

        def symmetric() -> NDArray[np.float64]:
            return voigt_6_to_full_3x3_stress(of_stress.standard_normal(6))

        return [
            replace(
                frame,
                forces=frame.forces + forces_width * rng.standard_normal(frame.forces.shape),
                energy=frame.energy + energy_width * float(rng.standard_normal()),
                stress=None if frame.stress is None else frame.stress + stress_width * symmetric(),
            )
            for frame in clean
        ]

    return noisy(train, 0), noisy(validation, 1)
