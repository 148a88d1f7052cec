"""Data sets from files: your own (`dataset=extxyz`) and published ones (`dataset=3bpa`, `dataset=acetylacetone`)."""

import re
from collections.abc import Mapping
from pathlib import Path

from mlip_sweep.data.assembly import NO_NOISE, assemble, hold_out
from mlip_sweep.data.catalog import CATALOG, published_file
from mlip_sweep.data.checksums import file_checksum
from mlip_sweep.data.dataset import Dataset
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
        name: The name of the data set.
        train: The file of the training frames.
        seed: The seed of the validation split, the subset and the noise.
        tests: The label of each test set ("600K", or any name) and its file.
        validation: The file of the validation frames; None draws them from `train`.
        n_validation: How many validation frames are drawn, from `validation` where it is given and from `train`
            otherwise; None means all of `validation`, or `validation_fraction` of `train`.
        validation_fraction: The share of `train` that is drawn where neither of the two above is given.
        energy_key: The name of the total energy (eV) in the files.
        forces_key: The name of the forces (eV/Å) in the files.
        isolated_atoms: A file of single atoms, or a mapping from chemical symbol to energy in eV.
        training_test: The label of the test set drawn at the training temperature, which is left out of "high-T". None
            means the lowest temperature where all labels look like "300K", and no test set otherwise; "none" means
            that there is none.
        check_units: Whether energies and forces that do not belong together are refused.
        n_train: How many training frames are used; None means all of them.
        noise: The noise on the labels, as `mlip_sweep.data.subsets.with_label_noise` takes it.

    Raises:
        InputError: An option is out of range, or a file cannot be used.
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
        n_drawn = n_validation if n_validation is not None else max(1, round(validation_fraction * len(pool)))
        pool, held_out = hold_out(pool, n_drawn, seed, str(train))
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
    """A published data set, 3BPA or acetylacetone: frames at 300 K for training, labelled by DFT.

    Args:
        name: A key of `mlip_sweep.data.catalog.CATALOG`.
        seed: The seed of the validation split, the subset and the noise.
        cache: The folder that keeps the downloads.
        folder: The folder that holds the files already, where there is no network; None downloads them.
        verify: Whether files whose contents are not the published ones are refused.
        n_validation: How many validation frames are drawn from the training file; of the 500 frames of 3BPA, the
            default leaves 450 for training.
        n_train: How many training frames are used; None means all of them.
        noise: The noise on the labels, as `mlip_sweep.data.subsets.with_label_noise` takes it.

    Raises:
        InputError: A file cannot be downloaded or found, or is not the published one.
    """
    if name not in CATALOG:
        raise InputError(f"dataset.name={name}: not in the catalog; choose one of {', '.join(CATALOG)}")
    entry = CATALOG[name]
    given_folder = None if folder is None else Path(folder)
    paths = {file: published_file(name, file, Path(cache), given_folder, verify) for file in entry.blob_ids}
    frames = {file: read_frames(paths[file]) for file in (entry.train, *entry.tests.values())}
    if not verify:
        for file, labelled in frames.items():
            check_units_of(labelled, str(paths[file]))
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
    """The label of the test set at the training temperature, as `extxyz` explains it, or None."""
    if given == "none":
        return None
    if given is not None:
        if given not in labels:
            raise InputError(f"dataset.training_test={given}: not a test; choose one of {', '.join(labels) or 'none'}")
        return given
    kelvin = {label: float(match[1]) for label in labels if (match := re.fullmatch(r"(\d+(?:\.\d+)?) ?K", label))}
    return min(kelvin, key=kelvin.__getitem__) if kelvin and len(kelvin) == len(labels) else None
