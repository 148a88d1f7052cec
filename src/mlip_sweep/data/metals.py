"""`dataset=aluminium_emt` and `copper_gold_emt`: disordered metals in small periodic cells, labelled by ASE's EMT.

Aluminium is a small stand-in for ANI-Al (Smith et al., Nat. Commun. 12, 1257 (2021),
https://doi.org/10.1038/s41467-021-21376-0), whose cells are random too: strained, with vacancies, molten. An alloy has
another composition in every cell.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.data import atomic_numbers
from ase.md.langevin import Langevin
from pydantic import Field, NonNegativeInt

from mlip_sweep.bars import bar
from mlip_sweep.data.assembly import assemble
from mlip_sweep.data.cache import cached
from mlip_sweep.data.checksums import frames_checksum
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.generated import Count, FrictionPerFs, Kelvin, TimestepFs, generated_sets
from mlip_sweep.data.reading import frame_of, read_structures
from mlip_sweep.data.reference import isolated_atom_labels, one_thread, reference_calculator, reference_versions
from mlip_sweep.data.subsets import NO_NOISE, Noise
from mlip_sweep.errors import SettingError
from mlip_sweep.settings import Name, OnePath, checked_arguments, settings

FORMAT = 3  # of the cached file, and of the way its contents are computed: raise it whenever either changes
REFERENCE = {"method": "EMT"}
METALS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")  # EMT's: it has H, C, N and O "just for fun"
MELT_K = 3000.0

Share = Annotated[float, Field(ge=0, le=1)]


@settings
class Disorder:
    """How the disordered cells are made.

    Attributes:
        elements: The symbols of the metals. Of several, every site draws one, each as likely.
        lattice_constant: Of the conventional fcc cell, Å.
        repeat: How often the primitive cell, of one atom, is repeated along each of its vectors.
        strain: Standard deviation of each component of the strain, without unit.
        vacancy: Share of the cells that lack an atom.
        molten: Share of the cells that are melted at 3000 K before they are held at their temperature.
        timestep_fs: Time step of the dynamics, fs.
        friction_per_fs: Friction of the Langevin thermostat, 1/fs.
        steps: Number of time steps at the temperature, and before that, where the cell is melted, at 3000 K.
    """

    elements: Annotated[Sequence[str], Field(min_length=1)]
    lattice_constant: Annotated[float, Field(gt=2, le=10)]
    repeat: Annotated[Sequence[Annotated[int, Field(ge=1, le=20)]], Field(min_length=3, max_length=3)] = (2, 2, 2)
    strain: Annotated[float, Field(ge=0, le=0.1)] = 0.02
    vacancy: Share = 0.25
    molten: Share = 0.25
    timestep_fs: TimestepFs = 2.0
    friction_per_fs: FrictionPerFs = 0.02
    steps: Count = 100

    def __post_init__(self) -> None:
        unknown = [symbol for symbol in self.elements if symbol not in METALS]
        if unknown or len(set(self.elements)) < len(self.elements):
            raise SettingError(f"elements={list(self.elements)}: give some of EMT's {', '.join(METALS)}, each once")
        if max(self.repeat) == 1:
            raise SettingError(f"repeat={list(self.repeat)}: give three numbers from 1, not all of them 1")


@checked_arguments
def metal_emt(
    *,
    name: Name,
    seed: NonNegativeInt,
    cache: OnePath,
    temperature: Kelvin = 300.0,
    test_temperatures: Sequence[Kelvin] = (300.0, 900.0, 1500.0),
    n_pool: Count = 40,
    n_validation: Count = 10,
    n_test: Count = 20,
    n_train: Count | None = None,
    noise: Noise = NO_NOISE,
    **disorder: Any,
) -> Dataset:
    """Periodic cells of a metal or an alloy, each at the end of a trajectory of its own, labelled by EMT.

    Args:
        name: The name of the data set.
        seed: The seed of the cells, the subset and the noise.
        cache: The folder that keeps the frames.
        temperature: The temperature of the training and validation frames, K.
        test_temperatures: The temperature of each test set, K.
        n_pool: How many training frames are computed; `n_train` of them are drawn.
        n_validation: How many validation frames are computed.
        n_test: How many frames of each test set are computed.
        n_train: How many training frames are used; None means all of them.
        noise: The noise on the labels.
        **disorder: The attributes of `Disorder`.

    Raises:
        InputError: An option is out of range.
    """
    cells = Disorder(**disorder)
    sets = generated_sets(
        temperature, test_temperatures, n_pool=n_pool, n_validation=n_validation, n_test=n_test, n_train=n_train
    )
    frames = _cached_frames(sets, cells, seed, cache, name)
    checksums = {f"EMT {name}, {label}": frames_checksum(part) for label, part in frames.items()}
    return assemble(
        name=name,
        pool=frames.pop("train"),
        validation=frames.pop("validation"),
        tests=frames,
        training_temperature=float(temperature),
        seed=seed,
        n_train=n_train,
        noise=noise,
        isolated=isolated_atom_labels(map(atomic_numbers.__getitem__, cells.elements), REFERENCE["method"]),
        checksums=checksums,
        reference=REFERENCE,
    )


def disordered_cell(temperature: float, disorder: Disorder, rng: np.random.Generator) -> Atoms:
    """One cell at the end of its trajectory.

    Args:
        temperature: The temperature that the cell is held at, K.
        disorder: How the cell is made.
        rng: The source of strain, vacancy, elements, velocities and thermostat.

    Returns:
        The cell with EMT as its calculator.
    """
    atoms = bulk(disorder.elements[0], "fcc", a=disorder.lattice_constant).repeat(disorder.repeat)
    strain = rng.normal(0.0, disorder.strain, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
    if rng.random() < disorder.vacancy:
        del atoms[int(rng.integers(len(atoms)))]
    if len(disorder.elements) > 1:
        atoms.symbols = rng.choice(list(disorder.elements), len(atoms))
    atoms.calc = reference_calculator(REFERENCE)
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


def _cached_frames(
    sets: Mapping[str, tuple[float, int]], disorder: Disorder, seed: int, cache: Path, name: str
) -> dict[str, list[Frame]]:
    """The frames of every set, read from the cache or computed now; cell k of a set is drawn from (seed, set, k)."""
    determined_by = {
        "format": FORMAT,
        "versions": reference_versions(REFERENCE),
        "sets": {label: list(settings) for label, settings in sets.items()},
        "disorder": asdict(disorder),
        "seed": seed,
    }

    def make(unfinished: Path) -> None:
        cells = []
        total = sum(count for _, count in sets.values())
        with one_thread(REFERENCE), bar(total, f"data: EMT {name}", "cells") as shown:
            for label, (temperature, count) in sets.items():
                for k in range(count):
                    rng = np.random.default_rng([seed, zlib.crc32(label.encode()), k])
                    cell = disordered_cell(temperature, disorder, rng)
                    cell.get_stress()  # and energy and forces: ASE writes only labels that are computed already
                    cell.set_momenta(None)
                    cell.info["set"] = label
                    cells.append(cell)
                    shown.update()
        ase.io.write(unfinished, cells, format="extxyz")

    frames: dict[str, list[Frame]] = {label: [] for label in sets}
    for atoms in read_structures(cached(cache / "emt", name, ".xyz", determined_by, make)):
        label = atoms.info["set"]
        frames[label].append(frame_of(atoms, f"EMT {name} {label}, frame {len(frames[label])}"))
    return frames
