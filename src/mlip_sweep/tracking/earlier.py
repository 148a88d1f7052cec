"""Runs of the same resolved config that are recorded already: finished ones to skip, interrupted ones to go on with."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlip_sweep import keys
from mlip_sweep.tracking import environment, read, store
from mlip_sweep.tracking.run import RunRecord
from mlip_sweep.training.fit import LAST
from mlip_sweep.training.resume import RECORD

CONFIG = "config.checksum"  # tags of a run
DATA = "data.checksum"
FOLDER = "folder"
IRRELEVANT = ("progress", "threads", "resume", "cache")  # keys, wherever they stand, that change no number
GROUPS_APART = ("tracking", "objective", "pruning")


def config_checksum(resolved: Mapping[str, Any]) -> str:
    """Of all in a resolved config that a number of its run depends on, but the content of data files."""

    def relevant(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: relevant(value[key]) for key in sorted(value) if key not in IRRELEVANT}
        return value

    own = {key: relevant(value) for key, value in resolved.items() if key not in (*GROUPS_APART, *IRRELEVANT)}
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()


class Earlier:
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

    def __bool__(self) -> bool:
        return bool(self._runs)

    def finished(self, data_checksum: str, objectives: Sequence[str]) -> read.StoredRun | None:
        """A run that has finished on the same data, and returned what is asked for now."""
        for run in self._runs:
            returned = all(keys.objective(name) in run.metrics for name in objectives)
            if run.status == "FINISHED" and run.tags.get(DATA) == data_checksum and returned:
                return run
        return None

    def gather(self, run: read.StoredRun, parent: str | None) -> None:
        """File a run under one more sweep, which has found it finished."""
        also = run.tags.get(read.ALSO_UNDER, "")
        if parent and parent != run.tags.get(read.PARENT) and parent not in also:
            store.client(self._uri).set_tag(run.run_id, read.ALSO_UNDER, f"{also} {parent}".strip())

    def of_folder(self, folder: Path) -> str | None:
        """The id of the unfinished run whose checkpoints lie in a folder.

        Who asks is the one that trains there now: a run of another host, which cannot be asked, has lost its node.
        """
        runs = self._unfinished(over=True)
        return next((run.run_id for run in runs if run.tags.get(FOLDER) == str(folder)), None)

    def hand_over(self, rec: RunRecord, folder: Path, data_checksum: str) -> Path | None:
        """Let a new run take the place of those that were interrupted, with the last checkpoint that they have left.

        Args:
            rec: of the new run.
            folder: of the new run; takes the checkpoint.
            data_checksum: of the data that it trains on.

        Returns:
            The folder that the checkpoint came from; None where there was none.
        """
        parent = rec.stored_tags().get(read.PARENT)
        for run in self._unfinished():
            if run.run_id != rec.run_id and parent and run.tags.get(read.PARENT) == parent:
                store.client(self._uri).set_tag(run.run_id, read.SUPERSEDED, rec.run_id)
        for run in self._unfinished():
            source = Path(run.tags.get(FOLDER, ""))
            if run.tags.get(DATA) == data_checksum and (source / LAST).is_file() and source != folder:
                for name in (RECORD, LAST):
                    shutil.copyfile(source / name, folder / name)
                rec.tag("continues", run.run_id)
                return source
        return None

    def _unfinished(self, *, over: bool = False) -> list[read.StoredRun]:
        """Runs that ended without a result, or whose process has gone; a trial that was pruned has its result."""
        return [
            run
            for run in self._runs
            if "pruned" not in run.tags
            and (
                run.status in ("FAILED", "KILLED")
                or (run.status == "RUNNING" and environment.process_has_ended(run.tags, if_unknown=over))
            )
        ]
