"""A trained model for a benchmark, kept so that the next one need not train it again."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mlip_sweep.config import config_folder, made
from mlip_sweep.data.cache import made_once
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.frames import Dataset
from mlip_sweep.models import checkpoint
from mlip_sweep.models.interface import Potential
from mlip_sweep.training.fit import Recipe, fit
from mlip_sweep.training.loss import LossWeights


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
    data = ["dataset=extxyz", f"dataset.train={xyz.resolve()}"] if xyz else ["dataset=ethanol_xtb"]
    fixed = [f"model={architecture}", *data, f"dataset.n_train={n_train}", f"seed={seed}", "trainer=cpu"]
    fixed += [f"trainer.max_epochs={epochs}", "trainer.progress=false", "trainer.resume=false", *overrides]
    with initialize_config_dir(str(config_folder("conf")), version_base=None):
        cfg = compose("run", fixed)
    dataset = made(cfg.dataset, "dataset")
    key = hashlib.sha256(json.dumps([fixed, dataset.checksums], default=str).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("MLIP_SWEEP_CACHE", "~/.cache/mlip-sweep")).expanduser()

    def train(file: Path) -> None:
        settings = made(OmegaConf.create({"_target_": "mlip_sweep.config.TrainerSettings", **cfg.trainer}), "trainer")
        train, validation = (graphs_of(frames, cfg.model.cutoff) for frames in (dataset.train, dataset.validation))
        config = OmegaConf.to_container(cfg.model, resolve=True)
        rescaling = made(cfg.rescaling, "rescaling")(dataset)
        model = checkpoint.build(config, dataset, train, rescaling, dtype=settings.dtype, seed=seed)
        recipe = Recipe(made(cfg.optimizer, "optimizer"), LossWeights(100.0, 1000.0), LossWeights(1000.0, 10.0))
        with tempfile.TemporaryDirectory() as folder:
            fit(model, train, validation, recipe, settings, seed=seed, folder=Path(folder))
        checkpoint.save(model, file)

    return checkpoint.load(made_once(cache / "benchmarks" / f"{architecture}_{key}.pt", train)), dataset
