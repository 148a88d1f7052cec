"""Small, seeded samples that tests share: frames, data sets and every architecture at a size for tests."""

from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write
from omegaconf import OmegaConf

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.reading import atoms_of
from mlip_sweep.models import rescaling
from mlip_sweep.models.checkpoint import architecture_of, build, is_installed
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.rescaling import Rescaling

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def installed(package: str) -> bool:
    """Whether a distribution is there."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def model_config(name: str) -> dict:
    """A file of conf/model as it is composed: on top of the file that its defaults name, if any."""
    own = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml"))
    below = {key: value for base in own.pop("defaults", []) for key, value in model_config(base).items()}
    return below | own


def architecture_class(name: str) -> type[Potential]:
    """The class that a file of conf/model names, which need not have its library."""
    return architecture_of(model_config(name)["_target_"])


def installed_architectures() -> list[str]:
    """One config of every architecture whose library is there."""
    return [name for name in TINY if is_installed(architecture_class(name))]


def model_configs() -> list:
    """Every file of conf/model, as pytest parameters that skip where the library is missing."""
    return _parameters(MODELS)


def architectures() -> list:
    """One config of every architecture, as `model_configs`: the first by name."""
    return _parameters(TINY)


def main_architectures() -> list:
    """NequIP and MACE: for what depends little on the architecture, and takes long."""
    return _parameters(["nequip", "mace"])


def _parameters(names) -> list:
    return [pytest.param(name, marks=_needs_library(architecture_class(name))) for name in names]


def _needs_library(architecture: type[Potential]) -> pytest.MarkDecorator:
    reason = f"the library of {architecture.__name__} is not installed: {architecture.library}"
    return pytest.mark.skipif(not is_installed(architecture), reason=reason)


# Files of conf/model, NequIP's first: what is tested on one architecture is tested on it. One of several that say the
# same, such as `nequip` and `nequip_small`.
def _order(name: str) -> tuple:
    return not name.startswith("nequip"), name


_FILES = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml") if path.stem != "pretrained")
MODELS = sorted({str(sorted(model_config(name).items())): name for name in reversed(_FILES)}.values(), key=_order)
# For one config of every architecture, changes that leave as little to compile as it allows.
TINY = {
    name: dict(architecture_class(name).smallest)
    for name in MODELS
    if name == min(other for other in MODELS if architecture_class(other) is architecture_class(name))
}


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


# Overrides of a run on the files that `write_ethanol_files` writes.
ETHANOL_FILES = [
    "dataset=extxyz",
    "dataset.train=train.xyz",
    "dataset.temperature=300",
    "dataset.tests={300K: a.xyz, 1200K: b.xyz}",
]


def write_ethanol_files(folder: Path) -> None:
    """A training set and two test sets of ten frames, as files of a user's own."""
    for file, seed, spread in [("train", 0, 0.05), ("a", 1, 0.05), ("b", 2, 0.1)]:
        write(folder / f"{file}.xyz", [atoms_of(f) for f in ethanol_frames(10, seed=seed, spread=spread)])


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
        stress=atoms.get_stress(voigt=False) if all(atoms.pbc) else None,
    )


@cache
def ethanol_dataset(n: int = 8) -> Dataset:
    """`n` frames to train on, three to validate, and two test sets, the hotter one rattled more."""
    train = ethanol_frames(n)
    tests = {"300K": ethanol_frames(3, seed=2), "1200K": ethanol_frames(3, seed=3, spread=0.1)}
    return Dataset("ethanol_emt", train, ethanol_frames(3, seed=1), tests, train, training_temperature=300.0)


def small_model(
    architecture: str,
    dataset: Dataset,
    *,
    dtype: str = "float64",
    seed: int = 0,
    rescale: Callable[[Dataset], Rescaling] = rescaling.forces_rms,
    **changes,
) -> Potential:
    """An untrained model of a file of conf/model, made narrow, in evaluation mode."""
    config = {**model_config(architecture), **architecture_class(architecture).small, **changes}
    graphs = graphs_of(dataset.train, config["cutoff"])
    return build(config, dataset, graphs, rescale(dataset), dtype=dtype, seed=seed).eval()
