"""`dataset=aluminium_emt`, `copper_gold_emt`, `crystal_…`: crystals, disordered in small periodic cells.

Aluminium by ASE's EMT is a small stand-in for ANI-Al (Smith et al., Nat. Commun. 12, 1257 (2021),
https://doi.org/10.1038/s41467-021-21376-0), whose cells are random too: strained, with vacancies, molten. An alloy has
another composition in every cell.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.md.langevin import Langevin
from pydantic import Field, NonNegativeInt

from mlip_sweep.bars import bar
from mlip_sweep.data.cache import cached
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.generated import Count, FrictionPerFs, Kelvin, TimestepFs, dataset_of, generated_sets, recipe_of
from mlip_sweep.data.reading import frame_of, read_structures
from mlip_sweep.data.reference import (
    check_elements,
    isolated_atom_labels,
    one_thread,
    reference_calculator,
)
from mlip_sweep.data.subsets import NO_NOISE, Noise
from mlip_sweep.errors import InputError, SettingError, in_a_line
from mlip_sweep.settings import Name, OnePath, checked_arguments, settings

FORMAT = 4  # of the cached file, and of the way its contents are computed: raise it whenever either changes
MELT_K = 3000.0

Share = Annotated[float, Field(ge=0, le=1)]


@settings
class Disorder:
    """How the disordered cells are made.

    Attributes:
        repeat: How often the cell is repeated along each of its vectors.
        elements: None, or the symbols of which every site draws one, each as likely: an alloy.
        strain: Standard deviation of each component of the strain, without unit.
        vacancy: Share of the cells that lack an atom.
        molten: Share of the cells that are melted at 3000 K before they are held at their temperature.
        timestep_fs: Time step of the dynamics, fs.
        friction_per_fs: Friction of the Langevin thermostat, 1/fs.
        steps: Number of time steps at the temperature, and before that, where the cell is melted, at 3000 K.
    """

    repeat: Annotated[Sequence[Annotated[int, Field(ge=1, le=20)]], Field(min_length=3, max_length=3)] = (2, 2, 2)
    elements: Annotated[Sequence[str], Field(min_length=2)] | None = None
    strain: Annotated[float, Field(ge=0, le=0.1)] = 0.02
    vacancy: Share = 0.25
    molten: Share = 0.25
    timestep_fs: TimestepFs = 2.0
    friction_per_fs: FrictionPerFs = 0.02
    steps: Count = 100

    def __post_init__(self) -> None:
        if self.elements is not None:
            known = all(symbol in atomic_numbers for symbol in self.elements)
            if not known or len(set(self.elements)) < len(self.elements):
                raise SettingError(f"elements={list(self.elements)}: give chemical symbols, each once")


@checked_arguments
def crystal(
    *,
    name: Name,
    method: str,
    structure: str,
    seed: NonNegativeInt,
    cache: OnePath,
    lattice: str | None = None,
    lattice_constant: Annotated[float, Field(gt=1, le=50)] | None = None,
    temperature: Kelvin = 300.0,
    test_temperatures: Sequence[Kelvin] = (300.0, 900.0, 1500.0),
    n_pool: Count = 40,
    n_validation: Count = 10,
    n_test: Count = 20,
    n_train: Count | None = None,
    noise: Noise = NO_NOISE,
    **disorder: Any,
) -> Dataset:
    """Periodic cells of a crystal, each at the end of a trajectory of its own.

    Args:
        name: The name of the data set.
        method: The method of dynamics and labels, one of `mlip_sweep.data.reference.METHODS`.
        structure: The formula of a crystal that `ase.build.bulk` makes, as "Al" or "NaCl", or a file of one periodic
            structure.
        seed: The seed of the cells, the subset and the noise.
        cache: The folder that keeps the frames.
        lattice: The kind of crystal, as "fcc" or "rocksalt"; None for that of an element, or of the file.
        lattice_constant: Of the conventional cell, Å; None for that of an element, or of the file.
        temperature: The temperature of the training and validation frames, K.
        test_temperatures: The temperature of each test set, K.
        n_pool: How many training frames are computed; `n_train` of them are drawn.
        n_validation: How many validation frames are computed.
        n_test: How many frames of each test set are computed.
        n_train: How many training frames are used; None means all of them.
        noise: The noise on the labels.
        **disorder: The attributes of `Disorder`.

    Raises:
        InputError: An option is out of range, the crystal cannot be made, or the method does not know its elements or
            is not installed.
    """
    start = _crystal(structure, lattice, lattice_constant)
    cells = Disorder(**disorder)
    if len(start) * math.prod(cells.repeat) < 2:
        raise SettingError(f"repeat={list(cells.repeat)}: that is one atom; repeat its cell")
    reference = {"method": method}
    elements = sorted({atomic_numbers[symbol] for symbol in cells.elements or start.get_chemical_symbols()})
    check_elements(elements, method)
    sets = generated_sets(
        temperature, test_temperatures, n_pool=n_pool, n_validation=n_validation, n_test=n_test, n_train=n_train
    )
    frames = _cached_frames(start, reference, sets, cells, seed, cache, name)
    return dataset_of(
        frames,
        name=name,
        reference=reference,
        temperature=temperature,
        seed=seed,
        n_train=n_train,
        noise=noise,
        isolated=isolated_atom_labels(elements, method),
    )


def disordered_cell(
    start: Atoms, reference: Mapping[str, Any], temperature: float, disorder: Disorder, rng: np.random.Generator
) -> Atoms:
    """One cell at the end of its trajectory.

    Args:
        start: The cell that is repeated.
        reference: The method, as `mlip_sweep.data.reference.reference_calculator` takes it.
        temperature: The temperature that the cell is held at, K.
        disorder: How the cell is made.
        rng: The source of strain, vacancy, elements, velocities and thermostat.

    Returns:
        The cell with the reference method as its calculator.
    """
    atoms = start.repeat(disorder.repeat)
    strain = rng.normal(0.0, disorder.strain, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
    if rng.random() < disorder.vacancy:
        del atoms[int(rng.integers(len(atoms)))]
    if disorder.elements is not None:
        atoms.symbols = rng.choice(list(disorder.elements), len(atoms))
    atoms.calc = reference_calculator(reference)
    molten = rng.random() < disorder.molten
    for kelvin in (MELT_K, temperature) if molten else (temperature,):
        masses = atoms.get_masses()[:, None]
        atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * kelvin))
        Langevin(
            atoms,
            timestep=disorder.timestep_fs * units.fs,
            temperature_K=kelvin,
            friction=disorder.friction_per_fs / units.fs,
            rng=rng,
            fixcm=False,
        ).run(disorder.steps)
    return atoms


def _crystal(structure: str, lattice: str | None, lattice_constant: float | None) -> Atoms:
    """The cell of a crystal, without disorder."""
    if Path(structure).suffix:
        if lattice is not None or lattice_constant is not None:
            raise InputError(
                f"dataset.structure={structure}: the file says what the lattice is; set dataset.lattice=null and "
                "dataset.lattice_constant=null"
            )
        structures = read_structures(structure)
        if len(structures) > 1 or not structures[0].pbc.all():
            raise InputError(f"dataset.structure={structure}: give a file of one structure that is periodic in 3D")
        given = structures[0]
        return Atoms(given.numbers, given.positions, cell=given.cell, pbc=True)
    try:
        return bulk(structure, lattice, a=lattice_constant)
    except (ValueError, KeyError, RuntimeError) as error:
        reason = in_a_line(error) or type(error).__name__
        raise InputError(
            f"dataset.structure={structure}: ase.build.bulk makes no such crystal with dataset.lattice={lattice} and "
            f"dataset.lattice_constant={lattice_constant} ({reason}); give others, or a file of one structure"
        ) from error


def _cached_frames(
    start: Atoms,
    reference: Mapping[str, Any],
    sets: Mapping[str, tuple[float, int]],
    disorder: Disorder,
    seed: int,
    cache: Path,
    name: str,
) -> dict[str, list[Frame]]:
    """The frames of every set, read from the cache or computed now; cell k of a set is drawn from (seed, set, k)."""
    determined_by = {
        "format": FORMAT,
        "start": [start.numbers.tolist(), start.positions.tolist(), start.cell.tolist()],
        "disorder": asdict(disorder),
        **recipe_of(reference, sets, seed),
    }
    source = f"{reference['method']} {name}"

    def make(unfinished: Path) -> None:
        cells = []
        total = sum(count for _, count in sets.values())
        with one_thread(reference), bar(total, f"data: {source}", "cells") as shown:
            for label, (temperature, count) in sets.items():
                for k in range(count):
                    rng = np.random.default_rng([seed, zlib.crc32(label.encode()), k])
                    cell = disordered_cell(start, reference, temperature, disorder, rng)
                    labels = {"energy": cell.get_potential_energy(), "forces": cell.get_forces()}
                    cell.calc = SinglePointCalculator(cell, **labels, stress=cell.get_stress())
                    cell.set_momenta(None)
                    cell.info["set"] = label
                    cells.append(cell)
                    shown.update()
        ase.io.write(unfinished, cells, format="extxyz")

    frames: dict[str, list[Frame]] = {label: [] for label in sets}
    for atoms in read_structures(cached(cache / "crystals", name, ".xyz", determined_by, make)):
        label = atoms.info["set"]
        frames[label].append(frame_of(atoms, f"{source} {label}, frame {len(frames[label])}"))
    return frames
