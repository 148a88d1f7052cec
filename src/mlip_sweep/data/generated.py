"""What every generated data set takes: temperatures and numbers of frames, and the sets that follow from them."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from mlip_sweep.data.labels import temperature_label
from mlip_sweep.errors import SettingError

Kelvin = Annotated[float, Field(gt=0, le=100_000)]
"""The temperature of a thermostat, K."""

Count = Annotated[int, Field(gt=0, le=10_000_000)]
"""A number of frames or of time steps."""

TimestepFs = Annotated[float, Field(gt=0, le=100)]
"""A time step, fs."""

FrictionPerFs = Annotated[float, Field(gt=0, le=100)]
"""The friction of a Langevin thermostat, 1/fs."""


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
