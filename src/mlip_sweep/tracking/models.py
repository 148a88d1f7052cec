"""Trained models in MLflow: logged with their run, registered under a name, found again by URI."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlip_sweep.config import DEFAULT_URI
from mlip_sweep.errors import InputError
from mlip_sweep.models.committee import MEMBERS
from mlip_sweep.tracking import store
from mlip_sweep.tracking.read import whole_id
from mlip_sweep.tracking.run import RunRecord

log = logging.getLogger(__name__)

BEST = "best"  # alias of the model that a name stands for,
COMMITTEE = "committee"  # and of the committee that it is one of, where there is one


def register(uri: str, name: str, model_id: str, alias: str | None = None) -> str:
    """Give a logged model a name, and an alias where one is wanted; says so, and how the model is loaded.

    Args:
        uri: the store, as `store.prepare` takes it.
        name: of the registered model; made where it is new.
        model_id: as `RunRecord.model` answered.
        alias: such as "best"; it moves here from an earlier version. With "best" the alias "committee" is taken away,
            since the earlier best was one of that committee.

    Returns:
        The new version: `models:/NAME/VERSION`, or `models:/NAME@ALIAS`.
    """
    from mlflow.exceptions import MlflowException

    place = store.prepare(uri)
    client = store.client(place)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model = client.get_logged_model(model_id)
    version = client.create_model_version(name, model.artifact_location, run_id=model.source_run_id, model_id=model_id)
    if alias:
        client.set_registered_model_alias(name, alias, version.version)
    if alias == BEST:
        client.delete_registered_model_alias(name, COMMITTEE)
    address = f"models:/{name}@{alias}" if alias else f"models:/{name}/{version.version}"
    elsewhere = "" if place == store.resolve(DEFAULT_URI) else f', tracking_uri="{place}"'
    log.info(
        'registered model %s, version %s%s: load it by mlip_sweep.load_calculator("%s"%s)',
        *(name, version.version, f", alias {alias}" if alias else "", address, elsewhere),
    )
    return str(version.version)


def register_committee(rec: RunRecord, name: str, members: Mapping[str, str]) -> str | None:
    """Keep a copy of several models as one logged model of a run, and register it under the alias "committee".

    Args:
        rec: Of the run, as a rule of the sweep that has trained the members.
        name: Of the registered model.
        members: What each member is called, such as "seed_0", to its address, such as `models:/ID`.

    Returns:
        The new version; None while the store is away.
    """
    with tempfile.TemporaryDirectory() as folder:
        for member, address in members.items():
            shutil.copytree(local_path(address, rec.uri), Path(folder, MEMBERS, member))
        model_id = rec.model(folder)
    return register(rec.uri, name, model_id, COMMITTEE) if model_id is not None else None


def is_registered(uri: str, name: str, model_id: str, alias: str) -> bool:
    """Whether a name's alias points at a logged model already."""
    from mlflow.exceptions import MlflowException

    client = store.client(store.prepare(uri))
    try:
        version = client.get_model_version_by_alias(name, alias)
    except MlflowException:  # there is no such name, or it has no such alias
        return False
    return bool(version.source == client.get_logged_model(model_id).artifact_location)


def local_path(uri: str, tracking_uri: str | None = None) -> Path:
    """A folder on this machine that holds the model.

    Args:
        uri: a folder or a file in it, `models:/ID`, `models:/NAME/VERSION`, `models:/NAME@ALIAS`, or `runs:/ID`,
            in full or its beginning.
        tracking_uri: the store; MLFLOW_TRACKING_URI, or mlflow.db in the current folder, where none is given.

    Raises:
        InputError: it is not there.
    """
    if not uri.startswith(("models:/", "runs:/")):
        path = Path(uri)
        if not path.exists():
            raise InputError(
                f"model {uri!r}: no such folder; give a checkpoint's folder, models:/ID or models:/NAME@ALIAS"
            )
        return path if path.is_dir() else path.parent

    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    place = store.prepare(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    try:
        location = _location_of_run(uri, place) if uri.startswith("runs:/") else _location_of_model(uri, place)
        return Path(download_artifacts(artifact_uri=location, tracking_uri=place, registry_uri=place))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"model {uri!r} is not in {place}: look for its name in the UI, or set MLFLOW_TRACKING_URI to its store"
        ) from error


# MLflow's own reading of models:/ addresses asks the process-wide store for some of them, which may be another one.
def _location_of_model(uri: str, place: str) -> str:
    """`models:/ID`, `models:/NAME/VERSION` or `models:/NAME@ALIAS` -> where its files lie."""
    client = store.client(place)
    address = uri.removeprefix("models:/")
    name, at, alias = address.partition("@")
    name_of_version, slash, number = address.partition("/")
    if at:
        version = client.get_model_version_by_alias(name, alias)
    elif slash:
        version = client.get_model_version(name_of_version, number)
    else:
        return str(client.get_logged_model(address).artifact_location)
    return str(client.get_model_version_download_uri(version.name, version.version))


def _location_of_run(uri: str, place: str) -> str:
    """`runs:/ID` -> the last model that the run logged; `runs:/ID/PATH` -> that folder of its artifacts."""
    client = store.client(place)
    beginning, _, path = uri.removeprefix("runs:/").partition("/")
    try:
        run_id = whole_id(place, beginning)
    except InputError as error:
        raise InputError(f"model {uri!r}: {error}") from None
    run = client.get_run(run_id)
    if path:
        return f"{run.info.artifact_uri}/{path}"
    if run.outputs is None or not run.outputs.model_outputs:
        raise InputError(f"model {uri!r}: that run has logged no model; choose a run that has finished")
    return str(client.get_logged_model(run.outputs.model_outputs[-1].model_id).artifact_location)
