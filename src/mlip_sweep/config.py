"""The settings of a run, checked as a whole before any heavy work."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlip_sweep.errors import InputError

DEFAULT_URI = "sqlite:///mlflow.db"  # of MLflow, in the current folder

# Which measurement brings the metrics that begin with a prefix.
MEASURED_BY = {
    "loss_entropy": "landscape",
    "landscape_": "landscape",
    "rmse_": "accuracy",
    "mae_": "accuracy",
    "extrapolation_": "accuracy",
    "md_": "stability",
    "inference_": "inference_time",
}


def config_folder(name: str) -> Path:
    """Where `conf` or `sweeps` lies: inside the installed package, or at the root of a checkout."""
    installed = Path(__file__).parent / name
    return installed if installed.is_dir() else Path(__file__).parents[2] / name


@dataclass
class Seeds:
    """Named streams of random numbers; `seed` is the run's own and sets the first two."""

    model: int = 0  # initial weights
    order: int = 0  # order of batches
    data: int = 0  # splits, subsets, label noise, generated structures
    directions: int = 0  # landscape; the same for every trial of a sweep
    velocities: int = 0  # molecular dynamics; likewise


@dataclass
class TrainerSettings:
    """Config group `trainer`."""

    max_epochs: int = 100
    batch_size: int = 5
    accelerator: str = "auto"  # auto, cpu, gpu
    dtype: str = "float32"  # of the network; geometry and sums are float64 always
    gradient_clip: float = 10.0  # norm
    plateau_factor: float = 0.8
    plateau_patience: int = 50  # epochs
    early_stopping_patience: int | None = None  # epochs; null: never
    checkpoint_every: int = 10  # epochs
    resume: bool = True  # go on from last.ckpt, where the run's folder has one
    max_atoms: int = 1024  # of one batch in validation and measurement
    threads: int | None = None  # of torch on the CPU; null: torch's choice
    compile: bool = False  # by torch.compile, before the training
    progress: bool = True


@dataclass
class ValidationWeights:
    """Fixed weights of the validation loss."""

    energy_weight: float = 1.0  # per (eV/atom)²
    forces_weight: float = 1000.0  # per (eV/Å)²


@dataclass
class LossSettings:
    """Config group `loss`."""

    energy_weight: float = 1.0  # E_w, per (eV/atom)²
    forces_weight: float = 1000.0  # F_w, per (eV/Å)²
    validation: ValidationWeights = field(default_factory=ValidationWeights)
    cycle: Any = None  # a stage with other weights


@dataclass
class TrackingSettings:
    """Config group `tracking`."""

    uri: str = DEFAULT_URI
    experiment: str = "mlip-sweep"
    register: str | None = None  # name for the best model of a sweep, or for the model of a single run


@dataclass(frozen=True)
class RunSettings:
    """The checked settings of one run; groups that name a `_target_` stay as they are."""

    seeds: Seeds
    trainer: TrainerSettings
    loss: LossSettings
    tracking: TrackingSettings
    objectives: list[str]
    measurements: list[str]
    resume: bool


def parse(cfg: DictConfig) -> RunSettings:
    """Check a composed config.

    Raises:
        InputError: a value is unknown, of the wrong type, out of range, or does not go with another.
    """
    objective = cfg.objective
    settings = RunSettings(
        seeds=_typed(Seeds, cfg, "seeds"),
        trainer=_typed(TrainerSettings, cfg, "trainer"),
        loss=_typed(LossSettings, cfg, "loss"),
        tracking=_typed(TrackingSettings, cfg, "tracking"),
        objectives=[objective] if isinstance(objective, str) else [str(name) for name in objective or []],
        measurements=[str(name) for name, entry in (cfg.measurement or {}).items() if entry is not None],
        resume=bool(cfg.resume),
    )
    _check_trainer(settings.trainer)
    _check_loss(settings.loss)
    _check_objectives(settings)
    return settings


def made(entry: Any, place: str) -> Any:
    """What a config entry names by `_target_`: Hydra's `instantiate`, with mistakes told in a line.

    Raises:
        InputError: there is no such class or function, or it does not take its arguments.
    """
    try:
        return instantiate(entry)
    except Exception as error:  # Hydra wraps whatever was raised
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise cause from None
        raise InputError(f"{place}: {' '.join(str(cause).split())}; see conf/{place} for what it takes") from error


def _typed(schema: type, cfg: DictConfig, group: str) -> Any:
    try:
        given = OmegaConf.to_container(cfg[group], resolve=True)  # while interpolations still see the whole
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), given))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        key = getattr(error, "full_key", "") or ""
        raise InputError(f"{group}.{key}: {reason}; see conf/{group} for what it takes") from None


def _check_trainer(trainer: TrainerSettings) -> None:
    positive = ("max_epochs", "batch_size", "gradient_clip", "checkpoint_every", "max_atoms")
    for name in positive:
        if getattr(trainer, name) <= 0:
            raise InputError(f"trainer.{name}={getattr(trainer, name)}: give a positive number")
    if trainer.accelerator not in ("auto", "cpu", "gpu"):
        raise InputError(f"trainer.accelerator={trainer.accelerator!r}: choose one of auto, cpu, gpu")
    if trainer.dtype not in ("float32", "float64"):
        raise InputError(f"trainer.dtype={trainer.dtype!r}: choose one of float32, float64")
    if not 0.0 < trainer.plateau_factor < 1.0:
        raise InputError(f"trainer.plateau_factor={trainer.plateau_factor}: give a number between 0 and 1")


def _check_loss(loss: LossSettings) -> None:
    for place, weights in (("loss", loss), ("loss.validation", loss.validation)):
        pair = (weights.energy_weight, weights.forces_weight)
        if min(pair) < 0 or max(pair) == 0:
            raise InputError(
                f"{place}.energy_weight={pair[0]}, {place}.forces_weight={pair[1]}: give numbers that are not "
                "negative, one of them above 0"
            )


def _check_objectives(settings: RunSettings) -> None:
    if settings.tracking.register is not None and len(settings.objectives) > 1:
        raise InputError(
            f"tracking.register={settings.tracking.register}: of {len(settings.objectives)} objectives no model is "
            "simply the best; leave it out, and register the chosen one in the MLflow UI"
        )
    if not settings.objectives:
        raise InputError("objective is empty: name a metric, such as loss_entropy, or a list of them")
    for name in settings.objectives:
        for prefix, measurement in MEASURED_BY.items():
            if name.startswith(prefix) and measurement not in settings.measurements:
                raise InputError(
                    f"objective={name}: no measurement of this run gives it; choose a measurement with "
                    f"`{measurement}`, such as measurement=quick, or another objective, such as validation/loss"
                )
