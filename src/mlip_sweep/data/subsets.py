"""Drawing from the training frames: a validation set, nested subsets of n frames, and label noise."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import IntEnum

import numpy as np

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.validation import check_enough, check_seed
from mlip_sweep.errors import InputError


class Draw(IntEnum):
    """What is drawn: each has its own random numbers under one seed, so that one choice does not move another."""

    VALIDATION = 1
    SUBSET = 2
    NOISE = 3


def generator(seed: int, draw: Draw, part: int = 0) -> np.random.Generator:
    """Random numbers for one draw.

    Raises:
        InputError: a negative seed.
    """
    check_seed(seed)
    return np.random.default_rng([seed, int(draw), part])


def split_off(frames: Sequence[Frame], n_drawn: int, seed: int) -> tuple[list[Frame], list[Frame]]:
    """Draw `n_drawn` frames at random: the rest and the drawn, both in their first order."""
    drawn = set(generator(seed, Draw.VALIDATION).permutation(len(frames))[:n_drawn].tolist())
    rest = [frame for index, frame in enumerate(frames) if index not in drawn]
    return rest, [frames[index] for index in sorted(drawn)]


def subset(frames: Sequence[Frame], n_train: int | None, seed: int) -> list[int]:
    """Indices of `n_train` frames (None: of all), in a random order under the seed.

    Subsets are nested: those of n = 25 are the first 25 of those of n = 125.

    Raises:
        InputError: there are fewer frames than that.
    """
    if n_train is not None:
        check_enough(frames, n_train, "dataset.n_train", "the training set")
    return generator(seed, Draw.SUBSET).permutation(len(frames))[:n_train].tolist()


def noise_of(
    frames: Sequence[Frame], others: Sequence[Frame], noise: Mapping[str, float], seed: int
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """Two sets with Gaussian noise N(0, σ·σ_DFT) on their labels; the same objects where σ is 0.

    σ_DFT is the standard deviation, over `frames`, of all force components (eV/Å), and of the total energies (eV).
    PROTOCOL "Label noise". The two are drawn apart: noisy forces are no gradient of noisy energies.

    Args:
        frames: all training frames, before a subset is drawn, so that a frame has the same noise at every n_train.
        others: the validation frames, which get noise of the same size.
        noise: `forces_sigma` and `energy_sigma`, in units of σ_DFT.
        seed: of the random numbers.

    Raises:
        InputError: an unknown name, or a σ that is negative or not finite.
    """
    unknown = sorted(set(noise) - {"forces_sigma", "energy_sigma"})
    if unknown:
        raise InputError(f"dataset.noise.{unknown[0]}: unknown; choose forces_sigma or energy_sigma")
    forces_sigma, energy_sigma = (float(noise.get(name, 0.0)) for name in ("forces_sigma", "energy_sigma"))
    for name, sigma in (("forces_sigma", forces_sigma), ("energy_sigma", energy_sigma)):
        if not 0.0 <= sigma < np.inf:
            raise InputError(f"dataset.noise.{name}={sigma}: give 0 or more, in standard deviations of the labels")
    if forces_sigma == 0.0 and energy_sigma == 0.0:
        return frames, others
    forces_width = forces_sigma * float(np.std(np.concatenate([frame.forces.ravel() for frame in frames])))
    energy_width = energy_sigma * float(np.std([frame.energy for frame in frames]))

    def noisy(clean: Sequence[Frame], part: int) -> list[Frame]:
        rng = generator(seed, Draw.NOISE, part)
        return [
            replace(
                frame,
                forces=frame.forces + forces_width * rng.standard_normal(frame.forces.shape),
                energy=frame.energy + energy_width * float(rng.standard_normal()),
            )
            for frame in clean
        ]

    return noisy(frames, 0), noisy(others, 1)
