import re
from functools import partial
from pathlib import Path

import pytest
from ase.io import write
from hydra import compose, initialize_config_dir
from samples import ROOT, TINY, ethanol_frames

from mlip_sweep.data.reading import atoms_of


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('runs') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """Training and test frames."""
    folder = tmp_path_factory.mktemp("files")
    for name, seed, spread in [("train", 0, 0.05), ("cold", 1, 0.05), ("hot", 2, 0.1)]:
        write(folder / f"{name}.xyz", [atoms_of(f) for f in ethanol_frames(8, seed=seed, spread=spread)])
    return folder


@pytest.fixture
def composed_of_any(store_uri, files, request):
    """A function from overrides, of which some choose a model, to the config of a run in an experiment of the test."""
    experiment = re.sub(r"\W+", "_", request.node.name)
    fixed = [
        *("dataset=extxyz", f"dataset.train={files}/train.xyz", "trainer=cpu", "dataset.temperature=300"),
        f"dataset.tests={{300K: {files}/cold.xyz, 1200K: {files}/hot.xyz}}",
        *("trainer.max_epochs=2", "trainer.checkpoint_every=1", "trainer.progress=false", "measurement=none"),
        *("objective=validation/loss", f"tracking.uri={store_uri}", f"tracking.experiment={experiment}"),
    ]

    def compose_run(*overrides: str):
        with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
            return compose("run", overrides=[*fixed, *overrides])

    return compose_run


@pytest.fixture
def composed(composed_of_any):
    """A function from overrides to the config of a run of seconds, of a NequIP."""
    return partial(
        composed_of_any, "model=nequip", *(f"model.{name}={value}" for name, value in TINY["nequip"].items())
    )
