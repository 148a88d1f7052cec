"""Fine-tuning: the weights of a trained potential that a training begins from, as `model.start` names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip_sweep.data.checksums import file_checksum
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint
from mlip_sweep.models.committee import member_folders
from mlip_sweep.models.interface import SUPPLIED, Potential, check_elements
from mlip_sweep.models.rescaling import Rescaling
from mlip_sweep.tracking.models import local_path

START = "start"  # key of the config group `model`
CHECKSUM = "@sha256:"  # between the address of a model and the beginning of its file's checksum
DIGITS = 16  # of the checksum


@dataclass(frozen=True)
class InitialWeights:
    """A trained potential that another training begins from.

    The whole potential is taken, not its parameters alone: what its network computes means energies only by the scale,
    the shifts and the average number of neighbours that it was trained under. The elements are its own too, of which
    the new data may have fewer.

    Attributes:
        address: As the config gives it, with the checksum of the file: an alias such as `models:/NAME@best` moves, and
            a folder may be written again.
        file: The checkpoint, on this machine.
        hyperparameters: Of the potential.
        rescaling: Its scale and shifts.
    """

    address: str
    file: Path
    hyperparameters: Mapping[str, Any]
    rescaling: Rescaling

    def check_elements(self, atomic_numbers: Sequence[int]) -> None:
        """Refuse data with elements that the potential does not know.

        Raises:
            InputError: Names them.
        """
        check_elements(self.hyperparameters["atomic_numbers"], atomic_numbers, f"model.{START}={self.address}")

    def potential(self, dtype: str) -> Potential:
        """The potential itself, made anew, in evaluation mode on the CPU.

        Args:
            dtype: "float32" or "float64", whatever it was trained in.
        """
        return checkpoint.load(self.file, dtype=dtype)


def initial_weights(model: Mapping[str, Any], tracking_uri: str) -> InitialWeights | None:
    """What `model.start` names; None where it names nothing.

    Args:
        model: The config group `model`.
        tracking_uri: The store of `runs:/` and `models:/` addresses.

    Raises:
        InputError: There is no such potential, it is a committee, its file is not the one that the address asks for,
            or it has other hyperparameters than the config.
    """
    start = model.get(START)
    if start is None:
        return None
    if not isinstance(start, str) or not start.partition(CHECKSUM)[0].strip():
        raise InputError(
            f"model.{START}={start!r}: give runs:/ID, models:/NAME@best or the folder of a run, or null to train from "
            "random weights"
        )
    address, _, wanted = start.partition(CHECKSUM)
    folder = local_path(address, tracking_uri)
    if member_folders(folder):
        raise InputError(
            f"model.{START}={address}: a committee has no weights of its own; give one of its members, such as the best"
        )
    file = checkpoint.file_in(folder)
    there = file_checksum(file)
    if not there.startswith(wanted):
        raise InputError(
            f"model.{START}={start}: it holds another model by now, {CHECKSUM}{there[:DIGITS]}; give the address of "
            "the one that is meant"
        )
    potential = checkpoint.load(file)
    _check_hyperparameters(potential.hyperparameters, architecture_of(model), f"model.{START}={address}")
    return InitialWeights(f"{address}{CHECKSUM}{there[:DIGITS]}", file, potential.hyperparameters, potential.rescaling)


def architecture_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config group `model` without what it starts from."""
    return {name: value for name, value in model.items() if name != START}


def _check_hyperparameters(own: Mapping[str, Any], wanted: Mapping[str, Any], place: str) -> None:
    """See that a potential has the hyperparameters of a config.

    Raises:
        InputError: Names those that differ.
    """
    names = [name for name in {**wanted, **own} if name not in SUPPLIED and own.get(name) != wanted.get(name)]
    if "_target_" in names:
        names = ["_target_"]  # two architectures have little in common
    if names:
        theirs = ", ".join(f"{name}={own.get(name)}" for name in names)
        ours = ", ".join(f"model.{name}={wanted.get(name)}" for name in names)
        raise InputError(f"{place}: its weights are of {theirs}, not of {ours}; make them the same")
