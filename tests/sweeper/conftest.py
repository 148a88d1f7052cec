import sys
from pathlib import Path

import pytest
import toy_study
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from omegaconf.basecontainer import BaseContainer
from studies import Study

OWN_RESOLVERS = ("oc.", "hydra", "now", "python_version")


@pytest.fixture
def sweep(tmp_path, monkeypatch, capfd):
    """A function: overrides -> the study after a sweep with them. In this process; the trials have their own."""
    monkeypatch.chdir(tmp_path)
    # Resolvers that other tests' libraries have registered would have every worker import those libraries.
    own = {name: resolver for name, resolver in BaseContainer._resolvers.items() if name.startswith(OWN_RESOLVERS)}
    monkeypatch.setattr(BaseContainer, "_resolvers", own)
    state = Singleton.get_state()

    def run(*overrides: str, name: str = "toy", main=toy_study.main) -> Study:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["toy_study.py", "-m", f"hydra.sweeper.study_name={name}", *overrides])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        return Study(Path(tmp_path), name, code, out, err)

    yield run
    GlobalHydra.instance().clear()
    Singleton.set_state(state)
