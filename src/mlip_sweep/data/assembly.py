"""From labelled frames to a `Dataset`: what every data set goes through, whatever its source."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlip_sweep.data.frames import Dataset, Frame
from mlip_sweep.data.subsets import noise_of, split_off, subset
from mlip_sweep.data.validation import check_disjoint, check_enough, check_frame
from mlip_sweep.errors import InputError

NO_NOISE: Mapping[str, float] = {"forces_sigma": 0.0, "energy_sigma": 0.0}
TAKEN_LABELS = ("train", "train_clean", "validation", "high_T", "all_T")  # names of metrics use them already


def hold_out(frames: Sequence[Frame], n_validation: int, seed: int, place: str) -> tuple[list[Frame], list[Frame]]:
    """Draw the validation frames from the training file: frames for training, frames for validation.

    Raises:
        InputError: nothing is asked for, or nothing would be left to train on.
    """
    check_enough(frames, n_validation, "dataset.n_validation", place)
    if n_validation == len(frames):
        raise InputError(f"dataset.n_validation={n_validation}: takes every frame of {place}; leave some for training")
    return split_off(frames, n_validation, seed)


def assemble(
    *,
    name: str,
    pool: Sequence[Frame],
    validation: Sequence[Frame],
    tests: Mapping[str, Sequence[Frame]],
    training_test: str | None,
    seed: int,
    n_train: int | None,
    noise: Mapping[str, float],
    isolated: Mapping[int, float],
    checksums: Mapping[str, str],
    reference: Mapping[str, Any] | None = None,
) -> Dataset:
    """Check the frames, add noise, and draw the training subset.

    Noise goes onto training and validation labels alike, since who has noisy labels has no clean ones to choose a
    checkpoint by; tests stay clean. It is drawn before the subset: a frame's noise does not depend on `n_train`.

    Args:
        name: of the data set.
        pool: every frame that may be trained on.
        validation: validation frames.
        tests: label to test frames.
        training_test: label of the test at the training temperature, or None.
        seed: of the subset and the noise.
        n_train: training frames drawn from the pool; None means all.
        noise: see `mlip_sweep.data.subsets.noise_of`.
        isolated: atomic number to energy of the isolated atom, eV.
        checksums: source to SHA-256.
        reference: how the labels can be made again.

    Raises:
        InputError: a frame does not pass its checks, a test's label cannot be used, or too many frames are asked for.
    """
    for label in tests:
        if not re.fullmatch(r"[\w.+-]+", label, flags=re.ASCII) or label in TAKEN_LABELS:
            raise InputError(f"dataset.tests: label {label!r} cannot name metrics; use letters, digits and ._+-: 600K")
    for frame in (*pool, *validation, *(frame for part in tests.values() for frame in part)):
        check_frame(frame)
    check_disjoint(pool, {"validation": validation, **{f"tests.{label}": part for label, part in tests.items()}})
    chosen = subset(pool, n_train, seed)
    noisy_pool, noisy_validation = noise_of(pool, validation, noise, seed)
    train_clean = [pool[index] for index in chosen]
    return Dataset(
        name=name,
        train=train_clean if noisy_pool is pool else [noisy_pool[index] for index in chosen],
        validation=list(noisy_validation),
        tests={label: list(part) for label, part in tests.items()},
        train_clean=train_clean,
        training_test=training_test,
        isolated_atom_energies=dict(isolated),
        checksums=dict(checksums),
        reference=None if reference is None else dict(reference),
    )
