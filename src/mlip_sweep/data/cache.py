"""A file that is made once, however many processes ask for it."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from mlip_sweep.errors import InputError


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """The file at `path`; where it is missing, `make` writes it.

    Processes that ask at once wait for the first. `make` writes beside the file, which then takes its name in one step:
    nobody ever reads half a file, and a process that is killed leaves none.

    Raises:
        InputError: the folder cannot be written.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists():
                _make(path, make)
    except PermissionError as error:
        raise InputError(f"dataset.cache={path.parent}: cannot be written; choose another") from error
    return path


def _make(path: Path, make: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
        unfinished = Path(folder) / path.name
        make(unfinished)
        unfinished.replace(path)
