"""The same training by three trainers: this project's, `nequip-train` and `mace_run_train`.

Each runs whole, as its users start it. Every optimiser of torch tells when it has taken a step, so that one clock
serves all of them.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from ase.data import chemical_symbols
from omegaconf import OmegaConf
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import collate
from mlip_sweep.models.rescaling import Rescaling, forces_rms


@dataclass(frozen=True)
class Task:
    """What all of them train.

    Attributes:
        config: a composed run, resolved; its groups `model`, `optimizer`, `loss` and `trainer` are kept by all.
        dataset: training and validation frames.
        folder: with the same frames as train.xyz and validation.xyz; takes what trainers write.
        seed: of weights and of the order of batches.
    """

    config: dict[str, Any]
    dataset: Dataset
    folder: Path
    seed: int

    @property
    def rescaling(self) -> Rescaling:
        """The RMS of the forces and the mean energy of an atom."""
        return forces_rms(self.dataset)

    @property
    def avg_num_neighbors(self) -> float:
        """Over the training frames."""
        graphs = graphs_of(self.dataset.train, self.config["model"]["cutoff"])
        return sum(g.edge_index.shape[1] for g in graphs) / sum(len(g.positions) for g in graphs)


@dataclass(frozen=True)
class Timing:
    """When each optimiser step of a training ended, (seconds by the clock, seconds of CPU), and what it moved."""

    ends: list[tuple[float, float]]
    parameters: int


def timed(trainer: str, task: Task, threads: int) -> Timing:
    """Run one of `TRAINERS`."""
    torch.set_num_threads(threads)
    ends: list[tuple[float, float]] = []
    moved: list[int] = []

    def note(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        ends.append((time.perf_counter(), time.process_time()))
        if not moved:
            moved.append(sum(p.numel() for group in optimizer.param_groups for p in group["params"]))

    hook = register_optimizer_step_post_hook(note)
    try:
        TRAINERS[trainer](task)
    finally:
        hook.remove()
    return Timing(ends, moved[0])


def mlip_sweep(task: Task) -> None:
    """`fit`, as a run calls it."""
    from mlip_sweep.config import TrainerSettings, make
    from mlip_sweep.models import checkpoint
    from mlip_sweep.models.compiled import compile_potential
    from mlip_sweep.training.fit import Recipe, fit
    from mlip_sweep.training.loss import losses_of

    config = task.config
    settings = TrainerSettings(**config["trainer"])
    loss, _ = losses_of(config["loss"])
    data = task.dataset
    train, validation = (graphs_of(frames, config["model"]["cutoff"]) for frames in (data.train, data.validation))
    model = checkpoint.build(config["model"], data, train, task.rescaling, dtype=settings.dtype, seed=task.seed)
    recipe = Recipe(make(OmegaConf.create(config["optimizer"]), "optimizer"), loss, loss)
    if settings.compile:
        compile_potential(model, collate(train[: settings.batch_size]), training=True)
    fit(model, train, validation, recipe, settings, seed=task.seed, folder=task.folder)


def nequip_train(task: Task) -> None:
    """`nequip-train` of the nequip package, eager or by torch.compile as `trainer.compile` says."""
    from nequip.scripts.train import main

    (task.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(_nequip_config(task))))
    OmegaConf.clear_resolver("training_data_stats")  # it registers its own, and could not train twice
    with _arguments("nequip-train", "-cp", str(task.folder), "-cn", "config", f"hydra.run.dir={task.folder}"):
        main()


def _nequip_config(task: Task) -> dict[str, Any]:
    model = {k: v for k, v in task.config["model"].items() if k not in ("_target_", "cutoff")}
    trainer, loss = task.config["trainer"], task.config["loss"]
    optimizer = {k: v for k, v in task.config["optimizer"].items() if k != "_partial_"}
    symbols = [chemical_symbols[z] for z in task.dataset.atomic_numbers]
    batches = {"_target_": "torch.utils.data.DataLoader", "batch_size": trainer["batch_size"]}
    weights = {"total_energy": loss["energy_weight"], "forces": loss["forces_weight"]}
    return {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": task.seed,
            "train_file_path": str(task.folder / "train.xyz"),
            "val_file_path": str(task.folder / "validation.xyz"),
            "include_keys": ["energy_label", "forces_label"],
            "key_mapping": {"energy_label": "total_energy", "forces_label": "forces"},
            "transforms": [
                {
                    "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                    "model_type_names": symbols,
                    "chemical_species_to_atom_type_map": {symbol: symbol for symbol in symbols},
                },
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": task.config["model"]["cutoff"]},
            ],
            "train_dataloader": {**batches, "shuffle": True},
            "val_dataloader": batches,
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "max_epochs": trainer["max_epochs"],
            "accelerator": "gpu" if trainer["accelerator"] == "gpu" else "cpu",
            "gradient_clip_val": trainer["gradient_clip"],
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
            "num_sanity_val_steps": 0,
        },
        "training_module": {
            "_target_": "nequip.train.NequIPLightningModule",
            "loss": {"_target_": "nequip.train.EnergyForceLoss", "per_atom_energy": True, "coeffs": weights},
            "val_metrics": {"_target_": "nequip.train.EnergyForceMetrics", "coeffs": {"forces_rmse": 1.0}},
            "optimizer": optimizer,
            "model": {
                "_target_": "nequip.model.NequIPGNNModel",
                **model,
                "r_max": task.config["model"]["cutoff"],
                "type_names": symbols,
                "seed": task.seed,
                "model_dtype": trainer["dtype"],
                "compile_mode": "compile" if trainer["compile"] else "eager",
                "avg_num_neighbors": task.avg_num_neighbors,
                "per_type_energy_scales": float(task.rescaling.scale),
                "per_type_energy_shifts": dict(zip(symbols, task.rescaling.shift.tolist(), strict=True)),
            },
        },
    }


def mace_run_train(task: Task) -> None:
    """`mace_run_train` of mace-torch."""
    from mace.cli import run_train

    model, trainer, loss = (task.config[group] for group in ("model", "trainer", "loss"))
    optimizer = task.config["optimizer"]
    hidden = " + ".join(f"{model['num_channels']}x{order}{'eo'[order % 2]}" for order in range(model["max_L"] + 1))
    block = "RealAgnosticResidualInteractionBlock"
    shifts = dict(zip(task.dataset.atomic_numbers, task.rescaling.shift.tolist(), strict=True))
    options = {
        "name": "benchmark",
        "train_file": task.folder / "train.xyz",
        "valid_file": task.folder / "validation.xyz",
        "energy_key": "energy_label",
        "forces_key": "forces_label",
        "work_dir": task.folder,
        "E0s": shifts,
        "scaling": "rms_forces_scaling",
        "model": "ScaleShiftMACE",
        "interaction": block,
        "interaction_first": block,
        "r_max": model["cutoff"],
        "num_interactions": model["num_interactions"],
        "max_ell": model["max_ell"],
        "correlation": model["correlation"],
        "hidden_irreps": hidden,
        "MLP_irreps": f"{model['readout_width']}x0e",
        "radial_MLP": [model["radial_mlp_width"]] * 3,
        "num_radial_basis": model["num_bessels"],
        "num_cutoff_basis": model["polynomial_cutoff_p"],
        "loss": "weighted",
        "energy_weight": loss["energy_weight"],
        "forces_weight": loss["forces_weight"],
        "lr": optimizer["lr"],
        "weight_decay": optimizer["weight_decay"],
        "batch_size": trainer["batch_size"],
        "valid_batch_size": trainer["batch_size"],
        "clip_grad": trainer["gradient_clip"],
        "max_num_epochs": trainer["max_epochs"],
        "default_dtype": trainer["dtype"],
        "device": "cuda" if trainer["accelerator"] == "gpu" else "cpu",
        "plot": False,
        "seed": task.seed,
    }
    flags = ["--amsgrad"] if optimizer["amsgrad"] else []
    with _arguments("mace_run_train", *(f"--{key}={value}" for key, value in options.items()), *flags):
        run_train.main()


@contextmanager
def _arguments(*words: str) -> Iterator[None]:
    """A command line for a program that is run in this process."""
    with patch.object(sys, "argv", list(words)):
        yield


TRAINERS: dict[str, Callable[[Task], None]] = {
    "mlip-sweep": mlip_sweep,
    "nequip-train": nequip_train,
    "mace_run_train": mace_run_train,
}
PEERS = {"nequip": "nequip-train", "mace": "mace_run_train"}
