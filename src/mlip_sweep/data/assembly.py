"""From labelled frames to a `Dataset`: the steps that every data set goes through, whatever its source."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.duplicates import check_disjoint
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.labels import check_labels
from mlip_sweep.data.ranges import notes_on_labels
from mlip_sweep.data.subsets import LabelNoise, split_off, subset, with_label_noise
from mlip_sweep.data.validation import check_elements, check_enough, check_frame
from mlip_sweep.errors import InputError


def hold_out(frames: Sequence[Frame], n_validation: int, seed: int, place: str) -> tuple[list[Frame], list[Frame]]:
    """Draw the validation frames from the training file.

    Args:
        frames: All frames of the file.
        n_validation: How many frames are drawn.
        seed: The seed of the data.
        place: Where the frames come from, for messages.

    Returns:
        The frames for training and the frames for validation.

    Raises:
        InputError: `n_validation` is below 1, or would leave no frame for training.
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
    training_temperature: float | None,
    seed: int,
    n_train: int | None,
    noise: LabelNoise,
    isolated: Mapping[int, float],
    checksums: Mapping[str, str],
    reference: Mapping[str, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Check the frames, add noise, and draw the training subset.

    Training and validation labels both get noise, since in practice whoever trains on noisy labels has no clean ones to
    choose a checkpoint by; test labels stay clean. The noise is drawn before the subset, so that a frame's noise does
    not depend on `n_train`.

    Args:
        name: The name of the data set.
        pool: Every frame that may be trained on.
        validation: The validation frames.
        tests: The label of each test set and its frames.
        training_temperature: The temperature of the training frames (K), or None where they have none.
        seed: The seed of the subset and the noise.
        n_train: How many training frames are drawn from the pool; None means all of them.
        noise: The noise on the labels.
        isolated: Atomic number to the energy of the isolated atom, eV.
        checksums: The name of each source and the SHA-256 of what was read or computed.
        reference: How the labels can be computed again (see `Dataset`), or None where they cannot.
        notes: What a reader has to know about the frames, one line each.

    Raises:
        InputError: A frame does not pass its checks or stands in two sets, an element is in no training frame, the
            label of a test set is not allowed (see `mlip_sweep.data.labels.check_labels`), more frames are asked for
            than there are, or no training frame has any weight.
    """
    check_labels(tests, training_temperature)
    for frame in (*pool, *validation, *(frame for part in tests.values() for frame in part)):
        check_frame(frame)
    others = {"validation": validation, **{f"tests.{label}": part for label, part in tests.items()}}
    check_elements(pool, others)
    check_disjoint({"train": pool, **others})
    indices = subset(pool, n_train, seed)
    noisy_pool, noisy_validation = with_label_noise(pool, validation, noise, seed)
    train_clean = [pool[index] for index in indices]
    if not any(frame.weight for frame in train_clean):
        raise InputError(f"dataset {name}: config_weight is 0 in every training frame; give some of them a larger one")
    return Dataset(
        name=name,
        train=train_clean if noisy_pool is pool else [noisy_pool[index] for index in indices],
        validation=list(noisy_validation),
        tests={label: list(part) for label, part in tests.items()},
        train_clean=train_clean,
        training_temperature=training_temperature,
        isolated_atom_energies=dict(isolated),
        checksums=dict(checksums),
        reference=None if reference is None else dict(reference),
        notes=(*notes, *_note_on_weights(train_clean), *notes_on_labels(pool, others, isolated)),
    )


def _note_on_weights(training: Sequence[Frame]) -> tuple[str, ...]:
    weights = [frame.weight for frame in training if frame.weight != 1.0]
    if not weights:
        return ()
    share = f"{len(weights)} of {len(training)} training frames have a config_weight"
    return (f"{share} ({min(weights):g} to {max(weights):g}); the training loss alone uses it",)
