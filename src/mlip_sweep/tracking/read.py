"""Read recorded runs back, and close those that nobody is running any more."""

import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from mlip_sweep.errors import InputError
from mlip_sweep.metrics import Metric, from_json
from mlip_sweep.tracking import environment, store

PARENT = "mlflow.parentRunId"  # tags of a run: the sweep that it belongs to,
UNDER = "filed_under"  # this one, and later sweeps that have found it finished,
SUPERSEDED = "superseded_by"  # the run that has taken its place, after an interrupt,
DATA = "data.checksum"  # what its data held,
FOLDER = "folder"  # where its checkpoints lie,
DECLARED = "metrics."  # and, before the name of a measurement, the declarations of its metrics
KIND, SWEEP = "kind", "sweep"  # a tag, and its value for the parent run of a sweep
SHORTEST_ID = 6  # characters of an id that a person has to give,
ID_CHARACTERS = 32  # and all that it has
SEPARATOR = " · "  # between the parts of a run's name, each of which says one thing that varied
CURRENT = f"tags.{SUPERSEDED} IS NULL"  # in the language of MLflow's search: runs whose place no other has taken
LARGEST_STORED = 1.7976931348623157e308  # what MLflow writes for infinity


@dataclass(frozen=True)
class StoredRun:
    """A run as it is recorded; `metrics` are the last values, NaN included."""

    run_id: str
    name: str
    status: str
    started: datetime
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    ended: datetime | None = None  # None while it runs
    experiment_id: str = ""

    @property
    def is_sweep(self) -> bool:
        """Whether it is the parent run of a sweep."""
        return self.tags.get(KIND) == SWEEP

    @property
    def parent(self) -> str | None:
        """The id of the sweep that the run was started by."""
        return self.tags.get(PARENT)

    @property
    def sweeps(self) -> list[str]:
        """Ids of the sweep that it was started by, and of later ones that have found it finished."""
        return self.tags.get(UNDER, self.parent or "").split()

    @property
    def folder(self) -> Path | None:
        """Where its checkpoints lie, as far as it is recorded."""
        return Path(self.tags[FOLDER]) if self.tags.get(FOLDER) else None

    @property
    def data_checksum(self) -> str | None:
        """Of the data that it saw."""
        return self.tags.get(DATA)

    @property
    def declared(self) -> tuple[Metric, ...]:
        """Declarations that were stored with the run: those of measurements that do not ship with this program."""
        stored = [text for tag, text in sorted(self.tags.items()) if tag.startswith(DECLARED)]
        return tuple(metric for text in stored for metric in from_json(text))


def stored_runs(uri: str, experiment: str | None = None, parent: str | None = None) -> list[StoredRun]:
    """Runs of a store, oldest first: of one experiment or all, of one sweep or all. Sweeps themselves are left out.

    Raises:
        InputError: no such experiment, or the store does not serve.
    """
    uri = store.prepare(uri)
    wanted = [filed_under(parent), f"tags.`{PARENT}` = '{parent}'"] if parent else [""]  # the second for older runs
    runs = {run.run_id: run for text in wanted for run in _all_runs(uri, experiment, text)}
    return [run for run in sorted(runs.values(), key=lambda run: run.started) if not run.is_sweep]


def filed_under(parent: str) -> str:
    """The runs of a sweep, in the language of MLflow's search; those of earlier versions lack the tag."""
    return f"tags.{UNDER} LIKE '%{parent}%'"


def stored_sweeps(uri: str, experiment: str | None = None) -> list[StoredRun]:
    """The parent runs of sweeps, oldest first.

    Raises:
        InputError: no such experiment, or the store does not serve.
    """
    return [run for run in _all_runs(store.prepare(uri), experiment) if run.is_sweep]


def run_of_id(uri: str, beginning: str) -> StoredRun:
    """The run, or sweep, of an id, in whatever experiment.

    Args:
        uri: the store.
        beginning: of the id, at least `SHORTEST_ID` characters.

    Raises:
        InputError: it is no such beginning, there is no such run, there are several, or the store does not serve.
    """
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},{ID_CHARACTERS}}}", beginning) is None:
        raise InputError(
            f"{beginning!r} is no id of a run: give at least {SHORTEST_ID} of its characters, which are 0-9 and a-f"
        )
    found = _all_runs(store.prepare(uri), None, f"attributes.run_id LIKE '{beginning}%'")
    if len(found) > 1:
        several = ", ".join(f"{run.run_id} ({run.name})" for run in found[:3])
        raise InputError(f"{beginning!r} begins the ids of {len(found)} runs: give more characters of {several}")
    if not found:
        raise InputError(
            f"no run in {uri} has the id {beginning!r}: look for it in the UI, or name the store that holds it"
        )
    return found[0]


def whole_id(uri: str, beginning: str) -> str:
    """The id of the run that begins so; a whole one is taken as it is.

    Raises:
        InputError: as of `run_of_id`.
    """
    return beginning if len(beginning) == ID_CHARACTERS else run_of_id(uri, beginning).run_id


def metric_history(uri: str, run_id: str, name: str) -> tuple[list[int], list[float]]:
    """The values of a metric in the order of their steps, as (steps, values); both are empty where a run has none.

    Of a step that was recorded twice, as after an interrupt, the last value counts.
    """
    history = store.client(store.resolve(uri)).get_metric_history(run_id, name)
    values = {one.step: _infinite(one.value) for one in sorted(history, key=lambda one: one.timestamp)}
    return sorted(values), [values[step] for step in sorted(values)]


def runs_tagged(uri: str, experiment: str | None, tag: str, value: str) -> list[StoredRun]:
    """Runs of a prepared store, of one experiment or all, with a tag of some value; none where there is no such one."""
    if experiment is not None and store.client(uri).get_experiment_by_name(experiment) is None:
        return []
    quote = '"' if "'" in value else "'"  # a path may have an apostrophe
    return _all_runs(uri, experiment, f"tags.`{tag}` = {quote}{value}{quote}")


def stored_bytes(uri: str, run_id: str, path: str) -> bytes | None:
    """Content of one artifact of a run; None where the run has none of that name."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = store.resolve(uri)
    folder = str(PurePosixPath(path).parent)
    files = get_artifact_repository(store.client(uri).get_run(run_id).info.artifact_uri, tracking_uri=uri)
    if path not in {found.path for found in files.list_artifacts(None if folder == "." else folder)}:
        return None
    with tempfile.TemporaryDirectory() as here:
        local = Path(here, "artifact")
        files._download_file(path, str(local))  # the public download draws a progress bar for each file
        return local.read_bytes()


def close_abandoned(
    uri: str, experiment: str, parent: str | None = None, *, all_have_ended: bool = False, sweeps: bool = False
) -> list[str]:
    """Mark as FAILED the runs that are RUNNING by name only: killed with no chance to say so.

    Args:
        uri: URI of a prepared store.
        experiment: Name of the experiment.
        parent: The sweep whose runs are looked at; None for all runs.
        all_have_ended: Whether every job has returned, so that also the runs of this process, and of other hosts, which
            cannot be asked, have ended.
        sweeps: Whether the parent runs of sweeps are closed too. Several processes may work at a sweep: one that has
            a run at work is left alone.

    Returns:
        The names of the runs that were closed.
    """
    client = store.client(uri)
    closed = []
    running = "attributes.status = 'RUNNING'"
    runs = _all_runs(uri, experiment, f"tags.`{PARENT}` = '{parent}' AND {running}" if parent else running)
    ended = {run.run_id for run in runs if environment.process_has_ended(run.tags, if_unknown=all_have_ended)}
    at_work = {run.parent for run in runs if run.run_id not in ended}
    for run in runs:
        if run.run_id in ended and (not run.is_sweep or (sweeps and run.run_id not in at_work)):
            client.set_tag(run.run_id, "error", "its process ended without a word (killed, or out of memory)")
            client.set_terminated(run.run_id, "FAILED")
            closed.append(run.name)
    return closed


@store.asks_store
def _all_runs(uri: str, experiment: str | None, wanted: str = "") -> list[StoredRun]:
    """Runs of a prepared store that a filter of MLflow's search wants, oldest first."""
    client = store.client(uri)
    if experiment is None:
        experiments = [found.experiment_id for found in client.search_experiments()]
    else:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            known = ", ".join(repr(e.name) for e in client.search_experiments())
            raise InputError(f"experiment {experiment!r} is not in {uri}: it holds {known}")
        experiments = [found.experiment_id]
    token: str | None = None
    runs: list[StoredRun] = []
    while True:
        page = client.search_runs(experiments, wanted, order_by=["attributes.start_time ASC"], page_token=token)
        runs += [
            StoredRun(
                run_id=run.info.run_id,
                name=run.info.run_name or run.info.run_id,
                status=run.info.status,
                started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
                params=dict(run.data.params),
                metrics={key: _infinite(value) for key, value in run.data.metrics.items()},
                tags=dict(run.data.tags),
                ended=datetime.fromtimestamp(run.info.end_time / 1000, UTC) if run.info.end_time else None,
                experiment_id=run.info.experiment_id,
            )
            for run in page
        ]
        token = page.token
        if not token:
            return runs


def _infinite(value: float) -> float:
    return float("inf") * (1 if value > 0 else -1) if abs(value) >= LARGEST_STORED else value
