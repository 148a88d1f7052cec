"""The settings of a run that are plain numbers and words, checked as a whole before any heavy library is imported."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from mlip_sweep.errors import InputError, SettingError
from mlip_sweep.settings import settings

DEFAULT_URI = "sqlite:///mlflow.db"  # of MLflow, in the current folder


def config_folder(name: str) -> Path:
    """Where `conf` or `sweeps` lies: inside the installed package, or at the root of a checkout."""
    installed = Path(__file__).parent / name
    return installed if installed.is_dir() else Path(__file__).parents[2] / name


@settings
class Seeds:
    """Named streams of random numbers; `seed` is the run's own and sets the first two."""

    model: NonNegativeInt = 0  # initial weights
    order: NonNegativeInt = 0  # order of batches
    data: NonNegativeInt = 0  # splits, subsets, label noise, generated structures
    directions: NonNegativeInt = 0  # landscape; the same for every trial of a sweep
    velocities: NonNegativeInt = 0  # molecular dynamics; likewise


@settings
class TrainerSettings:
    """Config group `trainer`."""

    max_epochs: Annotated[int, Field(gt=0, le=10_000_000)] = 100
    batch_size: PositiveInt = 5
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    dtype: Literal["float32", "float64"] = "float32"  # of the network; geometry and sums are float64 always
    gradient_clip: PositiveFloat = 10.0  # norm
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    plateau_patience: NonNegativeInt = 50  # epochs
    early_stopping_patience: NonNegativeInt | None = None  # epochs; null: never
    checkpoint_every: PositiveInt = 10  # epochs
    resume: bool = True  # go on from last.ckpt, where the run's folder has one
    max_atoms: PositiveInt = 1024  # of one batch in validation and measurement
    threads: Annotated[int, Field(gt=0, le=1024)] | None = None  # of torch on the CPU; null: torch's choice
    compile: bool = False  # by torch.compile, before the training
    progress: bool = True


@settings
class TrackingSettings:
    """Config group `tracking`."""

    uri: str = DEFAULT_URI
    experiment: str = "mlip-sweep"
    register: str | None = None  # name for the best model of a sweep, or for the model of a single run


@dataclass(frozen=True)
class RunSettings:
    """The checked settings of one run; groups that name a `_target_` are made by `mlip_sweep.run.plan`.

    Attributes:
        seeds: the named streams.
        trainer: the group `trainer`.
        tracking: the group `tracking`.
        objectives: names of the metrics that the run returns.
        resume: whether a finished run of the same config and data is taken instead of training again.
    """

    seeds: Seeds = field(default_factory=Seeds)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    objectives: tuple[str, ...] = ("loss_entropy",)
    resume: bool = False


def parse(cfg: DictConfig) -> RunSettings:
    """Check the plain settings of a composed config.

    Raises:
        InputError: a value is unknown, of the wrong type, out of range, or does not go with another.
    """
    objective = cfg.objective
    run = RunSettings(
        seeds=_group(Seeds, cfg, "seeds"),
        trainer=_group(TrainerSettings, cfg, "trainer"),
        tracking=_group(TrackingSettings, cfg, "tracking"),
        objectives=(objective,) if isinstance(objective, str) else tuple(str(name) for name in objective or ()),
        resume=bool(cfg.resume),
    )
    if not run.objectives:
        raise InputError("objective is empty: name a metric, such as loss_entropy, or a list of them")
    if run.tracking.register is not None and len(run.objectives) > 1:
        raise InputError(
            f"tracking.register={run.tracking.register}: of {len(run.objectives)} objectives no model is "
            "simply the best; leave it out, and register the chosen one in the MLflow UI"
        )
    return run


def make(entry: Any, place: str, **more: Any) -> Any:
    """Make what a config entry names by `_target_`: Hydra's `instantiate`, with mistakes told in a line.

    Args:
        entry: of a config.
        place: where it stands, such as "optimizer" or "measurement.landscape".
        **more: arguments beside those of the entry.

    Raises:
        InputError: there is no such class or function, or it does not take its arguments.
    """
    group = place.partition(".")[0]
    try:
        return instantiate(entry, _convert_="all", **more)
    except Exception as error:  # Hydra wraps whatever was raised
        cause = error.__cause__ or error
        if isinstance(cause, SettingError):
            raise cause.at(place) from None
        if isinstance(cause, InputError):
            raise cause from None
        raise InputError(f"{place}: {' '.join(str(cause).split())}; see conf/{group} for what it takes") from error


def _group(kind: type, cfg: DictConfig, place: str) -> Any:
    """A group of plain settings."""
    try:
        values: Any = OmegaConf.to_container(cfg[place], resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(f"{place}: {str(error).splitlines()[0]}; see conf/{place} for what it takes") from None
    if not isinstance(values, dict):
        raise InputError(f"{place}={values!r}: choose one of the group, such as those of conf/{place}")
    try:
        return kind(**{str(name): value for name, value in values.items()})
    except SettingError as error:
        raise error.at(place) from None
