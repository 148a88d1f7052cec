"""A whole training: from a potential and graphs to the weights that are kept."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor

from mlip_sweep.config import TrainerSettings
from mlip_sweep.data.datamodule import evaluation_loader, training_loader
from mlip_sweep.data.graphs import GraphBatch, batches
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Potential
from mlip_sweep.training.averaging import WeightAverage
from mlip_sweep.training.best_weights import BestWeights
from mlip_sweep.training.energy_shift import FitEnergyShift
from mlip_sweep.training.lightning_messages import fewer_messages
from mlip_sweep.training.loss import Loss
from mlip_sweep.training.metrics import VALIDATION_LOSS
from mlip_sweep.training.module import TrainingModule
from mlip_sweep.training.progress import EpochBar
from mlip_sweep.training.stage import Stage

LAST = "last.ckpt"


@dataclass(frozen=True)
class Recipe:
    """How to train: what the config groups optimizer, averaging and loss were made into.

    Attributes:
        optimizer: Makes an optimiser of the parameters that it is given.
        loss: The loss of the training.
        validation_loss: The loss by which weights are kept, the same all along.
        fit_energy_shift: Whether the shift of the energies is fitted, in the validation and of the kept weights.
        averaging: The average of the weights that is validated and kept; None keeps them as they are trained.
        cycle: A stage that changes the weights of the training loss on the way; None leaves them.
    """

    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer]
    loss: Loss
    validation_loss: Loss
    fit_energy_shift: bool = False
    averaging: WeightAverage | None = None
    cycle: Stage | None = None


@dataclass(frozen=True)
class Kept:
    """Which weights a training has kept.

    Attributes:
        epoch: from 0, of which they are.
        validation_loss: of that epoch.
        energy_offset: what a fitted shift has taken from the energies of the training frames, eV/atom, root mean
            square; 0 where none was fitted.
    """

    epoch: int
    validation_loss: float
    energy_offset: float = 0.0


def fit(
    model: Potential,
    train: Sequence[GraphBatch],
    validation: Sequence[GraphBatch],
    recipe: Recipe,
    settings: TrainerSettings,
    *,
    seed: int,
    folder: Path,
    follow: Callback | None = None,
    callbacks: Sequence[Callback] = (),
    logger: Logger | None = None,
) -> Kept:
    """Train in place; afterwards the model carries the weights that are kept, in evaluation mode.

    Args:
        model: A fresh potential.
        train: One graph for each training frame.
        validation: One graph for each validation frame.
        recipe: The optimiser, the losses and the averaging.
        settings: The config group `trainer`.
        seed: Decides the order of batches.
        folder: The folder where `last.ckpt` goes after every `checkpoint_every` epochs, and where it is found with
            `settings.resume`.
        follow: A callback that is shown the weights of every validation, under EMA or SWA the average.
        callbacks: Callbacks that run after training's own; those that measure act in `on_fit_end`, on the kept weights.
        logger: Takes the metrics of epochs.
    """
    module = TrainingModule(
        model.train(),
        recipe.optimizer,
        loss=recipe.loss,
        validation_loss=recipe.validation_loss,
        plateau_factor=settings.plateau_factor,
        plateau_patience=settings.plateau_patience,
        cosine=settings.schedule == "cosine",
        warmup_epochs=settings.warmup_epochs,
        fit_energy_shift=recipe.fit_energy_shift,
    )
    best = BestWeights()
    shift = FitEnergyShift(batches(train, settings.max_atoms)) if recipe.fit_energy_shift else None
    own: list[Callback | None] = [
        recipe.cycle,
        best,  # before averaging: see BestWeights
        shift,  # after the best weights are in place
        follow,
        recipe.averaging,
        EpochBar() if settings.progress else None,
        _early_stopping(settings),
        ModelCheckpoint(
            dirpath=folder,
            filename=LAST.removesuffix(".ckpt"),
            every_n_epochs=settings.checkpoint_every,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    with fewer_messages():
        trainer = pl.Trainer(
            max_epochs=settings.max_epochs,
            accelerator=accelerator(settings.accelerator),
            devices=1,
            # One process, whatever the scheduler: inside a Slurm job Lightning would requeue it beside the launcher,
            # and count its tasks as ranks of one training.
            plugins=[LightningEnvironment()],
            gradient_clip_val=settings.gradient_clip,
            inference_mode=False,  # forces need gradients in validation too
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=0,  # epochs are logged, steps are not
            logger=logger or False,
            callbacks=[callback for callback in own if callback is not None] + list(callbacks),
            default_root_dir=folder,
        )
        last = folder / LAST
        resumed = settings.resume and last.is_file()
        if resumed:
            _check_weights(last, module)
        with interruptible(trainer):
            trainer.fit(
                module,
                training_loader(train, settings.batch_size, seed),
                evaluation_loader(validation, settings.max_atoms),
                ckpt_path=last if resumed else None,
                weights_only=True,
            )
    model.eval()
    return Kept(best.epoch, best.score, shift.offset if shift else 0.0)


def check_checkpoint(path: Path) -> dict[str, Any]:
    """What Lightning has written of a training; nothing in the file is run.

    Raises:
        InputError: the file is damaged, of another program, or holds more than numbers and words.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        complete = {"state_dict", "callbacks", "optimizer_states", "loops"} <= content.keys()
    except Exception:  # whatever unpickling makes of it
        complete = False
    if not complete:
        raise InputError(
            f"{path}: no checkpoint of a training, or a damaged one; remove it, or trainer.resume=false to start over"
        )
    return content


def _check_weights(path: Path, module: TrainingModule) -> None:
    """See that a checkpoint is of the model that is trained.

    Raises:
        InputError: it is of another.
    """
    kept: dict[str, Tensor] = check_checkpoint(path)["state_dict"]
    if {name: value.shape for name, value in kept.items()} != {n: v.shape for n, v in module.state_dict().items()}:
        raise InputError(f"{path}: of another model than is trained; remove it, or trainer.resume=false to start over")


@contextmanager
def interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Ctrl-C stays a KeyboardInterrupt: Lightning would exit with status 1, and ignore the next one."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if type(error) is SystemExit and trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except ValueError as error:
        if not main and isinstance(error.__context__, KeyboardInterrupt):  # it asks for a signal handler of the thread
            raise KeyboardInterrupt from None
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def accelerator(name: str) -> str:
    """Lightning's name for a setting of `trainer.accelerator`; "auto" takes a CUDA device where there is one.

    Lightning's own "auto" would take Apple's, which has no float64.

    Raises:
        InputError: a GPU is asked for, and there is none.
    """
    available = torch.cuda.is_available()
    if name == "gpu" and not available:
        raise InputError(
            f"trainer.accelerator=gpu: torch {torch.__version__} sees no CUDA device; choose trainer=cpu, or install a "
            "build of torch for this machine's driver"
        )
    return "cuda" if available and name != "cpu" else "cpu"


def _early_stopping(settings: TrainerSettings) -> EarlyStopping | None:
    if settings.early_stopping_patience is None:
        return None
    return EarlyStopping(VALIDATION_LOSS, patience=settings.early_stopping_patience, check_finite=False)
