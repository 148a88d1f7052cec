"""Files that are made once: their keys, their recipes, and two processes that want the same one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlip_sweep.data.cache import cached, made_once
from mlip_sweep.errors import InputError

RECIPE = {"format": 1, "seed": 0, "sets": {"train": [300.0, 4]}}


class Writer:
    """Writes its text into every file that it is asked for, and remembers how often that was."""

    def __init__(self, text: str = "contents") -> None:
        self.text = text
        self.calls = 0

    def __call__(self, path: Path) -> None:
        self.calls += 1
        path.write_text(self.text)


def test_one_recipe_is_made_once_whatever_the_order_of_its_names(tmp_path):
    make = Writer()
    path = cached(tmp_path / "new", "water", ".npz", RECIPE, make)
    again = cached(tmp_path / "new", "water", ".npz", dict(reversed(RECIPE.items())), make)
    assert path == again
    assert path.parent == tmp_path / "new"
    assert path.read_text() == "contents"
    assert make.calls == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"sets": {"train": [300.0, 5]}}, {"another": None}])
def test_another_recipe_is_another_file(tmp_path, change):
    first = cached(tmp_path, "water", ".npz", RECIPE, Writer("first"))
    second = cached(tmp_path, "water", ".npz", RECIPE | change, Writer("second"))
    assert (first.read_text(), second.read_text()) == ("first", "second")


def test_the_name_of_a_file_stays_the_same_from_release_to_release(tmp_path):
    # `printf '{"format": 1, "seed": 0, "sets": {"train": [300.0, 4]}}' | sha256sum`
    assert cached(tmp_path, "water", ".npz", RECIPE, Writer()).name == "water-42768f8a4817584d2b15.npz"


def test_the_recipe_lies_beside_the_file(tmp_path):
    path = cached(tmp_path, "water", ".npz", RECIPE, Writer())
    assert json.loads(path.with_suffix(".recipe").read_text()) == RECIPE


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_is_interrupted_leaves_nothing_and_can_be_asked_for_again(tmp_path, error):
    def interrupted(path: Path) -> None:
        path.write_text("half of it")
        raise error

    with pytest.raises(error):
        cached(tmp_path, "water", ".npz", RECIPE, interrupted)
    assert {path.suffix for path in tmp_path.rglob("*")} <= {".lock"}
    assert cached(tmp_path, "water", ".npz", RECIPE, Writer()).read_text() == "contents"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # the mode of a folder does not hold back an administrator
    with pytest.raises(InputError, match=r"dataset\.cache=.*closed: cannot be written"):
        made_once(tmp_path / "closed" / "file", Writer())


# Says what it is about to do, and goes on making once it has read a line.
ASKING = """
import sys
from pathlib import Path

import filelock

acquire = filelock.FileLock.acquire

def announced(self, *args, **kwargs):
    print("asks for the lock", flush=True)
    return acquire(self, *args, **kwargs)

filelock.FileLock.acquire = announced
from mlip_sweep.data.cache import made_once

def make(path):
    print("makes", flush=True)
    sys.stdin.readline()
    path.write_text(sys.argv[2])

print(made_once(Path(sys.argv[1]), make).read_text(), flush=True)
"""


def test_two_processes_that_ask_at_once_make_once(tmp_path):
    def start(name: str) -> subprocess.Popen:
        command = [sys.executable, "-c", ASKING, str(tmp_path / "file"), name]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("first") as first:
        assert first.stdout.readline() == "asks for the lock\n"
        assert first.stdout.readline() == "makes\n"
        with start("second") as second:
            # The first is still making: the second has found no file, and must not make it too.
            assert second.stdout.readline() == "asks for the lock\n"
            assert first.communicate("go on\n", timeout=60)[0] == "first\n"
            assert second.communicate("go on\n", timeout=60)[0] == "first\n"
