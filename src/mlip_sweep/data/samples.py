"""Labelled frames of one molecule, sampled by molecular dynamics once and kept in a cache."""

import logging
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip_sweep.bars import bar
from mlip_sweep.data.cache import cached
from mlip_sweep.data.generated import recipe_of
from mlip_sweep.data.reference import isolated_atom_labels, one_thread
from mlip_sweep.data.sampling import Dynamics, Trajectory, relaxed, trajectory
from mlip_sweep.errors import InputError

logger = logging.getLogger(__name__)

FORMAT = 1  # of the cached file, and of the way its contents are computed: raise it whenever either changes


@dataclass(frozen=True)
class Samples:
    """Everything that was sampled for one molecule of A atoms.

    Attributes:
        start: Positions of the relaxed molecule, where every trajectory starts, (A, 3) Å.
        sets: The label of each set and its labelled trajectory.
        isolated_atom_energies: Atomic number to the energy of the isolated atom, eV.
    """

    start: NDArray[np.float64]
    sets: dict[str, Trajectory]
    isolated_atom_energies: dict[int, float]


def cached_samples(
    molecule: Atoms,
    reference: Mapping[str, Any],
    sets: Mapping[str, tuple[float, int]],
    dynamics: Dynamics,
    seed: int,
    cache: Path,
    name: str,
) -> Samples:
    """Labelled frames of a molecule, read from the cache or computed now.

    Every set has a trajectory of its own, with its own random numbers, from the relaxed geometry: frames of two sets
    are never neighbours in time.

    Args:
        molecule: The structure that is relaxed, and from which every trajectory then starts.
        reference: The method of the labels, as `mlip_sweep.data.reference.reference_calculator` takes it.
        sets: The label of each set, with its temperature (K) and its number of frames.
        dynamics: The settings of every trajectory.
        seed: The seed of all random numbers.
        cache: The folder that keeps the frames.
        name: The name of the molecule in file names and messages.

    Raises:
        InputError: tblite is missing, the molecule cannot be computed or does not stay whole, or the cache cannot be
            read or written.
    """
    determined_by = {
        "format": FORMAT,
        "molecule": [molecule.numbers.tolist(), molecule.positions.tolist()],
        "dynamics": asdict(dynamics),
        **recipe_of(reference, sets, seed),
    }

    def make(unfinished: Path) -> None:
        _write(unfinished, sample(molecule, reference, sets, dynamics, seed, name))

    return _read(cached(cache / "xtb", name, ".npz", determined_by, make), list(sets))


def sample(
    molecule: Atoms,
    reference: Mapping[str, Any],
    sets: Mapping[str, tuple[float, int]],
    dynamics: Dynamics,
    seed: int,
    name: str,
) -> Samples:
    """Compute what `cached_samples` returns, with a progress bar.

    Args:
        molecule: As in `cached_samples`, like all that follow.
        reference: The method of the labels.
        sets: The label of each set, with its temperature (K) and its number of frames.
        dynamics: The settings of every trajectory.
        seed: The seed of all random numbers.
        name: The name of the molecule in the progress bar and in messages.

    Raises:
        InputError: tblite is missing, or the molecule cannot be computed or does not stay whole.
    """
    steps = sum(dynamics.equilibration + dynamics.stride * count for _, count in sets.values())
    trajectories = {}
    with one_thread(reference), bar(steps, f"data: {reference['method']} {name}", "steps") as shown:
        start = relaxed(molecule, reference)
        for label, (temperature, count) in sets.items():
            rng = np.random.default_rng([seed, zlib.crc32(label.encode())])
            trajectories[label] = trajectory(start, reference, temperature, count, dynamics, rng, shown.update)
            if restarts := trajectories[label].restarts:
                logger.warning("%s at %g K broke and was started again %d times", name, temperature, restarts)
        isolated = isolated_atom_labels(start.numbers, reference["method"])
    return Samples(start=start.positions.copy(), sets=trajectories, isolated_atom_energies=isolated)


def _write(path: Path, samples: Samples) -> None:
    arrays: dict[str, Any] = {
        "start": samples.start,
        "isolated_numbers": np.array(list(samples.isolated_atom_energies), dtype=np.int64),
        "isolated_energies": np.array(list(samples.isolated_atom_energies.values())),
    }
    for label, frames in samples.sets.items():
        arrays |= {f"{field}_{label}": values for field, values in asdict(frames).items()}
    np.savez(path, **arrays)


def _read(path: Path, labels: list[str]) -> Samples:
    try:
        with np.load(path) as file:
            stored = dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: this cached set cannot be read ({error}); delete it to compute it again") from error
    return Samples(
        start=stored["start"],
        sets={
            label: Trajectory(
                stored[f"positions_{label}"],
                stored[f"energies_{label}"],
                stored[f"forces_{label}"],
                int(stored[f"restarts_{label}"]),
            )
            for label in labels
        },
        isolated_atom_energies=dict(
            zip(stored["isolated_numbers"].tolist(), stored["isolated_energies"].tolist(), strict=True)
        ),
    )
