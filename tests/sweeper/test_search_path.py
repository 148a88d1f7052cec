"""Who gets the sweeps that ship with mlip-sweep."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException

from mlip_sweep.config import config_folder


@pytest.fixture(autouse=True)
def no_hydra():
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


def test_mlip_sweep_finds_its_sweeps():
    with initialize_config_dir(str(config_folder("conf")), version_base="1.3"):
        assert compose("quickstart")


def test_another_program_does_not_find_them(tmp_path):
    (tmp_path / "own.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose("own").x == 1
        with pytest.raises(MissingConfigException, match="quickstart"):
            compose("quickstart")
