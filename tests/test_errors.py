"""Passwords of URLs stand in no message, log, tag, parameter or copy of a config."""

import logging
import sys

import pytest
from hydra import compose, initialize_config_dir

from mlip_sweep.bars import TerminalHandler
from mlip_sweep.config import config_folder
from mlip_sweep.errors import InputError, SettingError, without_passwords
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
