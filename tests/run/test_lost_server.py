"""An MLflow server that dies while a run trains costs no number: what it lacks is kept, and sent later."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from samples import installed

from mlip_sweep.metrics import objective_metric
from mlip_sweep.run.run import run
from mlip_sweep.tracking.models import local_path
from mlip_sweep.tracking.outbox import KEPT
from mlip_sweep.tracking.read import metric_history, stored_bytes, stored_runs
from mlip_sweep.training import best_weights
from mlip_sweep.training.metrics import VALIDATION_LOSS

pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")
ACCURACY = "+measurement={accuracy: {_target_: mlip_sweep.measurement.accuracy.Accuracy, max_atoms: 100}}"


@pytest.fixture
def server(tmp_path_factory):
    """The process of a real server, its address, and the store behind it, which outlives it."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", "--no-serve-artifacts"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--default-artifact-root",
        str(folder / "files"),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, start_new_session=True, **quiet)
    while not answers(f"http://127.0.0.1:{port}/health"):
        assert process.poll() is None, "the server did not start"
        time.sleep(0.2)
    yield process, f"http://127.0.0.1:{port}", f"sqlite:///{folder}/mlflow.db"
    kill(process)


def answers(address):
    try:
        urllib.request.urlopen(address).close()
    except OSError:
        return False
    return True


def kill(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too: the session is its own
        process.wait()


@pytest.mark.slow
def test_a_server_that_dies_while_a_run_trains_gets_all_of_it_later(composed, tmp_path, server, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the test need not wait
    process, uri, behind = server

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            kill(process)

    monkeypatch.setattr(best_weights.BestWeights, "on_train_epoch_start", on_train_epoch_start)
    value = run(composed(f"tracking.uri={uri}", ACCURACY), tmp_path)

    assert (tmp_path / "model" / "checkpoint.pt").is_file()
    (kept,) = (tmp_path / KEPT).glob("*/calls.jsonl")
    last = caplog.messages[-1]
    assert f"kept in {kept.parent}; once it is back, the same command with hydra.run.dir={tmp_path}" in last

    monkeypatch.undo()
    cfg = composed(f"tracking.uri={behind}", ACCURACY)
    assert run(cfg, tmp_path) == value
    (stored,) = stored_runs(behind, cfg.tracking.experiment)
    assert stored.status == "FINISHED"
    assert stored.metrics[objective_metric("validation/loss")] == value
    assert [len(part) for part in metric_history(behind, stored.run_id, VALIDATION_LOSS)] == [2, 2]
    assert stored_bytes(behind, stored.run_id, "accuracy/errors.csv")
    assert (local_path(f"runs:/{stored.run_id}", behind) / "checkpoint.pt").is_file()
    assert not list((tmp_path / KEPT).glob("*/"))
