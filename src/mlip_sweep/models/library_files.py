"""Potentials in the files of the libraries that computed them: read to be measured, written to be used elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlip_sweep.errors import InputError

if TYPE_CHECKING:
    from mlip_sweep.models.interface import Potential  # torch takes seconds to import

LIBRARIES = ("mace",)
UNPICKLED = (
    "the file is a pickle, and opening a pickle runs whatever code it holds; if you trust where it comes from, say "
    "which library wrote it"
)


def check_library(file: Path, library: str | None) -> None:
    """See that a file is there, and that its reader was told which library to open it by.

    Raises:
        InputError: it is not there, or nothing or nothing known was told.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; give a .model of MACE, as mace_run_train writes it")
    if library not in LIBRARIES:
        raise InputError(f"{file}: {UNPICKLED}: {' or '.join(f'--unpickle {name}' for name in LIBRARIES)}")


def read(file: Path, library: str, *, device: str = "cpu") -> "Potential":
    """The potential of a library's own file, in evaluation mode. Opening the file runs what code it holds.

    Args:
        file: A `.model` file of mace.
        library: "mace".
        device: Where to put it.

    Raises:
        InputError: The library is not installed, or the file holds something else.
    """
    check_library(file, library)
    from mlip_sweep.models import mace_file
    from mlip_sweep.models.checkpoint import check_installed

    check_installed(mace_file.MACEOfFile)
    return mace_file.read(file).to(device)
