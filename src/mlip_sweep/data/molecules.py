"""`dataset=molecule_xtb`: a molecule whose frames and labels are computed where no data set is at hand."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from ase.build import molecule as g2_molecule
from ase.collections import g2
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.generated import Count, Kelvin, dataset_of, generated_sets
from mlip_sweep.data.reading import read_structures
from mlip_sweep.data.samples import Samples, cached_samples
from mlip_sweep.data.sampling import Dynamics
from mlip_sweep.data.subsets import NO_NOISE, Noise
from mlip_sweep.errors import InputError
from mlip_sweep.settings import Name, OnePath, checked_arguments


@checked_arguments
def molecule_xtb(
    *,
    name: Name,
    molecule: str | None,
    seed: NonNegativeInt,
    cache: OnePath,
    method: str = "GFN2-xTB",
    charge: Annotated[int, Field(ge=-100, le=100)] = 0,
    temperature: Kelvin = 300.0,
    test_temperatures: Sequence[Kelvin] = (300.0, 600.0, 1200.0),
    n_pool: Count = 80,
    n_validation: Count = 20,
    n_test: Count = 40,
    timestep_fs: float = 1.0,
    friction_per_fs: float = 0.02,
    stride: int = 30,
    equilibration: int = 300,
    n_train: Count | None = None,
    noise: Noise = NO_NOISE,
) -> Dataset:
    """A molecule, sampled by Langevin dynamics on GFN2-xTB, which labels the frames too.

    The molecule is relaxed first. Training, validation and every test have a trajectory of their own from there.

    Args:
        name: The name of the data set.
        molecule: A name of ASE's G2 collection ("CH3CH2OH"), or a file with one structure.
        seed: The seed of the dynamics, the subset and the noise.
        cache: The folder that keeps the frames.
        method: The method of the labels, one of `mlip_sweep.data.reference.METHODS`.
        charge: The charge of the molecule, e.
        temperature: The temperature of the training and validation frames, K.
        test_temperatures: The temperature of each test set, K.
        n_pool: How many training frames are computed; `n_train` of them are drawn.
        n_validation: How many validation frames are computed.
        n_test: How many frames of each test set are computed.
        timestep_fs: The time step of the dynamics, fs.
        friction_per_fs: The friction of the Langevin thermostat, 1/fs.
        stride: The number of time steps from one frame to the next.
        equilibration: The number of time steps before the first frame.
        n_train: How many training frames are used; None means all of them.
        noise: The noise on the labels.

    Raises:
        InputError: An option is out of range, or tblite is missing.
    """
    dynamics = Dynamics(
        timestep_fs=timestep_fs, friction_per_fs=friction_per_fs, stride=stride, equilibration=equilibration
    )
    start = _molecule(molecule)
    reference = _reference(start, method, charge)
    sets = generated_sets(
        temperature, test_temperatures, n_pool=n_pool, n_validation=n_validation, n_test=n_test, n_train=n_train
    )
    samples = cached_samples(start, reference, sets, dynamics, seed, cache, name)
    frames = {label: _sampled_frames(samples, label, start.numbers, f"{method} {name}") for label in sets}
    return dataset_of(
        frames,
        name=name,
        reference=reference,
        temperature=temperature,
        seed=seed,
        n_train=n_train,
        noise=noise,
        isolated=samples.isolated_atom_energies,
    )


def _molecule(given: str | None) -> Atoms:
    """A molecule of the G2 collection, or the one structure of a file."""
    if given is None:
        raise InputError("dataset.molecule: none; give a name of ASE's G2 collection (CH3CH2OH) or an xyz file")
    atoms = g2_molecule(given) if given in g2.names else _structure(given)
    if len(atoms) < 2 or atoms.pbc.any() or not atoms.numbers.all():
        raise InputError(f"dataset.molecule={given}: give a molecule of 2 known atoms or more, without periodic cell")
    return atoms


def _structure(given: str) -> Atoms:
    """The one structure of a file."""
    if not Path(given).suffix:
        near = difflib.get_close_matches(given, g2.names)
        hint = f"did you mean {', '.join(near)}?" if near else "see ase.collections.g2.names"
        raise InputError(f"dataset.molecule={given}: not in ASE's G2 collection ({hint}); or give an xyz file")
    structures = read_structures(given)
    if len(structures) > 1:
        raise InputError(f"dataset.molecule={given}: {len(structures)} structures; keep one, the start of the dynamics")
    return structures[0]


def _reference(molecule: Atoms, method: str, charge: int) -> dict[str, Any]:
    """`Dataset.reference` of a molecule; it names charge (e) and multiplicity only where it is no neutral singlet."""
    reference: dict[str, Any] = {"method": method}
    if charge:
        reference["charge"] = charge
    unpaired = round(molecule.get_initial_magnetic_moments().sum())
    electrons = int(molecule.numbers.sum()) - charge
    if (electrons - unpaired) % 2:  # the moments belong to another charge: take the fewest unpaired electrons instead
        unpaired = electrons % 2
    if unpaired:
        reference["multiplicity"] = unpaired + 1
    return reference


def _sampled_frames(samples: Samples, label: str, numbers: NDArray[np.int64], source: str) -> list[Frame]:
    """The frames of one set, for a molecule of the atomic numbers `numbers` (A,)."""
    sampled = samples.sets[label]
    restarts = f" of a trajectory that broke and restarted {sampled.restarts} times" if sampled.restarts else ""
    return [
        Frame(
            atomic_numbers=numbers.astype(np.int64),
            positions=sampled.positions[index],
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
            energy=float(sampled.energies[index]),
            forces=sampled.forces[index],
            origin=f"{source} {label}, frame {index}{restarts}",
        )
        for index in range(len(sampled.energies))
    ]
