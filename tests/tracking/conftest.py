import pytest

from mlip_sweep.tracking import store


@pytest.fixture(scope="session")
def uri(tmp_path_factory):
    """One SQLite store for the whole session: laying its tables takes seconds."""
    return store.prepare(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")
