"""The files that a data set is made of, looked for before they are read and before any heavy library is imported."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlip_sweep.data.labels import check_labels
from mlip_sweep.errors import InputError


def existing_file(path: str | Path) -> Path:
    """The path of a file, with "~" replaced by the home directory.

    Raises:
        InputError: There is no such file.
    """
    file = expanded(path)
    if not _holds(Path.is_file, file):
        raise InputError(f"{path}: no such file; give the path of a file that ASE can read, such as extended xyz")
    return file


def existing_files(
    *,
    train: Any,
    tests: Any = None,
    tests_by_config_type: Any = None,
    validation: Any = None,
    isolated_atoms: Any = None,
    temperature: Any = None,
) -> dict[str, tuple[str | Path, ...]]:
    """The files of `dataset=extxyz`, after everything that can be seen without reading them has been checked.

    Args:
        train: The file of the training frames, or a list of files.
        tests: The label of each test set and its file or files.
        tests_by_config_type: The file or files of which every config_type is a test set, or None.
        validation: The file or files of the validation frames, or None.
        isolated_atoms: A file of single atoms, a mapping from chemical symbol to energy, or None.
        temperature: The temperature of the training frames (K), or None.

    Returns:
        The option that names files, such as "dataset.tests.600K", and the paths that it gives.

    Raises:
        InputError: A file does not exist, is given twice for one option, or none is given; or the labels do not serve
            (see `check_labels`).
    """
    if train is None:
        raise InputError("dataset.train: no file; give one: dataset.train=FILE")
    if tests is not None and not isinstance(tests, Mapping):
        raise InputError(f"dataset.tests={tests}: give labels with their files, 'dataset.tests={{bulk: FILE}}'")
    if isinstance(isolated_atoms, list | tuple):
        raise InputError(
            f"dataset.isolated_atoms={isolated_atoms}: give one file of single atoms, or {{H: -13.6, …}} in eV"
        )
    by_label = {str(label): paths for label, paths in (tests or {}).items()}
    check_labels(by_label, temperature)
    given = {
        "dataset.train": train,
        "dataset.validation": validation,
        **{f"dataset.tests.{label}": paths for label, paths in by_label.items()},
        "dataset.tests_by_config_type": tests_by_config_type,
        "dataset.isolated_atoms": None if isinstance(isolated_atoms, Mapping) else isolated_atoms,
    }
    optional = ("dataset.validation", "dataset.tests_by_config_type", "dataset.isolated_atoms")
    named = {option: paths for option, paths in given.items() if paths is not None or option not in optional}
    return {option: _paths(paths, option) for option, paths in named.items()}


def _paths(given: Any, option: str) -> tuple[str | Path, ...]:
    """The paths of files that exist, of one or of a list."""
    paths = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not paths or not all(isinstance(path, str | Path) for path in paths):
        raise InputError(f"{option}={given!r}: give the path of a file, or a list of paths")
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise InputError(f"{option}: {path} is given twice; give each file once")
        existing_file(path)
    return paths


def check_sources(entry: Any) -> None:
    """See that the files exist which a composed config names in its group `dataset`.

    Only the data sets of this program are known here; one of another `_target_` finds its files when it is made.

    Args:
        entry: The group as Hydra composed it.

    Raises:
        InputError: A file or folder does not exist, or what names it does not serve.
    """
    if not isinstance(entry, DictConfig):
        return  # no data set at all, which the plan of the run refuses
    try:
        options: Any = OmegaConf.to_container(entry, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(f"dataset: {str(error).splitlines()[0]}; see conf/dataset for what it takes") from None
    check = CHECKS.get(str(options.get("_target_")))
    if check is not None:
        check(options)


def _check_own_files(options: Mapping[str, Any]) -> None:
    names = ("train", "tests", "tests_by_config_type", "validation", "isolated_atoms", "temperature")
    existing_files(**{name: options.get(name) for name in names})


def _check_folder(options: Mapping[str, Any]) -> None:
    folder = options.get("folder")
    if folder is not None and not (isinstance(folder, str) and _holds(Path.is_dir, expanded(folder))):
        raise InputError(f"dataset.folder={folder}: no such folder; give the one that holds the published files")


def _check_molecule(options: Mapping[str, Any]) -> None:
    molecule = options.get("molecule")
    if isinstance(molecule, str) and Path(molecule).suffix:  # no molecule of the G2 collection has a dot in its name
        existing_file(molecule)


CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "mlip_sweep.data.datasets.extxyz": _check_own_files,
    "mlip_sweep.data.datasets.published": _check_folder,
    "mlip_sweep.data.molecules.molecule_xtb": _check_molecule,
}


def _holds(question: Callable[[Path], bool], path: Path) -> bool:
    try:
        return question(path)
    except (OSError, ValueError):  # no system takes such a name: it is too long, or holds a zero byte
        return False


def expanded(path: str | Path) -> Path:
    """The path, with "~" replaced by the home directory where there is one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # "~name" where nobody of that name has a home
        return Path(path)
