"""The parent run of a sweep: opened, gone on with, and its children tagged with what is known of them from outside."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlip_sweep.tracking import environment, read, store
from mlip_sweep.tracking.run import RunRecord, timestamp

OVERRIDES = "overrides"  # tags of a parent run: what was typed,
CONFIG_NAME = "config_name"  # on top of which config


def open_sweep(
    uri: str, experiment: str, name: str, *, tags: Mapping[str, str], config: str, folder: Path
) -> RunRecord:
    """Open a new parent run.

    Args:
        uri: URI of a prepared store.
        experiment: Name that the sweep is filed under.
        name: What a reader knows the sweep by; the time is added to it.
        tags: What describes the sweep; versions, commit and process are added to it.
        config: The sweep's config as YAML.
        folder: Of the sweep, which keeps what the store cannot take.
    """
    experiment_id = store.experiment_id(uri, experiment)
    store.offer_all_runs(uri, experiment_id)
    all_tags = {read.KIND: read.SWEEP, **tags, **environment.recorded(), **environment.process_tags()}
    run_id = store.create_run(uri, experiment_id, f"{name} {timestamp()}", all_tags)
    record = RunRecord(uri, experiment_id, run_id, folder)
    record.config(config)
    return record


def reopen_sweep(uri: str, experiment: str, run_id: str, folder: Path) -> RunRecord:
    """Go on with a parent run that was opened before, as the work of this process.

    Args:
        uri: URI of a prepared store.
        experiment: Name that the sweep is filed under.
        run_id: MLflow's id of the parent run.
        folder: Of the sweep, which keeps what the store cannot take.
    """
    store.reopen(uri, run_id, environment.process_tags())
    return RunRecord(uri, store.experiment_id(uri, experiment), run_id, folder)


def tag_children(uri: str, runs: Sequence[read.StoredRun], tags: Mapping[str, Mapping[str, str]]) -> None:
    """Tag recorded runs; a tag that a run has already is not written again.

    Args:
        uri: URI of a prepared store.
        runs: The runs as they are recorded.
        tags: For the id of a run, the tags that it is to have; runs may be missing.
    """
    for run in runs:
        wanted = tags.get(run.run_id, {})
        store.set_tags(uri, run.run_id, {name: text for name, text in wanted.items() if run.tags.get(name) != text})
