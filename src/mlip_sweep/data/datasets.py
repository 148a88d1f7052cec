"""Data sets from files: your own (`dataset=extxyz`) and published ones (`dataset=3bpa`, `dataset=acetylacetone`)."""

import re
from collections.abc import Mapping
from pathlib import Path

from mlip_sweep.data.assembly import NO_NOISE, assemble, hold_out
from mlip_sweep.data.catalog import CATALOG, published_file
from mlip_sweep.data.checksums import file_checksum
from mlip_sweep.data.frames import Dataset
from mlip_sweep.data.reading import isolated_atom_energies, read_frames
from mlip_sweep.data.subsets import split_off
from mlip_sweep.data.validation import check_enough
from mlip_sweep.data.validation import check_units as check_units_of
from mlip_sweep.errors import InputError


def extxyz(
    *,
    name: str,
    train: str | Path | None,
    seed: int,
    tests: Mapping[str, str | Path] | None = None,
    validation: str | Path | None = None,
    n_validation: int | None = None,
    validation_fraction: float = 0.1,
    energy_key: str = "energy",
    forces_key: str = "forces",
    isolated_atoms: str | Path | Mapping[str, float] | None = None,
    training_test: str | None = None,
    check_units: bool = True,
    n_train: int | None = None,
    noise: Mapping[str, float] = NO_NOISE,
) -> Dataset:
    """Your own labelled structures, in eV, Å and eV/Å: extended xyz, or anything else that ASE reads.

    Args:
        name: of the data set.
        train: file of the training frames.
        seed: of the validation split, the subset and the noise.
        tests: label ("600K", or any name) to file.
        validation: file of validation frames; None draws them from `train`.
        n_validation: how many to draw from `train` (or from `validation`: None means all of it).
        validation_fraction: of `train`, drawn where neither of the two above is given.
        energy_key: name of the total energy.
        forces_key: name of the forces.
        isolated_atoms: file of single atoms, or chemical symbol to eV.
        training_test: label of the test drawn at the training temperature, left out of "high-T". None means the lowest
            temperature where all labels look like "300K", and no test otherwise; "none" means that there is none.
        check_units: refuse energies and forces that do not belong together.
        n_train: training frames that are used; None means all.
        noise: see `mlip_sweep.data.subsets.noise_of`.

    Raises:
        InputError: an option or a file does not serve.
    """
    if train is None:
        raise InputError("dataset.train: no file; give one: dataset.train=FILE")
    if isinstance(tests, str):
        raise InputError(f"dataset.tests={tests}: give labels with their files, 'dataset.tests={{300K: {tests}}}'")
    if not 0.0 < validation_fraction < 1.0:
        raise InputError(f"dataset.validation_fraction={validation_fraction}: give a number between 0 and 1")
    test_files = dict(tests or {})
    files = [Path(path) for path in (train, validation, *test_files.values()) if path is not None]
    pool = read_frames(train, energy_key, forces_key)
    held_out = read_frames(validation, energy_key, forces_key) if validation is not None else None
    if held_out is None:
        wanted = n_validation if n_validation is not None else max(1, round(validation_fraction * len(pool)))
        pool, held_out = hold_out(pool, wanted, seed, str(train))
    elif n_validation is not None:
        check_enough(held_out, n_validation, "dataset.n_validation", str(validation))
        _, held_out = split_off(held_out, n_validation, seed)
    test_frames = {str(label): read_frames(path, energy_key, forces_key) for label, path in test_files.items()}
    if check_units:
        for label, path in {"train": train, **test_files}.items():
            check_units_of(pool if label == "train" else test_frames[label], str(path))
    isolated = {} if isolated_atoms is None else isolated_atom_energies(isolated_atoms, energy_key)
    if isinstance(isolated_atoms, str | Path):
        files.append(Path(isolated_atoms))
    return assemble(
        name=name,
        pool=pool,
        validation=held_out,
        tests=test_frames,
        training_test=_training_test(training_test, list(test_frames)),
        seed=seed,
        n_train=n_train,
        noise=noise,
        isolated=isolated,
        checksums={str(path): file_checksum(path.expanduser()) for path in files},
    )


def published(
    *,
    name: str,
    seed: int,
    cache: str | Path,
    folder: str | Path | None = None,
    verify: bool = True,
    n_validation: int = 50,
    n_train: int | None = None,
    noise: Mapping[str, float] = NO_NOISE,
) -> Dataset:
    """A published benchmark: 3BPA or acetylacetone, at DFT, trained at 300 K.

    Args:
        name: key of `mlip_sweep.data.catalog.CATALOG`.
        seed: of the validation split, the subset and the noise.
        cache: folder that keeps the downloads.
        folder: take the files from here, where there is no network.
        verify: refuse files whose contents are not the published ones.
        n_validation: drawn from the training file: of 3BPA's 500 frames, 450 stay for training.
        n_train: training frames that are used; None means all.
        noise: see `mlip_sweep.data.subsets.noise_of`.

    Raises:
        InputError: a file cannot be had, or is not the published one.
    """
    if name not in CATALOG:
        raise InputError(f"dataset.name={name}: not in the catalog; choose one of {', '.join(CATALOG)}")
    entry = CATALOG[name]
    place = None if folder is None else Path(folder)
    paths = {file: published_file(name, file, Path(cache), place, verify) for file in entry.blob_ids}
    frames = {file: read_frames(paths[file]) for file in (entry.train, *entry.tests.values())}
    if not verify:
        for file, part in frames.items():
            check_units_of(part, str(paths[file]))
    pool, held_out = hold_out(frames[entry.train], n_validation, seed, str(paths[entry.train]))
    return assemble(
        name=name,
        pool=pool,
        validation=held_out,
        tests={label: frames[file] for label, file in entry.tests.items()},
        training_test="300K",
        seed=seed,
        n_train=n_train,
        noise=noise,
        isolated=isolated_atom_energies(paths[entry.isolated_atoms]),
        checksums={file: file_checksum(path) for file, path in paths.items()},
    )


def _training_test(given: str | None, labels: list[str]) -> str | None:
    if given == "none":
        return None
    if given is not None:
        if given not in labels:
            raise InputError(f"dataset.training_test={given}: not a test; choose one of {', '.join(labels) or 'none'}")
        return given
    kelvin = {label: float(match[1]) for label in labels if (match := re.fullmatch(r"(\d+(?:\.\d+)?) ?K", label))}
    return min(kelvin, key=kelvin.__getitem__) if kelvin and len(kelvin) == len(labels) else None
