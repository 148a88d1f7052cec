"""Sampled and labelled sets of one molecule, computed once and kept in a cache."""

import hashlib
import json
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
from tqdm import tqdm

from mlip_sweep.data.cache import made_once
from mlip_sweep.data.reference import isolated_atom_labels, one_thread, reference_versions
from mlip_sweep.data.sampling import Dynamics, Trajectory, relaxed, trajectory
from mlip_sweep.errors import InputError

logger = logging.getLogger(__name__)

FORMAT = 1  # of the kept file, and of the way it is made: raise it whenever either changes


@dataclass(frozen=True)
class Samples:
    """Everything sampled for one molecule: the start (A, 3) Å, the sets, and isolated-atom energies in eV."""

    start: NDArray[np.float64]
    sets: dict[str, Trajectory]
    isolated_atom_energies: dict[int, float]


def samples(
    molecule: Atoms,
    reference: Mapping[str, Any],
    sets: Mapping[str, tuple[float, int]],
    dynamics: Dynamics,
    seed: int,
    cache: Path,
    name: str,
) -> Samples:
    """Frames of a molecule, from the cache or computed now.

    Every set has a trajectory of its own, with its own random numbers, from the relaxed geometry: frames of two sets
    are never neighbours in time. The cache's key is a checksum of everything that determines the frames.

    Args:
        molecule: where to start; it is relaxed first.
        reference: as `reference_calculator` takes it.
        sets: label of a set to its temperature (K) and number of frames.
        dynamics: settings of every trajectory.
        seed: of the random numbers.
        cache: folder.
        name: of the molecule, for the file's name and for messages.

    Raises:
        InputError: tblite is missing, the molecule cannot be computed or does not stay whole, or the cache is unusable.
    """
    determined_by = {
        "format": FORMAT,
        "molecule": [molecule.numbers.tolist(), molecule.positions.tolist()],
        "reference": dict(reference),
        "versions": reference_versions(reference),
        "sets": {label: list(settings) for label, settings in sets.items()},
        "dynamics": asdict(dynamics),
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()
    path = cache.expanduser() / "xtb" / f"{name}-{key[:20]}.npz"

    def make(unfinished: Path) -> None:
        _write(unfinished, sample(molecule, reference, sets, dynamics, seed, name), determined_by)

    return _read(made_once(path, make), list(sets))


def sample(
    molecule: Atoms,
    reference: Mapping[str, Any],
    sets: Mapping[str, tuple[float, int]],
    dynamics: Dynamics,
    seed: int,
    name: str,
) -> Samples:
    """Compute what `samples` returns, with a progress bar where someone watches."""
    steps = sum(dynamics.equilibration + dynamics.stride * count for _, count in sets.values())
    trajectories = {}
    bar = tqdm(total=steps, desc=f"{reference['method']} {name}", unit="step", leave=False, disable=None)
    with one_thread(reference), bar:
        start = relaxed(molecule, reference)
        for label, (temperature, count) in sets.items():
            rng = np.random.default_rng([seed, zlib.crc32(label.encode())])
            trajectories[label] = trajectory(start, reference, temperature, count, dynamics, rng, bar.update)
            if restarts := trajectories[label].restarts:
                logger.warning("%s at %g K broke %d times and was started again", name, temperature, restarts)
        isolated = isolated_atom_labels(start.numbers, reference["method"])
    return Samples(start=start.positions.copy(), sets=trajectories, isolated_atom_energies=isolated)


def _write(path: Path, made: Samples, determined_by: Mapping[str, Any]) -> None:
    arrays: dict[str, Any] = {
        "start": made.start,
        "isolated_numbers": np.array(list(made.isolated_atom_energies), dtype=np.int64),
        "isolated_energies": np.array(list(made.isolated_atom_energies.values())),
        "metadata": json.dumps(
            {**determined_by, "restarts": {label: part.restarts for label, part in made.sets.items()}}
        ),
    }
    for label, part in made.sets.items():
        arrays |= {f"{field}_{label}": values for field, values in asdict(part).items()}
    np.savez(path, **arrays)


def _read(path: Path, labels: list[str]) -> Samples:
    try:
        with np.load(path) as file:
            stored = dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: this cached set cannot be read ({error}); delete it to make it again") from error
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
