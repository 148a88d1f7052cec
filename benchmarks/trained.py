"""A trained model for a benchmark, kept so that the next one need not train it again."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from mlip_sweep.config import config_folder
from mlip_sweep.data.cache import cached
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.models import checkpoint
from mlip_sweep.models.interface import Potential
from mlip_sweep.run.plan import Plan, make_plan
from mlip_sweep.run.train import build
from mlip_sweep.training.fit import fit

LOSS = ["loss.energy_weight=100", "loss.validation.energy_weight=1000", "loss.validation.forces_weight=10"]


def overrides_of(
    architecture: str, *, xyz: Path | None, n_train: int, epochs: int, seed: int, overrides: Sequence[str] = ()
) -> list[str]:
    """What a run of the demo's size is composed by, on a CPU, beginning anew; arguments as of `trained`."""
    data = ["dataset=extxyz", f"dataset.train={xyz.resolve()}"] if xyz else ["dataset=ethanol_xtb"]
    fixed = [f"model={architecture}", *data, f"dataset.n_train={n_train}", f"seed={seed}", "trainer=cpu", *LOSS]
    return [*fixed, f"trainer.max_epochs={epochs}", "trainer.progress=false", "trainer.resume=false", *overrides]


def plan_of(overrides: Sequence[str]) -> Plan:
    """The plan that overrides compose."""
    with initialize_config_dir(str(config_folder("conf")), version_base=None):
        return make_plan(compose("run", list(overrides)))


def trained(
    architecture: str,
    *,
    xyz: Path | None = None,
    n_train: int = 40,
    epochs: int = 60,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> tuple[Potential, Dataset]:
    """A model of the demo's size and its data.

    Args:
        architecture: "nequip" or "mace".
        xyz: training frames from a file that ASE reads; None for ethanol labelled by GFN2-xTB.
        n_train: how many frames.
        epochs: of the training.
        seed: of weights and order.
        overrides: of the run's config, such as model.num_features=32.
    """
    fixed = overrides_of(architecture, xyz=xyz, n_train=n_train, epochs=epochs, seed=seed, overrides=overrides)
    plan = plan_of(fixed)
    read = plan.read_data()
    cache = os.environ.get("MLIP_SWEEP_CACHE", "~/.cache/mlip-sweep")

    def train(file: Path) -> None:
        model = build(plan, read)
        splits = (read.dataset.graphs(split, model.cutoff) for split in ("train", "validation"))
        with tempfile.TemporaryDirectory() as folder:
            fit(model, *splits, plan.recipe, plan.settings.trainer, seed=seed, folder=Path(folder))
        checkpoint.save(model, file)

    recipe = {"overrides": fixed, "data": read.checksum}
    return checkpoint.load(cached(Path(cache) / "benchmarks", architecture, ".pt", recipe, train)), read.dataset
