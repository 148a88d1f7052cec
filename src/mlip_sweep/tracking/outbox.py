"""What a run writes to its store. While the store is away it is kept in the run's folder, and sent later."""

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from mlip_sweep.errors import InputError, without_passwords
from mlip_sweep.tracking import store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.tracking import MlflowClient

KEPT = "unsent"  # in the folder of a run: a folder for each run that has not arrived, by its id
CALLS = "calls.jsonl"  # in it: what is to be written, one call a line, in order; files lie beside it
ASK_AGAIN_S = 300.0  # between two questions whether a store is there again
AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
T = TypeVar("T")

log = logging.getLogger(__name__)


class Outbox:
    """Writes to one run of a store, in order.

    Once the store has not taken a call, that call and all that follow are kept in the folder without a wait, so that
    training and measuring go on. They are sent when the store answers again: looked for now and then, at the end of
    the run, and by `send_kept`.

    Args:
        uri: URI of a prepared store.
        run_id: MLflow's id of the run.
        folder: The folder of the run; None keeps nothing, and errors of the store are raised.
    """

    def __init__(self, uri: str, run_id: str, folder: Path | None) -> None:
        self._uri = uri
        self._run_id = run_id
        self._place = folder / KEPT / run_id if folder is not None else None
        self._asked = 0.0  # when the store was last asked, s
        self._lock = threading.RLock()  # the logger of the training writes from a thread

    @property
    def kept_in(self) -> Path | None:
        """Where calls are kept that the store has not taken; None where all has arrived."""
        return self._place if self._place is not None and (self._place / CALLS).exists() else None

    def write(self, **call: Any) -> Any:
        """Write something.

        Args:
            call: `do`, a name that `_write` knows, and what it needs.

        Returns:
            What the store answers; None where the call is kept.

        Raises:
            mlflow.exceptions.MlflowException: The store refuses it.
        """
        with self._lock:
            due = time.monotonic() - self._asked > ASK_AGAIN_S
            if self._place is not None and self.kept_in and not (due and self.send()):
                self._keep(call)
                return None
            try:
                return _write(store.client(self._uri), self._run_id, call)
            except BaseException as error:
                interrupted = not isinstance(error, Exception)
                if self._place is None or not (interrupted or _is_away(error)):
                    raise
                self._asked = time.monotonic()
                self._keep(call)
                if interrupted:
                    raise
                log.warning(
                    "the store %s takes nothing (%s): what is for it is kept in %s, and the run goes on",
                    *(without_passwords(self._uri), store.reason(error), self._place),
                )
                return None

    def ask(self, question: Callable[[], T], otherwise: T) -> T:
        """The answer of the store to a question; another one while the store is away."""
        if self.kept_in:
            return otherwise
        try:
            return question()
        except Exception as error:
            if self._place is None or not _is_away(error):
                raise
            return otherwise

    def send(self) -> bool:
        """Send what is kept, if the store answers; whether all has arrived."""
        with self._lock:
            if self._place is not None and self.kept_in:
                self._asked = time.monotonic()
                try:
                    _send(store.prepare(self._uri), self._place)
                except Exception as error:
                    if not (isinstance(error, InputError) or _is_away(error)):
                        raise
            return self.kept_in is None

    def _keep(self, call: dict[str, Any]) -> None:
        """Keep a call, with a copy of its files.

        Raises:
            InputError: Nothing can be written in the folder either.
        """
        place = self._place
        if place is None:
            return
        try:
            place.mkdir(parents=True, exist_ok=True)
            with _lock(place):
                if "path" in call:  # what lies there now may change, or be removed
                    copy = place / f"{time.time_ns()}" / Path(call["path"]).name
                    copy.parent.mkdir(parents=True)
                    (shutil.copytree if Path(call["path"]).is_dir() else shutil.copy)(call["path"], copy)
                    call = {**call, "path": str(copy.relative_to(place))}
                with (place / CALLS).open("a") as file:
                    file.write(json.dumps(call) + "\n")
        except OSError as error:
            raise InputError(
                f"{place}: {error.strerror}, and the store {self._uri} takes nothing: make room, and type the command "
                "again in the same folder"
            ) from error


def send_kept(uri: str, folder: Path) -> None:
    """Send what the run of a folder, or the runs of a sweep's folder, could not write while their store was away.

    Args:
        uri: The store, as `store.prepare` takes it; asked only where something is kept.
        folder: Of a run or of a sweep.

    Raises:
        InputError: The store does not answer, or is not the one that holds the runs.
    """
    for file in sorted({*folder.glob(f"{KEPT}/*/{CALLS}"), *folder.glob(f"*/{KEPT}/*/{CALLS}")}):
        place = file.parent
        try:
            _send(store.prepare(uri), place)
        except Exception as error:
            if not _is_away(error):
                raise
            raise InputError(
                f"{place}: the store {uri} does not take it: {store.reason(error)}; try again later"
            ) from error
        log.info("sent what was kept of run %s in %s", place.name, folder)


def _send(uri: str, place: Path) -> None:
    """Send what is kept in one folder; what has arrived is removed."""
    from mlflow.exceptions import MlflowException

    with _lock(place):
        if not (place / CALLS).exists():  # another process was quicker
            return
        lines = (place / CALLS).read_text().splitlines(keepends=True)
        while lines:
            try:
                if lines[0].endswith("\n"):  # else the process was killed while it wrote the line
                    _write(store.client(uri), place.name, json.loads(lines[0]), place)
            except MlflowException as error:
                if _is_away(error):
                    raise
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise InputError(
                        f"{place} is kept for a run that {uri} does not hold: give the tracking.uri of its store, or "
                        "move the folder away"
                    ) from error
                log.warning("%s: the store refuses a line: %s", place, store.reason(error))
            del lines[0]
            rest = place / f"{CALLS}.new"
            rest.write_text("".join(lines))
            rest.replace(place / CALLS)
        shutil.rmtree(place)


def _write(client: "MlflowClient", run_id: str, call: dict[str, Any], folder: Path = Path()) -> Any:
    """Do what a call says; its files are looked for in `folder`."""
    from mlflow.entities import Metric, Param

    match call["do"]:
        case "metrics":
            client.log_batch(run_id, metrics=[Metric(*one) for one in call["values"]])
        case "params":
            client.log_batch(run_id, params=[Param(*one) for one in call["values"]])
        case "tag":
            client.set_tag(call.get("run") or run_id, call["name"], call["value"])
        case "text":
            client.log_text(run_id, call["text"], call["file"])
        case "file":
            client.log_artifact(run_id, str(folder / call["path"]), call["to"])
        case "folder":
            client.log_artifacts(run_id, str(folder / call["path"]), call["to"])
        case "inputs":
            inputs = [_input(one) for one in call["values"]]
            store.despite_others(lambda: client.log_inputs(run_id, inputs))
        case "model":
            return _log_model(client, run_id, folder / call["path"])
        case "end":
            client.set_terminated(run_id, call["status"], call["time"])
    return None


def _input(values: dict[str, Any]) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(Dataset(**values["dataset"]), [InputTag(key, text) for key, text in values["tags"].items()])


def _log_model(client: "MlflowClient", run_id: str, folder: Path) -> str:
    """Keep a checkpoint folder as the logged model of a run, and tag the run with its address; answer its id."""
    from mlflow.entities import LoggedModelOutput

    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(
        experiment_id, name="model", source_run_id=run_id, model_type="interatomic potential"
    )
    try:
        client.log_model_artifacts(model.model_id, str(folder))
    except Exception as error:
        if not _is_away(error):
            client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.set_tag(run_id, "model", f"models:/{model.model_id}")
    return str(model.model_id)


def _is_away(error: BaseException) -> bool:
    """Whether a store has not taken what it might take later: no answer, a full disk, too much to do."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, MlflowException):
        return error.error_code in AWAY
    return isinstance(error, OSError | SQLAlchemyError)  # those of requests are OSErrors


def _lock(place: Path) -> FileLock:
    """Of what is kept for a run: another process may send while the run still writes."""
    return FileLock(f"{place}.lock")
