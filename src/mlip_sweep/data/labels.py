"""Labels of test sets, and the temperatures that some of them name. Light: the command looks at them first."""

import math
import re
from collections.abc import Iterable
from numbers import Real
from typing import Any, Final

from mlip_sweep.errors import InputError

# A test set may not be called like another split of a `Dataset`, nor like what the names of metrics use already.
TAKEN: Final = ("train", "train_clean", "validation", "high_T", "all_T")
TEMPERATURE: Final = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?) ?K")


def temperature_label(kelvin: float) -> str:
    """The label of a test set at a temperature (K), such as "300K"."""
    return f"{kelvin:g}K"


def temperature_of(label: str) -> float | None:
    """The temperature (K) that a label names, as "600K" and "600 K" do; None where it names none."""
    match = TEMPERATURE.fullmatch(label)
    return float(match[1]) if match else None


def check_temperatures(labels: Iterable[str]) -> None:
    """Refuse labels that name no temperature above 0 K though they look like one, and two of the same temperature.

    Raises:
        InputError: The message names the label.
    """
    seen: dict[float, str] = {}
    for label in labels:
        kelvin = temperature_of(label)
        negative = label.startswith("-") and temperature_of(label[1:]) is not None
        if negative or kelvin == 0.0:
            raise InputError(f"dataset.tests: {label} is no temperature above 0 K; give the one of its frames: 600K")
        if kelvin is None:
            continue
        other = seen.setdefault(kelvin, label)
        if other != label:
            raise InputError(
                f"dataset.tests: {other} and {label} are the same temperature; join their files, or name one"
            )


def check_labels(labels: Iterable[str], training_temperature: Any) -> None:
    """Refuse labels that cannot name metrics, and temperatures that cannot be compared with that of the training.

    Which errors are errors above the training temperature is a question that no guess may answer: the coldest test set
    need not be at the training temperature.

    Args:
        labels: The label of each test set.
        training_temperature: The temperature of the training frames (K), as a user gave it; None where it is unknown.

    Raises:
        InputError: A label is not allowed or repeats a temperature, the temperature is no number above 0, or a label
            names a temperature and that of the training frames is unknown.
    """
    labels = list(labels)
    for label in labels:
        if not re.fullmatch(r"[\w.+-]+", label, flags=re.ASCII) or label in TAKEN:
            raise InputError(f"dataset.tests: label {label!r} cannot name metrics; use letters, digits and ._+-: 600K")
    check_temperatures(labels)
    if training_temperature is None:
        for label in labels:
            if temperature_of(label) is not None:
                raise InputError(
                    f"dataset.tests: {label} is compared with the temperature of the training frames, which is not "
                    "known; give it in kelvin: dataset.temperature=300"
                )
        return
    is_number = isinstance(training_temperature, Real) and not isinstance(training_temperature, bool)
    if not is_number or not 0.0 < float(training_temperature) < math.inf:
        raise InputError(f"dataset.temperature={training_temperature!r}: give a number of kelvin above 0, such as 300")
