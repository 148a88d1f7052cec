"""Runs of the same resolved config that are recorded already: finished ones to take, interrupted ones to go on with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlip_sweep.metrics import objective_metric
from mlip_sweep.tracking import environment, read, store

CONFIG = "config.checksum"  # tags of a run
DATA = read.DATA
FOLDER = read.FOLDER
IRRELEVANT = ("progress", "threads", "resume", "cache")  # keys, wherever they stand, that change no number
GROUPS_APART = ("tracking", "objective", "pruning", "packages")


def relevant(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """All in a resolved config that a number of its run depends on."""

    def within(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: within(value[key]) for key in sorted(value) if key not in IRRELEVANT}
        return value

    return {key: within(value) for key, value in resolved.items() if key not in (*GROUPS_APART, *IRRELEVANT)}


def config_checksum(resolved: Mapping[str, Any]) -> str:
    """Of all in a resolved config that a number of its run depends on, but the content of data files."""
    return hashlib.sha256(json.dumps(relevant(resolved), sort_keys=True, default=str).encode()).hexdigest()


def last_of_folder(uri: str, folder: Path) -> read.StoredRun | None:
    """The run of a store, whatever its experiment, that was last begun in a folder; None where none is recorded."""
    runs = read.runs_tagged(store.prepare(uri), None, FOLDER, str(folder))
    return max(runs, key=lambda run: run.started, default=None)


class RunsOfConfig:
    """The recorded runs of one config, newest first.

    Args:
        uri: of the store.
        experiment: where runs are filed.
        checksum: of the config.
    """

    def __init__(self, uri: str, experiment: str, checksum: str) -> None:
        self._uri = store.prepare(uri)
        runs = read.runs_tagged(self._uri, experiment, CONFIG, checksum)
        self._runs = sorted(runs, key=lambda run: run.started, reverse=True)

    @property
    def uri(self) -> str:
        """Of the store, prepared."""
        return self._uri

    def __len__(self) -> int:
        return len(self._runs)

    def finished(self, data_checksum: str, objectives: Sequence[str]) -> read.StoredRun | None:
        """A run that has finished on the same data, and returned what is asked for now."""
        for run in self._runs:
            returned = all(objective_metric(name) in run.metrics for name in objectives)
            if run.status == "FINISHED" and run.data_checksum == data_checksum and returned:
                return run
        return None

    def file_under(self, run: read.StoredRun, parent: str | None) -> None:
        """File a run under one more sweep, which has found it finished."""
        under = run.tags.get(read.UNDER, run.parent or "")
        if parent and parent not in under:
            store.client(self._uri).set_tag(run.run_id, read.UNDER, f"{under} {parent}".strip())

    def of_folder(self, folder: Path) -> str | None:
        """The id of the unfinished run whose checkpoints lie in a folder.

        Who asks is the one that trains there now: a run of another host, which cannot be asked, has lost its node.
        """
        runs = self.interrupted(unreachable_counts=True)
        return next((run.run_id for run in runs if run.folder == folder), None)

    def interrupted(self, *, unreachable_counts: bool = False) -> list[read.StoredRun]:
        """Runs that ended without a result, or whose process has gone; a trial that was pruned has its result.

        Args:
            unreachable_counts: whether a run of another host, whose process cannot be asked, counts as gone.
        """
        return [
            run
            for run in self._runs
            if "pruned" not in run.tags
            and (
                run.status in ("FAILED", "KILLED")
                or (run.status == "RUNNING" and environment.process_has_ended(run.tags, if_unknown=unreachable_counts))
            )
        ]
