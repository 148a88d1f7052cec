"""The reference methods that compute labels where there are none: xTB, EMT for metals, trained potentials for crystals.

Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15 (2019) 1652, doi:10.1021/acs.jctc.8b01176.
Jacobsen, Stoltze & Nørskov, Surf. Sci. 366 (1996) 394, doi:10.1016/0039-6028(96)00816-3.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ase
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.data import chemical_symbols, ground_state_magnetic_moments
from threadpoolctl import threadpool_limits

from mlip_sweep.data import trained_methods
from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError

XTB = ("GFN2-xTB", "GFN1-xTB")
METHODS = (*XTB, "EMT", *trained_methods.PACKAGES)
PACKAGES = {**dict.fromkeys(XTB, ("tblite", "xtb")), **trained_methods.PACKAGES}  # and extras
METALS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")  # EMT's: it has H, C, N and O "just for fun"


def reference_calculator(reference: Mapping[str, Any]) -> Calculator:
    """The calculator that computes the labels of a data set.

    Args:
        reference: The "method", such as {"method": "GFN2-xTB"}, and where the molecule is not a neutral singlet its
            "charge" (e) or "multiplicity" (2S + 1, where S is the spin). It is what `Dataset.reference` holds.

    Raises:
        InputError: The method is unknown, or its package is not installed.
    """
    method = reference.get("method")
    if method not in METHODS:
        raise InputError(f"dataset.reference: method {method!r} is unknown; choose one of {', '.join(METHODS)}")
    if method == "EMT":
        return EMT()
    if method in trained_methods.PACKAGES:
        return trained_methods.trained_calculator(str(method))
    try:
        from tblite.ase import TBLite  # an extra that few need, and slow to import
    except ImportError as error:
        raise InputError(f"{method} needs tblite: pip install 'mlip-sweep[xtb]'") from error
    return TBLite(
        method=method,
        charge=float(reference.get("charge", 0)),
        multiplicity=int(reference.get("multiplicity", 1)),
        verbosity=0,
    )


def check_elements(numbers: Iterable[int], method: str) -> None:
    """Refuse elements that a method has no parameters for, as far as that is known without asking it.

    Raises:
        InputError: Names the first of them.
    """
    unknown = [chemical_symbols[z] for z in numbers if chemical_symbols[z] not in METALS]
    if method == "EMT" and unknown:
        raise InputError(f"EMT does not know {unknown[0]}; take some of {', '.join(METALS)}, or another dataset.method")


@contextmanager
def one_thread(reference: Mapping[str, Any]) -> Iterator[None]:
    """Limit the libraries of a reference method to one thread inside this block.

    A small molecule gains nothing from a second thread, and loses much where threads share a busy core.

    Args:
        reference: As `reference_calculator` takes it.
    """
    reference_calculator(reference)  # loads the libraries of the method: only what is loaded can be limited
    with threadpool_limits(1):
        yield


def reference_versions(reference: Mapping[str, Any]) -> dict[str, str]:
    """The name and version of each package that computes the labels, found without importing tblite.

    Args:
        reference: As `reference_calculator` takes it.

    Raises:
        InputError: The method needs a package that is not installed.
    """
    method = reference.get("method")
    package, extra = PACKAGES.get(str(method), ("ase", ""))
    try:
        return {package: version(package), "ase": ase.__version__}
    except PackageNotFoundError as error:
        raise InputError(f"labels by {method} need {package}: pip install 'mlip-sweep[{extra}]'") from error


def reference_recipe(reference: Mapping[str, Any], start: Frame) -> dict[str, Any]:
    """What decides the outcome of a reference method from a geometry on, for the key of a file that is kept.

    Args:
        reference: As `reference_calculator` takes it.
        start: The geometry; its labels do not count.

    Raises:
        InputError: As `reference_versions`.
    """
    return {
        "start": [getattr(start, name).tolist() for name in ("atomic_numbers", "positions", "cell", "pbc")],
        "reference": dict(reference),
        "versions": reference_versions(reference),
    }


def isolated_atom_labels(atomic_numbers: Iterable[int], method: str) -> dict[int, float]:
    """Energies of neutral isolated atoms in their ground-state multiplicity.

    Args:
        atomic_numbers: The elements, each once or more often.
        method: One of `METHODS`.

    Returns:
        Atomic number to energy, eV, sorted; nothing of a trained potential, which has never seen an isolated atom.

    Raises:
        InputError: The method is unknown, or tblite is not installed.
    """
    energies: dict[int, float] = {}
    if method in trained_methods.PACKAGES:
        return energies
    for number in sorted({int(z) for z in atomic_numbers}):
        atom = Atoms(numbers=[number], positions=[[0.0, 0.0, 0.0]])
        multiplicity = round(ground_state_magnetic_moments[number]) + 1
        atom.calc = reference_calculator({"method": method, "multiplicity": multiplicity})
        energies[number] = float(atom.get_potential_energy())
    return energies
