"""The folder through which all processes of a multirun know its parent run, and one another."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.types import RunMode

from mlip_sweep.tracking import environment
from optuna_async import liveness

PARENT_FILE = "parent_run_id.json"
AT_WORK = ".at_work"  # holds a file for each process that starts jobs, its sign


class SweepFolder:
    """A multirun's folder; several processes, on several hosts, may work at one multirun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sign = path / AT_WORK / " ".join(environment.process_tags().values())
        self._heartbeat = liveness.Heartbeat(self._renew_sign)

    def join(self, parent: Callable[[str | None], str], constants: Sequence[str]) -> str:
        """Sign this process in.

        Args:
            parent: A function from the id of the parent run that the folder knows, or None, to the id of the one to
                use; called while no other process can sign in.
            constants: Keys of the overrides that all jobs share.

        Returns:
            MLflow's id of the parent run.
        """
        self._sign.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            run_id = parent(self.read().get("run_id"))
            fresh = self.path / f"{PARENT_FILE}.new"
            fresh.write_text(json.dumps({"run_id": run_id, "constants": list(constants)}))
            fresh.replace(self.path / PARENT_FILE)  # whole at any moment: jobs read it without the lock
            self._renew_sign()
        self._heartbeat.start()
        return run_id

    def leave(self) -> bool:
        """Sign this process out.

        Returns:
            Whether it was the last: no other process starts jobs of this multirun.
        """
        self._heartbeat.stop()
        with self._lock():
            self._renew_sign()
            now = self._sign.stat().st_mtime  # by the clock of the file system, as the others' are
            self._sign.unlink()
            return not any(self._is_at_work(sign, now) for sign in self._sign.parent.iterdir())

    def read(self) -> dict[str, Any]:
        """`run_id` and `constants`; nothing before a process has signed in."""
        file = self.path / PARENT_FILE
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _renew_sign(self) -> None:
        """Renew this process's file, the sign that it is alive; others may read it at any moment, and find it whole."""
        try:
            os.utime(self._sign)
        except FileNotFoundError:  # it is new, or another process took this one for gone
            fresh = self.path / f"{self._sign.name}.new"
            fresh.write_text(json.dumps(environment.process_tags()))
            fresh.replace(self._sign)

    def _is_at_work(self, sign: Path, now: float) -> bool:
        """Whether the process of a sign starts jobs still; the sign of one that has gone is removed."""
        silent = liveness.is_silent(now - sign.stat().st_mtime)
        gone = environment.process_has_ended(json.loads(sign.read_text()), if_unknown=silent)
        if gone:
            sign.unlink()
        return not gone

    def _lock(self) -> FileLock:
        return FileLock(self.path / ".parent.lock")


def of(hydra_cfg: Any) -> SweepFolder:
    """The folder of a multirun.

    Args:
        hydra_cfg: `HydraConfig.get()`, or the entry `hydra` of a whole config.
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
