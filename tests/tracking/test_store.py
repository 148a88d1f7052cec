import multiprocessing
import shutil
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mlip_sweep.errors import InputError
from mlip_sweep.tracking import store
from mlip_sweep.tracking.read import stored_runs


def write_one(folder, number):
    uri = store.prepare(f"sqlite:///{folder}/mlflow.db")
    client = store.client(uri)
    run = client.create_run(store.experiment_id(uri, "race"), tags={"kind": "run"})
    client.log_metric(run.info.run_id, "value", float(number))
    client.set_terminated(run.info.run_id)


def test_processes_that_open_a_fresh_store_together_all_record(tmp_path):
    # MLflow is imported once, in the server that the four are forked from: so they come to the file at the same moment.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store"])
    writers = [context.Process(target=write_one, args=(tmp_path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]

    runs = stored_runs(f"sqlite:///{tmp_path}/mlflow.db", "race")
    assert sorted(run.metrics["value"] for run in runs) == [0.0, 1.0, 2.0, 3.0]
    assert {run.status for run in runs} == {"FINISHED"}


def test_relative_store_is_taken_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store.resolve("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert store.resolve("sqlite:////a/b.db") == "sqlite:////a/b.db"


@pytest.mark.parametrize(
    "uri", ["mlruns", "file:///tmp/mlruns", "sqlite://", "sqlite:///", "sqlite:///:memory:", "http://", "http://host:x"]
)
def test_other_stores_are_refused(uri):
    with pytest.raises(InputError, match=r"tracking\.uri"):
        store.resolve(uri)


def test_artifacts_lie_beside_the_store(uri):
    experiment = store.client(uri).get_experiment(store.experiment_id(uri, "beside: it"))
    folder = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" / "beside_it"
    assert experiment.artifact_location == folder.as_uri()
    assert store.experiment_id(uri, "beside: it") == experiment.experiment_id


def test_deleted_experiment_is_named(uri):
    store.client(uri).delete_experiment(store.experiment_id(uri, "gone"))
    with pytest.raises(InputError, match=r"tracking.experiment='gone' was deleted"):
        store.experiment_id(uri, "gone")


def spoil(statement):
    """A function that makes a store of a file, by a statement of SQL that spoils it."""

    def spoiled(file, sound):
        shutil.copy(sound, file)
        with closing(sqlite3.connect(file)) as database:
            database.execute(statement)
            database.commit()

    return spoiled


SPOILED = {
    "notes": (lambda file, sound: file.write_text("these are notes, not a database" * 100), "file is not a database"),
    "cut off": (lambda file, sound: file.write_bytes(sound.read_bytes()[:5000]), "malformed"),
    "a folder": (lambda file, sound: file.mkdir(), "unable to open database file"),
    "below a file": (lambda file, sound: file.parent.write_text(""), "choose a folder"),
    "another's": (spoil("drop table experiments"), "experiments"),
    "of a newer MLflow": (spoil("update alembic_version set version_num = 'f00'"), "f00.*mlflow db upgrade"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_file_that_cannot_be_a_store_is_named_at_once(tmp_path, uri, kind):
    make, told = SPOILED[kind]
    file = tmp_path / "below" / "spoiled.db"
    if kind != "below a file":
        file.parent.mkdir()
    make(file, Path(uri.removeprefix("sqlite:///")))
    with pytest.raises(InputError, match=rf"spoiled\.db'.*{told}") as caught:
        store.prepare(f"sqlite:///{file}")
    assert "\n" not in str(caught.value)


def test_a_place_for_artifacts_that_cannot_be_a_folder_is_named(uri):
    store.client(uri).create_experiment("blocked", f"{uri.replace('sqlite', 'file')}/files")  # inside the database file
    with pytest.raises(InputError, match=r"mlflow\.db/files: .*figures and models go there"):
        store.experiment_id(uri, "blocked")


@pytest.fixture
def refusing_server():
    """A server that answers every question with the status in its path's first folder."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(int(self.path.split("/")[1]))
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://someone:secret@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "MLFLOW_TRACKING_USERNAME"), (403, "--allowed-hosts 127.0.0.1:"), (404, "not as an MLflow server does")],
)
def test_a_server_that_refuses_is_explained(refusing_server, status, remedy):
    with pytest.raises(InputError, match=remedy) as caught:
        store.prepare(f"{refusing_server}/{status}")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_explained(refusing_server):
    with pytest.raises(InputError, match="cannot be reached"):
        store.prepare("http://127.0.0.1:9")


def test_a_store_that_lacks_a_table_is_told_in_a_line(tmp_path, uri):
    spoil("drop table runs")(tmp_path / "spoiled.db", Path(uri.removeprefix("sqlite:///")))
    spoiled = f"sqlite:///{tmp_path}/spoiled.db"
    for asked in (
        lambda: stored_runs(spoiled),
        lambda: store.create_run(spoiled, store.experiment_id(spoiled, "new"), "run", {}),
    ):
        with pytest.raises(InputError, match=r"the store sqlite:.*spoiled\.db: .*runs.*; mend it") as caught:
            asked()
        assert "\n" not in str(caught.value)
