"""Fine-tuning: the weights of a trained potential that a training begins from, as `model.start` names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip_sweep.composition import TARGET
from mlip_sweep.data.checksums import file_checksum
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint, library_files
from mlip_sweep.models.committee import member_folders
from mlip_sweep.models.interface import SUPPLIED, Potential, check_elements
from mlip_sweep.models.rescaling import Rescaling
from mlip_sweep.tracking.models import local_path

START = "start"  # keys of the config group `model`
UNPICKLE = "unpickle"
CANNOT_BEGIN = "of nequip, give a checkpoint (.ckpt) of a NequIPGNNModel instead of a package"
SUFFIX = ".pt"  # of this program's own checkpoints
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
        library: That wrote the file; None where it is a checkpoint of this program.
    """

    address: str
    file: Path
    hyperparameters: Mapping[str, Any]
    rescaling: Rescaling
    library: str | None = None

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
        if self.library is None:
            return checkpoint.load(self.file, dtype=dtype)
        return checkpoint.in_precision(library_files.read(self.file, self.library), dtype)

    @property
    def model(self) -> dict[str, Any]:
        """The config group `model` as a run is recorded with it."""
        architecture = {name: value for name, value in self.hyperparameters.items() if name not in SUPPLIED}
        return architecture | {START: self.address} | ({UNPICKLE: self.library} if self.library else {})


def initial_weights(model: Mapping[str, Any], tracking_uri: str) -> InitialWeights | None:
    """What `model.start` names; None where it names nothing.

    Args:
        model: The config group `model`.
        tracking_uri: The store of `runs:/` and `models:/` addresses.

    Of a library's own file, which `model.unpickle` says to open, the architecture is that of the file.

    Raises:
        InputError: There is no such potential, it is a committee or a file that cannot be made again, its file is not
            the one that the address asks for, or it has other hyperparameters than the config.
    """
    start, library = model.get(START), model.get(UNPICKLE)
    if start is None:
        if library is not None:
            raise InputError(f"model.{UNPICKLE}={library}: give the file too, by model.{START}=FILE")
        if TARGET not in model:
            raise InputError(
                f"model: a pretrained potential needs model.{START}, a run, a model or a file; or choose another of "
                "conf/model"
            )
        return None
    if not isinstance(start, str) or not start.partition(CHECKSUM)[0].strip():
        raise InputError(
            f"model.{START}={start!r}: give runs:/ID, models:/NAME@best or the folder of a run, or null to train from "
            "random weights"
        )
    address, _, wanted = start.partition(CHECKSUM)
    place = f"model.{START}={address}"
    file = Path(address)
    if library is not None or (file.is_file() and file.suffix != SUFFIX):
        library_files.check_library(file, library, f"model.{UNPICKLE}=")
    else:
        folder = local_path(address, tracking_uri)
        if member_folders(folder):
            raise InputError(
                f"{place}: a committee has no weights of its own; give one of its members, such as the best"
            )
        file = checkpoint.file_in(folder)
    there = file_checksum(file)
    if not there.startswith(wanted):
        raise InputError(
            f"model.{START}={start}: it holds another model by now, {CHECKSUM}{there[:DIGITS]}; give the address of "
            "the one that is meant"
        )
    potential = checkpoint.load(file) if library is None else library_files.read(file, library)
    if TARGET not in potential.hyperparameters:
        raise InputError(f"{place}: what it holds can be measured, but not made again; {CANNOT_BEGIN}")
    if TARGET in model:
        _check_hyperparameters(potential.hyperparameters, architecture_settings(model), place)
    named = f"{address}{CHECKSUM}{there[:DIGITS]}"
    return InitialWeights(named, file, potential.hyperparameters, potential.rescaling, library)


def architecture_settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config group `model` without what it starts from."""
    return {name: value for name, value in model.items() if name not in (START, UNPICKLE)}


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
