"""Data sets from files: your own (`dataset=extxyz`) and published ones (`dataset=3bpa`, `dataset=acetylacetone`)."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt

from mlip_sweep.data.assembly import assemble, hold_out
from mlip_sweep.data.catalog import CATALOG, published_file
from mlip_sweep.data.checksums import file_checksum
from mlip_sweep.data.consistency import check_files
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.isolated_atoms import isolated_atom_energies, read_apart, taken_out
from mlip_sweep.data.named_labels import GivenNames, notes_on_names
from mlip_sweep.data.reading import read_frames
from mlip_sweep.data.sources import existing_file, existing_files
from mlip_sweep.data.subsets import NO_NOISE, Noise, split_off
from mlip_sweep.data.validation import check_enough
from mlip_sweep.errors import InputError
from mlip_sweep.settings import Name, OnePath, checked_arguments


def _stress_name(value: Any) -> Any:
    if value is not None and value is not False and not (isinstance(value, str) and value):
        raise ValueError("give the name of a stress or a virial, null for the usual ones, or false to read none")
    return value


LabelName = Annotated[str, Field(min_length=1)]
StressName = Annotated[Any, BeforeValidator(_stress_name)]
"""The name of a label, None for those of habit, or False for none."""


@checked_arguments
def extxyz(
    *,
    name: Name,
    train: Any,
    seed: NonNegativeInt,
    tests: Any = None,
    tests_by_config_type: Any = None,
    validation: Any = None,
    n_validation: PositiveInt | None = None,
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    energy_key: LabelName | None = None,
    forces_key: LabelName | None = None,
    stress_key: StressName = None,
    isolated_atoms: Any = None,
    temperature: Any = None,
    check_units: bool = True,
    n_train: PositiveInt | None = None,
    noise: Noise = NO_NOISE,
) -> Dataset:
    """Your own labelled structures, in eV, Å and eV/Å: extended xyz, or anything else that ASE reads.

    Args:
        name: The name of the data set.
        train: The file of the training frames, or a list of files.
        seed: The seed of the validation split, the subset and the noise.
        tests: The label of each test set ("600K", or any name) and its file or files.
        tests_by_config_type: A file or files whose frames are test sets too, one for each config_type, called like it.
        validation: The file or files of the validation frames; None draws them from `train`.
        n_validation: How many validation frames are drawn, from `validation` where it is given and from `train`
            otherwise; None means all of `validation`, or `validation_fraction` of `train`.
        validation_fraction: The share of `train` that is drawn where neither of the two above is given.
        energy_key: The name of the total energy (eV) in the files; None means one of
            `mlip_sweep.data.named_labels.HABITS`, as `energy` or `REF_energy`, whichever a file has.
        forces_key: The name of the forces (eV/Å) in the files, likewise.
        stress_key: The name of the stress (eV/Å³, positive under tension), or of the virial (eV), which then contains
            "virial", likewise; False reads none.
        isolated_atoms: A file of single atoms, or a mapping from chemical symbol to energy in eV. It is
            preferred to the energies of isolated atoms among the frames of the files, which are in no set.
        temperature: The temperature of the training frames, K. It has to be known where the label of a test set names
            a temperature.
        check_units: Whether energies and forces that do not belong together, or not with those of the training
            file, are refused (see `mlip_sweep.data.consistency`).
        n_train: How many training frames are used; None means all of them.
        noise: The noise on the labels.

    Raises:
        InputError: An option is out of range, a file cannot be used, or isolated atoms disagree.
    """
    files = existing_files(
        train=train,
        tests=tests,
        tests_by_config_type=tests_by_config_type,
        validation=validation,
        isolated_atoms=isolated_atoms,
        temperature=temperature,
    )
    given_names = GivenNames(energy_key, forces_key, stress_key)
    labelled = {option: paths for option, paths in files.items() if option != "dataset.isolated_atoms"}
    contents = {path: read_apart(path, given_names) for paths in labelled.values() for path in paths}
    given = {} if isolated_atoms is None else isolated_atom_energies(isolated_atoms, given_names)
    isolated, notes = taken_out({str(path): one.isolated for path, one in contents.items()}, given)
    notes += notes_on_names({str(path): one.names for path, one in contents.items()}, given_names)
    frames = {option: [f for path in paths for f in contents[path].frames] for option, paths in labelled.items()}
    places = {option: ", ".join(map(str, paths)) for option, paths in labelled.items()}
    pool, held_out = frames["dataset.train"], frames.get("dataset.validation")
    if stress_key and all(frame.stress is None for frame in pool):
        raise InputError(f"dataset.stress_key={stress_key}: no frame of {places['dataset.train']} has it; name another")
    if held_out is None:
        n_drawn = n_validation if n_validation is not None else max(1, round(validation_fraction * len(pool)))
        pool, held_out = hold_out(pool, n_drawn, seed, places["dataset.train"])
    elif n_validation is not None:
        check_enough(held_out, n_validation, "dataset.n_validation", places["dataset.validation"])
        _, held_out = split_off(held_out, n_validation, seed)
    test_frames = {str(label): frames[f"dataset.tests.{label}"] for label in tests or {}}
    test_frames |= _by_config_type(frames.get("dataset.tests_by_config_type", []), test_frames)
    if check_units:
        check_files({str(path): one.frames for path, one in contents.items()})
    return assemble(
        name=name,
        pool=pool,
        validation=held_out,
        tests=test_frames,
        training_temperature=None if temperature is None else float(temperature),
        seed=seed,
        n_train=n_train,
        noise=noise,
        isolated=isolated,
        checksums={str(path): file_checksum(existing_file(path)) for paths in files.values() for path in paths},
        notes=notes,
    )


def _by_config_type(frames: Sequence[Frame], taken: Collection[str]) -> dict[str, list[Frame]]:
    """The frames of each config_type; `taken` are the labels that other test sets have."""
    sets: dict[str, list[Frame]] = {}
    for frame in frames:
        if not frame.config_type:
            raise InputError(f"{frame.origin}: no config_type, which dataset.tests_by_config_type asks for; write one")
        if frame.config_type in taken:
            raise InputError(
                f"dataset.tests.{frame.config_type}: {frame.origin} has this config_type, and would be in a set of the "
                "same name; call the set otherwise"
            )
        sets.setdefault(frame.config_type, []).append(frame)
    return sets


@checked_arguments
def published(
    *,
    name: str,
    seed: NonNegativeInt,
    cache: OnePath,
    folder: OnePath | None = None,
    verify: bool = True,
    n_validation: PositiveInt = 50,
    n_train: PositiveInt | None = None,
    noise: Noise = NO_NOISE,
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
        noise: The noise on the labels.

    Raises:
        InputError: A file cannot be downloaded or found, or is not the published one.
    """
    if name not in CATALOG:
        raise InputError(f"dataset.name={name}: not in the catalog; choose one of {', '.join(CATALOG)}")
    entry = CATALOG[name]
    paths = {file: published_file(name, file, cache, folder, verify) for file in entry.blob_ids}
    frames = {file: read_frames(paths[file]) for file in (entry.train, *entry.tests.values())}
    if not verify:
        check_files({str(paths[file]): labelled for file, labelled in frames.items()})
    pool, held_out = hold_out(frames[entry.train], n_validation, seed, str(paths[entry.train]))
    return assemble(
        name=name,
        pool=pool,
        validation=held_out,
        tests={label: frames[file] for label, file in entry.tests.items()},
        training_temperature=entry.temperature,
        seed=seed,
        n_train=n_train,
        noise=noise,
        isolated=isolated_atom_energies(paths[entry.isolated_atoms]),
        checksums={file: file_checksum(path) for file, path in paths.items()},
    )
