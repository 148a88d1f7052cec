"""Passwords of URLs stand in no message, log, tag, parameter or copy of a config."""

import logging
import sys
import traceback

import pytest
from hydra import compose, initialize_config_dir

from mlip_sweep.bars import TerminalHandler
from mlip_sweep.config import config_folder
from mlip_sweep.errors import InputError, SettingError, conceal_passwords, without_passwords
from mlip_sweep.run.plan import make_plan
from mlip_sweep.tracking.run import flatten, one_line
from mlip_sweep.tracking.store import ui_hint

URL = "https://ada:s3cret@host:5000/runs"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "https://ada:***@host:5000/runs"),
        (
            "storage=postgresql+psycopg://ada:p:w@host/db, or none",
            "storage=postgresql+psycopg://ada:***@host/db, or none",
        ),
        ("http://:token@host", "http://:***@host"),
        ("http://ada:p@ss@host/a", "http://ada:***@host/a"),
        ("postgresql://host/db?user=ada&password=s3cret&x=1", "postgresql://host/db?user=ada&password=***&x=1"),
        ("https://host:5000/a@b", "https://host:5000/a@b"),
        ("sqlite:///mlflow.db and a:b@c", "sqlite:///mlflow.db and a:b@c"),
    ],
)
def test_only_passwords_are_hidden(text, shown):
    assert without_passwords(text) == shown


def test_errors_and_logs_hide_them(capsys):
    assert "s3cret" not in str(InputError(f"tracking.uri={URL}: no"))
    assert "s3cret" not in str(SettingError(f"uri={URL}: no").at("tracking"))
    assert "s3cret" not in one_line(RuntimeError(f"cannot reach {URL}"))
    log = logging.Logger("test")
    log.addHandler(TerminalHandler(sys.stderr))
    try:
        raise RuntimeError(URL)
    except RuntimeError:
        log.exception("lost %s", URL)
    said = capsys.readouterr().err
    assert "Traceback" in said and "ada:***@" in said and "s3cret" not in said


def test_a_traceback_of_a_library_hides_them():
    try:
        try:
            raise ConnectionError(f"API request to {URL} failed")
        except ConnectionError:
            raise RuntimeError("retries of", URL, 3)  # noqa: B904 - as libraries do
    except RuntimeError as error:
        conceal_passwords(error)
        told = "".join(traceback.format_exception(error))
    assert told.count("ada:***@host") == 2 and "s3cret" not in told


def test_records_hide_them_and_the_run_itself_has_them():
    with initialize_config_dir(str(config_folder("conf")), version_base=None):
        plan = make_plan(compose("run", [f"tracking.uri={URL}"]))
    assert plan.settings.tracking.uri == URL
    assert "s3cret" not in plan.yaml and "ada:***@host" in plan.yaml
    assert flatten(plan.resolved)["tracking.uri"] == "https://ada:***@host:5000/runs"
    assert "s3cret" not in ui_hint(URL)


def test_a_search_hides_that_of_its_storage(tmp_path):
    from hydra.errors import ConfigCompositionException

    from optuna_async.config import StudyAddress
    from optuna_async.storage import open_storage

    address = StudyAddress(storage="nosuch://ada:s3cret@host/db", name="s", folder=str(tmp_path))
    with pytest.raises(ConfigCompositionException, match=r"ada:\*\*\*@host") as error:
        open_storage(address)
    assert "s3cret" not in str(error.value)
