import pytest

from mlip_sweep.errors import InputError
from mlip_sweep.tracking.models import local_path, register
from mlip_sweep.tracking.run import record


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"weights")
    (folder / "config.yaml").write_text("seed: 1\n")
    return folder


def test_logged_model_comes_back_by_every_name(uri, checkpoint):
    with record(uri=uri, experiment="models", name="first") as rec:
        first = rec.model(checkpoint)
    assert register(uri, "ethanol", first, alias="best") == "1"

    (checkpoint / "checkpoint.pt").write_bytes(b"better weights")
    with record(uri=uri, experiment="models", name="second") as rec:
        second = rec.model(checkpoint)
    assert local_path("models:/ethanol@best", uri).joinpath("checkpoint.pt").read_bytes() == b"weights"
    assert register(uri, "ethanol", second, alias="best") == "2"

    for name in (f"models:/{second}", "models:/ethanol/2", "models:/ethanol@best", f"runs:/{rec.run_id}"):
        folder = local_path(name, uri)
        assert folder.joinpath("checkpoint.pt").read_bytes() == b"better weights"
        assert folder.joinpath("config.yaml").read_text() == "seed: 1\n"
    assert local_path("models:/ethanol/1", uri).joinpath("checkpoint.pt").read_bytes() == b"weights"


def test_a_plain_path_is_taken_as_it_is(checkpoint):
    assert local_path(str(checkpoint)) == checkpoint
    assert local_path(str(checkpoint / "checkpoint.pt")) == checkpoint


@pytest.mark.parametrize(
    "name", ["nowhere/at/all", "models:/m-0123", "models:/nobody/1", "models:/nobody@best", "runs:/0123"]
)
def test_a_model_that_is_absent_is_named(uri, name):
    with pytest.raises(InputError, match=name):
        local_path(name, uri)


def test_a_run_without_a_model_is_named(uri):
    with record(uri=uri, experiment="models", name="empty") as rec:
        pass
    with pytest.raises(InputError, match="has logged no model"):
        local_path(f"runs:/{rec.run_id}", uri)
