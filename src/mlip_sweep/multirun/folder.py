"""The folder through which all processes of a multirun know its parent run, and one another."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.types import RunMode

from mlip_sweep.tracking import environment

PARENT_FILE = "parent_run_id.json"
AT_WORK = ".at_work"  # holds a file for each process that starts jobs
BEAT_S = 30.0  # between two signs of life of a process
SILENCE_S = 600.0  # after which a process of another host, which cannot be asked, counts as gone


class SweepFolder:
    """A multirun's folder; several processes, on several hosts, may work at one multirun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._left = threading.Event()
        self._sign = path / AT_WORK / " ".join(environment.process_tags().values())

    def join(self, parent: Callable[[str | None], str], constants: Sequence[str]) -> str:
        """Sign this process in.

        Args:
            parent: called with the parent that the folder knows, or None, while no other process can sign in; answers
                the one to use.
            constants: keys of overrides that all jobs share.

        Returns:
            MLflow's id of the parent run.
        """
        self._sign.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            run_id = parent(self.read().get("run_id"))
            fresh = self.path / f"{PARENT_FILE}.new"
            fresh.write_text(json.dumps({"run_id": run_id, "constants": list(constants)}))
            fresh.replace(self.path / PARENT_FILE)  # whole at any moment: jobs read it without the lock
            self._sign.write_text(json.dumps(environment.process_tags()))
        threading.Thread(target=self._beat, daemon=True).start()
        return run_id

    def leave(self) -> bool:
        """Sign this process out.

        Returns:
            Whether it was the last: no other process starts jobs of this multirun.
        """
        self._left.set()
        with self._lock():
            self._sign.touch()
            now = self._sign.stat().st_mtime  # by the clock of the file system, as the others' are
            self._sign.unlink()
            return not any(self._at_work(sign, now) for sign in self._sign.parent.iterdir())

    def read(self) -> dict[str, Any]:
        """`run_id` and `constants`; nothing before a process has signed in."""
        file = self.path / PARENT_FILE
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _at_work(self, sign: Path, now: float) -> bool:
        gone = environment.process_gone(json.loads(sign.read_text()), over=now - sign.stat().st_mtime > SILENCE_S)
        if gone:
            sign.unlink()
        return not gone

    def _beat(self) -> None:
        while not self._left.wait(BEAT_S):
            self._sign.touch()

    def _lock(self) -> FileLock:
        return FileLock(self.path / ".parent.lock")


def of(hydra_cfg: Any) -> SweepFolder:
    """The folder of a multirun.

    Args:
        hydra_cfg: `HydraConfig.get()`.
    """
    return SweepFolder(Path(hydra_cfg.runtime.cwd) / hydra_cfg.sweep.dir)


def shared(hydra_cfg: Any) -> dict[str, Any]:
    """What a multirun tells its jobs; nothing for a single run."""
    return of(hydra_cfg).read() if hydra_cfg.mode == RunMode.MULTIRUN else {}


def parent_of(hydra_cfg: Any) -> str | None:
    """The id of the parent run of a job of a multirun; None for a single run.

    Args:
        hydra_cfg: `HydraConfig.get()`.
    """
    return shared(hydra_cfg).get("run_id")
