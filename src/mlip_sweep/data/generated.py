"""What generated data sets have in common: their settings, their sets, and the way from frames to a data set."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mlip_sweep.data.assembly import assemble
from mlip_sweep.data.checksums import frames_checksum
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.labels import temperature_label
from mlip_sweep.data.reference import reference_versions
from mlip_sweep.data.subsets import LabelNoise
from mlip_sweep.errors import SettingError

Kelvin = Annotated[float, Field(gt=0, le=100_000)]
"""The temperature of a thermostat, K."""

Count = Annotated[int, Field(gt=0, le=10_000_000)]
"""A number of frames or of time steps."""

TimestepFs = Annotated[float, Field(gt=0, le=100)]
"""A time step, fs."""

FrictionPerFs = Annotated[float, Field(gt=0, le=100)]
"""The friction of a Langevin thermostat, 1/fs."""


def recipe_of(reference: Mapping[str, Any], sets: Mapping[str, tuple[float, int]], seed: int) -> dict[str, Any]:
    """What every generated data set depends on, for the key of the file that keeps it.

    Args:
        reference: The method, as `mlip_sweep.data.reference.reference_calculator` takes it.
        sets: As `generated_sets` gives them.
        seed: Of all random numbers.

    Raises:
        InputError: The method needs a package that is not installed.
    """
    return {
        "reference": dict(reference),
        "versions": reference_versions(reference),
        "sets": {label: list(settings) for label, settings in sets.items()},
        "seed": seed,
    }


def dataset_of(
    frames: Mapping[str, Sequence[Frame]],
    *,
    name: str,
    reference: Mapping[str, Any],
    temperature: float,
    seed: int,
    n_train: int | None,
    noise: LabelNoise,
    isolated: Mapping[int, float],
) -> Dataset:
    """The data set of the frames of all sets.

    Args:
        frames: By the labels of `generated_sets`.
        name: The name of the data set.
        reference: The method of the labels.
        temperature: The temperature of the training frames, K.
        seed: The seed of the subset and the noise.
        n_train: How many training frames are used; None means all of them.
        noise: The noise on the labels.
        isolated: Atomic number to the energy of the isolated atom, eV.

    Raises:
        InputError: As `assemble`.
    """
    source = f"{reference['method']} {name}"
    return assemble(
        name=name,
        pool=frames["train"],
        validation=frames["validation"],
        tests={label: part for label, part in frames.items() if label not in ("train", "validation")},
        training_temperature=float(temperature),
        seed=seed,
        n_train=n_train,
        noise=noise,
        isolated=isolated,
        checksums={f"{source}, {label}": frames_checksum(part) for label, part in frames.items()},
        reference=reference,
    )


def generated_sets(
    temperature: float,
    test_temperatures: Sequence[float],
    *,
    n_pool: int,
    n_validation: int,
    n_test: int,
    n_train: int | None,
) -> dict[str, tuple[float, int]]:
    """The sets that a computed data set consists of.

    Args:
        temperature: The temperature of the training and validation frames, K.
        test_temperatures: The temperature of each test set, K.
        n_pool: How many training frames are computed.
        n_validation: How many validation frames are computed.
        n_test: How many frames of each test set are computed.
        n_train: How many training frames are used, checked against `n_pool`; None means all of them.

    Returns:
        The label of each set, with its temperature (K) and its number of frames.

    Raises:
        SettingError: More training frames are used than computed, or a temperature is given twice.
    """
    if n_train is not None and n_train > n_pool:
        raise SettingError(f"n_train={n_train}: only {n_pool} frames are computed; set dataset.n_pool={n_train}")
    tests = {temperature_label(kelvin): (float(kelvin), n_test) for kelvin in test_temperatures}
    if len(tests) < len(test_temperatures):
        raise SettingError(f"test_temperatures={list(test_temperatures)}: give each temperature once")
    return {"train": (float(temperature), n_pool), "validation": (float(temperature), n_validation), **tests}
