"""Small, seeded samples that tests share: frames, data sets and every architecture at a size for tests."""

from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from omegaconf import OmegaConf

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.models import rescaling
from mlip_sweep.models.checkpoint import PACKAGES, build
from mlip_sweep.models.interface import Potential

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
# Changes of the shipped small configs that leave as little to compile as an architecture allows.
TINY = {
    "nequip": {"num_layers": 1, "num_features": 2},
    "mace": {"num_interactions": 1, "num_channels": 2, "max_ell": 1, "correlation": 1},
}


def installed(package: str) -> bool:
    """Whether a distribution is there."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def architectures() -> list:
    """Every architecture, as pytest parameters that skip where its library is missing."""
    return [
        pytest.param(
            name, marks=pytest.mark.skipif(not installed(package), reason=f"{package} is not installed (extra {name})")
        )
        for name, package in PACKAGES.items()
    ]


def ethanol_frames(n: int = 8, seed: int = 0, spread: float = 0.05) -> list[Frame]:
    """Rattled ethanol under EMT, a real if rough potential: labels are consistent, and no extra is needed.

    Args:
        n: how many.
        seed: of the rattle.
        spread: its standard deviation, Å.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        atoms = molecule("CH3CH2OH")
        atoms.positions += rng.normal(0.0, spread, atoms.positions.shape)
        atoms.calc = EMT()
        frames.append(_frame(atoms, f"ethanol, frame {k}"))
    return frames


def copper_frame() -> Frame:
    """A rattled periodic cell of copper, smaller than twice the cutoff, so that atoms see their own images."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    return _frame(atoms, "copper")


def _frame(atoms, origin: str) -> Frame:
    return Frame(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.copy(),
        cell=np.asarray(atoms.cell),
        pbc=atoms.pbc,
        energy=float(atoms.get_potential_energy()),
        forces=atoms.get_forces(),
        origin=origin,
    )


@cache
def ethanol_dataset(n: int = 8) -> Dataset:
    """`n` frames to train on, three to validate, and two test sets, the hotter one rattled more."""
    train = ethanol_frames(n)
    tests = {"300K": ethanol_frames(3, seed=2), "1200K": ethanol_frames(3, seed=3, spread=0.1)}
    return Dataset("ethanol_emt", train, ethanol_frames(3, seed=1), tests, train, training_test="300K")


def small_model(architecture: str, dataset: Dataset, *, dtype: str = "float64", seed: int = 0, **changes) -> Potential:
    """An untrained model of the shipped small config, made smaller still, in evaluation mode."""
    config = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / f"{architecture}.yaml"))
    size = {"nequip": {"num_features": 4, "radial_mlp_width": 8}, "mace": {"num_channels": 4, "radial_mlp_width": 8}}
    config |= size[architecture] | changes
    graphs = graphs_of(dataset.train, config["cutoff"])
    return build(config, dataset, graphs, rescaling.forces_rms(dataset), dtype=dtype, seed=seed).eval()
