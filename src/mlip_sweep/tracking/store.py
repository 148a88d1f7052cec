"""The place that runs are recorded in: an SQLite file, or an MLflow server."""

import logging
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache, partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from mlip_sweep.config import DEFAULT_URI
from mlip_sweep.errors import InputError, without_passwords
from mlip_sweep.tracking import views

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# MLflow takes 4 s to import: every function imports what it needs, so that this module stays light.

SQLITE = "sqlite:///"
SERVER = ("http://", "https://")
KIND = "mlflow.experimentKind"  # tag of an experiment: whether models are trained in it or language models are used
TRAINING = "custom_model_development"  # "Machine learning" in the UI
P = ParamSpec("P")
T = TypeVar("T")
TWICE = ("UNIQUE constraint", "duplicate key", "Duplicate entry")  # SQLite's words, PostgreSQL's, MySQL's
TRIES = 5
ANSWER_SECONDS = 60  # a busy server takes its time; one that is not there is refused at once


def resolve(uri: str) -> str:
    """The same store under a name that holds in every folder: a relative SQLite path becomes an absolute one.

    Raises:
        InputError: neither an SQLite file nor a server.
    """
    if uri.startswith(SERVER):
        _check_address(uri)
        return uri.rstrip("/")
    path = uri.removeprefix(SQLITE)
    if not uri.startswith(SQLITE) or not path or ":memory:" in path:
        raise InputError(
            f"tracking.uri={uri!r}: give an SQLite file (sqlite:///mlflow.db) or an MLflow server (http://host:5000)"
        )
    return SQLITE + str(Path(path).absolute())


def prepare(uri: str = DEFAULT_URI) -> str:
    """Make the store ready and answer its absolute URI; cheap where it is ready.

    A fresh SQLite store that several processes open at once stays broken for good, since each of them lays the tables.
    A lock beside the file lets the first one do it alone.

    Raises:
        InputError: the file cannot be used, or the server cannot be reached or refuses.
    """
    uri = resolve(uri)
    if uri.startswith(SERVER):
        _ask_server(uri)
    else:
        _open_sqlite(uri)
    return uri


def existing(uri: str = DEFAULT_URI) -> str:
    """As `prepare`, for a store that is to be read: none is made.

    Raises:
        InputError: there is no such file, or the server does not serve.
    """
    uri = resolve(uri)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise InputError(f"{uri}: no such store; go to the folder of a sweep, or give its --uri")
    return prepare(uri)


def reason(error: BaseException) -> str:
    """What an error comes from, in a line: those of libraries enclose it in pages."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return without_passwords((str(error).splitlines() or [type(error).__name__])[0])


def asks_store(function: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Make one line of what a prepared store raises; its URI is the first argument of the function."""

    @wraps(function)
    def asked(uri: str, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(uri, *args, **kwargs)
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            if not isinstance(error, MlflowException | SQLAlchemyError):
                raise
            raise InputError(f"the store {uri}: {reason(error)}; mend it, or choose another tracking.uri") from error

    return asked


def despite_others(write: Callable[[], T]) -> T:
    """Do a write of what other runs write too, such as a tag of their experiment, or the data that they share.

    MLflow looks whether there is such a row, and inserts it if there is none. Of two runs that begin together both may
    find none, and the second is refused; when it looks again, it finds the row of the first.

    Args:
        write: asks the store, and may do so again.

    Raises:
        mlflow.exceptions.MlflowException: The store refuses for another reason.
    """
    from mlflow.exceptions import MlflowException

    for _ in range(TRIES - 1):
        try:
            return write()
        except MlflowException as error:
            if not any(words in str(error) for words in TWICE):
                raise
    return write()


@cache
def client(uri: str) -> "MlflowClient":
    """MLflow's client of a store that `prepare` has answered."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@asks_store
def experiment_id(uri: str, name: str) -> str:
    """The id of an experiment of a prepared store, which is made where it is new.

    Artifacts of an SQLite store lie beside its file, in mlartifacts/<experiment>; a server has its own place. The UI is
    told that models are trained here, unless somebody has told it otherwise.

    Raises:
        InputError: an experiment of that name was deleted, or the folder of its artifacts cannot be had.
    """
    from mlflow.exceptions import MlflowException

    mlflow_client = client(uri)
    found = mlflow_client.get_experiment_by_name(name)
    if found is None:
        try:
            mlflow_client.create_experiment(name, _artifact_location(uri, name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was quicker
                raise
        found = mlflow_client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage == "deleted":
        raise InputError(f"tracking.experiment={name!r} was deleted: restore it in MLflow, or choose another name")
    if KIND not in found.tags:
        despite_others(partial(mlflow_client.set_experiment_tag, found.experiment_id, KIND, TRAINING))
    if uri.startswith(SQLITE):
        _make_artifact_folder(found.artifact_location)
    return str(found.experiment_id)


@asks_store
def reopen(uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """A run that has ended, or whose process has gone, is RUNNING again, without the error that it ended with."""
    mlflow_client = client(uri)
    for name in {"error", "error.phase"} & mlflow_client.get_run(run_id).data.tags.keys():
        mlflow_client.delete_tag(run_id, name)
    set_tags(uri, run_id, tags)
    mlflow_client.update_run(run_id, status="RUNNING")


@asks_store
def create_run(uri: str, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Open a run in a prepared store, and answer its id."""
    return str(client(uri).create_run(experiment_id, tags=dict(tags), run_name=name).info.run_id)


def set_tags(uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Tag a run of a prepared store."""
    for name, value in tags.items():
        client(uri).set_tag(run_id, name, value)


@asks_store
def offer_all_runs(uri: str, experiment_id: str) -> None:
    """Save the view of all runs in an experiment of a prepared store, unless there is one; imports PyTorch."""
    if views.TAG + views.ALL_RUNS not in client(uri).get_experiment(experiment_id).tags:
        save_view(uri, experiment_id, views.ALL_RUNS, views.all_runs())


def save_view(uri: str, experiment_id: str, key: str, view: views.View) -> None:
    """Save a view of the run list in an experiment of a prepared store; one of the same key is replaced."""
    despite_others(partial(views.save, client(uri), experiment_id, key, view))


def view_page(uri: str, experiment_id: str, key: str) -> str | None:
    """Where the UI of a prepared store shows a saved view; None where the experiment has none of that key."""
    has_view = views.TAG + key in client(uri).get_experiment(experiment_id).tags
    return views.page(experiment_id, key) if has_view else None


def page_of(uri: str, run_id: str) -> str:
    """Where the UI of a prepared store shows a run, as the part of an address that begins with "#".

    Of a sweep whose run list was saved as a view, that list; of every other run, its own page.
    """
    experiment_id = client(uri).get_run(run_id).info.experiment_id
    return view_page(uri, experiment_id, run_id) or run_page(experiment_id, run_id)


def run_page(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """The page of a run in the UI, or of one of its artifacts, as the part of an address that begins with "#"."""
    shown = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}{shown}?{views.MODEL_TRAINING}"


def keep_file(uri: str, run_id: str, path: Path) -> None:
    """Keep a file among the artifacts of a run that has ended.

    Raises:
        InputError: the store does not take it.
    """
    from mlflow.exceptions import MlflowException

    try:
        client(prepare(uri)).log_artifact(run_id, str(path))
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is written, but run {run_id} in {uri} does not take it: {reason}") from error


def ui_hint(uri: str, run_id: str | None = None) -> str:
    """How a person opens a prepared store in a browser, at `page_of` a run where one is given."""
    page = f"/{page_of(uri, run_id)}" if run_id else ""
    if uri.startswith(SERVER):
        return without_passwords(uri) + page
    return f"mlflow ui --backend-store-uri {uri}" + (f"   and http://127.0.0.1:5000{page}" if page else "")


def _artifact_location(uri: str, experiment: str) -> str | None:
    if uri.startswith(SERVER):
        return None
    folder = re.sub(r"[^\w.-]+", "_", experiment)
    return (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts" / folder).as_uri()


def _make_artifact_folder(location: str) -> None:
    """See that the artifacts of an experiment can be written, before a run has any.

    Raises:
        InputError: they cannot.
    """
    address = urlsplit(location)
    if address.scheme not in ("", "file"):
        return
    folder = Path(unquote(address.path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: {error.strerror}; figures and models go there: make room for a folder that can be written"
        ) from error


def _check_address(uri: str) -> None:
    """See that the address of a server names one.

    Raises:
        InputError: it does not.
    """
    try:
        address = urlsplit(uri)
        named = address.hostname and (address.port is None or address.port > 0)
    except ValueError:  # the port is no number
        named = False
    if not named:
        raise InputError(f"tracking.uri={uri!r}: give the address of an MLflow server, such as http://host:5000")


def _open_sqlite(uri: str) -> None:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    path = Path(uri.removeprefix(SQLITE))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # MLflow's own opening tries for a minute and a half, with a traceback for each time, before it gives up.
        with closing(sqlite3.connect(path, timeout=ANSWER_SECONDS)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
        with FileLock(f"{path}.lock"), _quiet():
            client(uri).search_experiments(max_results=1)
    except OSError as error:
        raise InputError(f"tracking.uri={uri!r}: {error}; choose a folder that can be written") from error
    except sqlite3.Error as error:
        raise InputError(
            f"tracking.uri={uri!r}: {error}; choose another file, which can be written, or move this one away"
        ) from error
    except (MlflowException, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise InputError(
            f"tracking.uri={uri!r}: {reason}; if another MLflow wrote it, install that version or try `mlflow db "
            f"upgrade {uri}`, otherwise move the file away"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow announces every table that it makes, and logs what it raises; a user of this program did not ask."""
    loggers = [logging.getLogger(f"mlflow.store.{name}") for name in ("db.utils", "tracking.sqlalchemy_store")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # an error is told by who asked
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _ask_server(uri: str) -> None:
    """Ask one cheap question without retries: MLflow's own client tries for minutes before it gives up."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    address = urlsplit(uri)
    host = address.netloc.rpartition("@")[2]  # a password before it stays out of messages
    place = f"tracking.uri: the server {address.scheme}://{host}"
    try:
        # The health page answers to every host name; only the interface itself tells whether this one is allowed.
        reply: Any = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=ANSWER_SECONDS,
            raise_on_status=False,
        )
    except MlflowException as error:
        raise InputError(f"{place} cannot be reached: start it, or mend its address") from error
    if reply.status_code == 401:
        raise InputError(
            f"{place} asks for a name and a password (401): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if reply.status_code == 403:
        raise InputError(
            f"{place} refuses (403): start it with --allowed-hosts {host}, or ask for the right to read experiments"
        )
    if reply.status_code != 200 or "json" not in reply.headers.get("Content-Type", ""):
        raise InputError(f"{place} answered {reply.status_code}, not as an MLflow server does: mend its address")
