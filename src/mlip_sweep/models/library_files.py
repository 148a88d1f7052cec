"""Potentials in the files of the libraries that computed them: read to be measured, written to be used elsewhere."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from mlip_sweep.errors import InputError

if TYPE_CHECKING:
    from mlip_sweep.models.interface import Potential  # torch takes seconds to import

LIBRARIES = ("mace", "nequip")
ENDINGS = {"mace": ".model", "nequip": ".nequip.zip"}  # of what is written
HOW_TO_USE = {
    "mace": """from mace.calculators import MACECalculator
atoms.calc = MACECalculator(model_paths="{file}", device="cpu", default_dtype="{dtype}")

mace_create_lammps_model {file} --dtype {dtype}   # for LAMMPS""",
    "nequip": """nequip-compile {file} {stem}.nequip.pt2 --mode aotinductor --device cpu --target ase

from nequip.integrations.ase import NequIPCalculator
atoms.calc = NequIPCalculator.from_compiled_model(
    "{stem}.nequip.pt2", device="cpu", chemical_species_to_atom_type_map=True
)""",
}
UNPICKLED = (
    "the file is a pickle, and opening a pickle runs whatever code it holds; if you trust where it comes from, say "
    "which library wrote it"
)


def check_library(file: Path, library: str | None, asked_by: str = "--unpickle ") -> None:
    """See that a file is there, and that its reader was told which library to open it by.

    Args:
        file: of a potential.
        library: that wrote it.
        asked_by: how a user names the library.

    Raises:
        InputError: it is not there, or nothing or nothing known was told.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; give a .model of MACE, or a .nequip.zip or .ckpt of NequIP")
    if library not in LIBRARIES:
        raise InputError(f"{file}: {UNPICKLED}: {' or '.join(f'{asked_by}{name}' for name in LIBRARIES)}")


def read(file: Path, library: str, *, device: str = "cpu") -> "Potential":
    """The potential of a library's own file, in evaluation mode. Opening the file runs what code it holds.

    Args:
        file: A `.model` file of mace, or a package or checkpoint of nequip.
        library: "mace" or "nequip".
        device: Where to put it.

    Raises:
        InputError: The library is not installed, or the file holds something else.
    """
    check_library(file, library)
    from mlip_sweep.models import mace_file, nequip_file
    from mlip_sweep.models.checkpoint import check_installed

    reader: ModuleType = {"mace": mace_file, "nequip": nequip_file}[library]
    check_installed(reader.ARCHITECTURE)
    potential: Potential = reader.read(file).to(device)
    return potential


def write(model: "Potential", library: str, file: Path) -> None:
    """Write a potential of this program as what a library's own programs take.

    Args:
        model: On the CPU.
        library: "mace" or "nequip".
        file: Ends as `ENDINGS` says.

    Raises:
        InputError: The potential is of another library, or the file is there already or ends otherwise.
    """
    from mlip_sweep.models import mace_file, nequip_file

    writers: dict[str, ModuleType] = {"mace": mace_file, "nequip": nequip_file}
    if not isinstance(model, writers[library].ARCHITECTURE):
        own = [name for name, writer in writers.items() if isinstance(model, writer.ARCHITECTURE)]
        remedy = f"write --to {own[0]}" if own else "no other library computes it"
        raise InputError(f"--to {library}: the potential is a {type(model).__name__}; {remedy}")
    if not file.name.endswith(ENDINGS[library]):
        raise InputError(f"--output {file}: {library} knows its files by their names; end it with {ENDINGS[library]}")
    if file.exists():
        raise InputError(f"--output {file}: is there already; give another, or remove it")
    if not file.parent.is_dir():
        raise InputError(f"--output {file}: there is no folder {file.parent}; make it first")
    writers[library].write(model, file)
