"""Files that are expensive to make: each is made once, however many processes ask for it, and found by its recipe."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from mlip_sweep.data.sources import expanded
from mlip_sweep.errors import InputError

KEY_LENGTH = 20  # hexadecimal digits of the SHA-256 that stand in a file's name


def cached(
    folder: str | Path, name: str, suffix: str, determined_by: Mapping[str, Any], make: Callable[[Path], None]
) -> Path:
    """The file in `folder` that a recipe leads to; where it is missing, `make` writes it.

    The file's name carries a key, the SHA-256 of the recipe as JSON with sorted names. The recipe therefore has to hold
    everything that the contents depend on: the settings, the inputs themselves (not their paths), the seed, the
    versions of the programs that compute, and a number for the format of the file. It leaves out what changes nothing
    in the file, such as the subset that is drawn from it later. The recipe is stored beside the file, as
    NAME-KEY.recipe, so that a person can see what a file holds.

    Args:
        folder: The folder that keeps the files; "~" stands for the home directory.
        name: The beginning of the file's name, for people; it is no part of the key.
        suffix: The end of the file's name, with its dot (".npz").
        determined_by: The recipe, in values that JSON can express.
        make: Called with the path to write to, and only where the file is missing.

    Returns:
        The path of the file, which exists.

    Raises:
        InputError: The folder cannot be written.
    """
    recipe = json.dumps(determined_by, sort_keys=True)
    key = hashlib.sha256(recipe.encode()).hexdigest()[:KEY_LENGTH]
    path = expanded(folder) / f"{name}-{key}{suffix}"
    recipe_path = path.with_name(f"{name}-{key}.recipe")

    def make_with_recipe(unfinished: Path) -> None:
        make(unfinished)
        unfinished_recipe = unfinished.with_name(recipe_path.name)
        unfinished_recipe.write_text(recipe + "\n")
        unfinished_recipe.replace(recipe_path)  # before the file appears: no file is ever without its recipe

    return made_once(path, make_with_recipe)


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """The file at `path`; where it is missing, `make` writes it.

    Processes that ask at the same time wait for the first. `make` writes into a folder beside the file, which then
    takes its name in one step: nobody ever reads half a file, and a process that is killed leaves none.

    Args:
        path: The file that is wanted.
        make: Called with the path to write to, and only where the file is missing.

    Returns:
        `path`, which exists.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists():  # another process may have written it while this one waited
                _make(path, make)
    except OSError as error:
        raise InputError(
            f"dataset.cache={path.parent}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    return path


def _make(path: Path, make: Callable[[Path], None]) -> None:
    """Write a file in a temporary folder beside `path`, and move it to `path` when it is complete."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
        unfinished = Path(folder) / path.name
        make(unfinished)
        unfinished.replace(path)
