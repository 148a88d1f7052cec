from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_sweep.data.frames import Frame
from mlip_sweep.data.reading import frame_of


def springs(atoms: Atoms, rest: np.ndarray, stiffness: float = 5.0) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Å) of a spring between every pair of atoms: the truth that tests know by heart."""
    i, j = np.triu_indices(len(atoms), 1)
    vectors = atoms.positions[j] - atoms.positions[i]
    lengths = np.linalg.norm(vectors, axis=1)
    energy = 0.5 * stiffness * np.sum((lengths - rest) ** 2)
    pull = (stiffness * (lengths - rest) / lengths)[:, None] * vectors
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, pull)
    np.add.at(forces, j, -pull)
    return energy - 100.0, forces


@pytest.fixture
def structures() -> Callable[..., list[Atoms]]:
    def make(count: int = 20, seed: int = 0, width: float = 0.05, name: str = "CH3CH2OH") -> list[Atoms]:
        rng = np.random.default_rng(seed)
        start = molecule(name)
        rest = start.get_all_distances()[np.triu_indices(len(start), 1)]
        made = []
        for _ in range(count):
            atoms = start.copy()
            atoms.positions += width * rng.standard_normal(atoms.positions.shape)
            energy, forces = springs(atoms, rest)
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            made.append(atoms)
        return made

    return make


@pytest.fixture
def frames(structures: Callable[..., list[Atoms]]) -> Callable[..., list[Frame]]:
    def make(count: int = 20, seed: int = 0, width: float = 0.05) -> list[Frame]:
        return [frame_of(atoms, f"made, frame {i}") for i, atoms in enumerate(structures(count, seed, width))]

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to(name: str, structures: list[Atoms]) -> Path:
        path = tmp_path / name
        ase.io.write(path, structures, format="extxyz")
        return path

    return to


@pytest.fixture
def published_3bpa() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "3bpa"
    if not folder.is_dir():
        pytest.skip("needs the 3BPA files in ../shared/data/3bpa")
    return folder
