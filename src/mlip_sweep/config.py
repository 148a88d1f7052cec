"""The settings of a run that are plain numbers and words, checked as a whole before any heavy library is imported."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from mlip_sweep.composition import TARGET, VALUES, package_of, plain_values, targets
from mlip_sweep.errors import InputError, SettingError, in_a_line
from mlip_sweep.settings import Seed, Words, settings

DEFAULT_URI = "sqlite:///mlflow.db"  # of MLflow, in the current folder
NAME = r"(?!.*[\x00-\x1f/\\:@])[^\s.](.{0,198}[^\s.])?"  # of an experiment and of a registered model


def config_folder(name: str) -> Path:
    """Where `conf` or `sweeps` lies: inside the installed package, or at the root of a checkout."""
    installed = Path(__file__).parent / name
    return installed if installed.is_dir() else Path(__file__).parents[2] / name


@settings
class Seeds:
    """Named streams of random numbers; `seed` is the run's own and sets the first two."""

    model: Seed = 0  # initial weights
    order: Seed = 0  # order of batches
    data: Seed = 0  # splits, subsets, label noise, generated structures
    directions: Seed = 0  # landscape; the same for every trial of a sweep
    velocities: Seed = 0  # molecular dynamics; likewise


@settings
class TrainerSettings:
    """Config group `trainer`."""

    max_epochs: Annotated[int, Field(gt=0, le=10_000_000)] = 100
    batch_size: PositiveInt = 5
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    dtype: Literal["float32", "float64"] = "float32"  # of the network; geometry and sums are float64 always
    gradient_clip: PositiveFloat = 10.0  # norm
    schedule: Literal["plateau", "cosine"] = "plateau"  # of the learning rate
    warmup_epochs: NonNegativeInt = 0  # before the cosine
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    plateau_patience: NonNegativeInt = 50  # epochs
    early_stopping_patience: NonNegativeInt | None = None  # epochs; null: never
    checkpoint_every: PositiveInt = 10  # epochs
    resume: bool = True  # go on from last.ckpt, where the run's folder has one
    max_atoms: PositiveInt = 1024  # of one batch in validation and measurement
    threads: Annotated[int, Field(gt=0, le=1024)] | None = None  # of torch on the CPU; null: torch's choice
    compile: bool = False  # by torch.compile, before the training
    progress: bool = True

    def __post_init__(self) -> None:
        if self.warmup_epochs and self.schedule != "cosine":
            raise SettingError(f"warmup_epochs={self.warmup_epochs}: schedule={self.schedule} has none; take cosine")
        if self.warmup_epochs >= self.max_epochs:
            raise SettingError(f"warmup_epochs={self.warmup_epochs}: give fewer than max_epochs={self.max_epochs}")


@settings
class TrackingSettings:
    """Config group `tracking`.

    Names are those that MLflow takes, and that serve as the name of a folder and as a part of `models:/NAME@best`.
    """

    uri: Annotated[str, Field(min_length=1)] = DEFAULT_URI
    experiment: str = "mlip-sweep"
    register: str | None = None  # name for the best model of a sweep, or for the model of a single run

    def __post_init__(self) -> None:
        for setting, name in (("experiment", self.experiment), ("register", self.register)):
            if name is not None and not re.fullmatch(NAME, name):
                raise SettingError(
                    f"{setting}={name!r}: give a name without '/', '\\', ':' and '@', and without a space or dot at "
                    "its ends"
                )


@settings
class Values:
    """What stands in a config outside of its groups."""

    objective: Words
    resume: bool = False
    seed: Seed = 0
    packages: Words = ()  # of the user, whose code a config may name

    def __post_init__(self) -> None:
        if not self.objective or not all(self.objective):
            raise SettingError("objective is empty: name a metric, such as loss_entropy, or a list of them")
        if len(set(self.objective)) < len(self.objective):
            raise SettingError(f"objective=[{', '.join(self.objective)}]: name each metric once")


@dataclass(frozen=True)
class RunSettings:
    """The checked settings of one run; groups that name a `_target_` are made by `mlip_sweep.run.plan`.

    Attributes:
        seeds: the named streams.
        trainer: the group `trainer`.
        tracking: the group `tracking`.
        objectives: names of the metrics that the run returns.
        resume: whether a finished run of the same config and data is taken instead of training again.
        resolved: the whole config as plain values, every interpolation resolved.
    """

    seeds: Seeds = field(default_factory=Seeds)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    objectives: tuple[str, ...] = ("loss_entropy",)
    resume: bool = False
    resolved: dict[str, Any] = field(default_factory=dict)


@cache
def group_settings(group: str, choice: str) -> Mapping[str, str]:
    """The settings of a shipped file of a config group: dotted names below the group, and values as text.

    Args:
        group: such as "loss".
        choice: such as "weight_cycle"; nothing is known of one that is not shipped.
    """
    file = config_folder("conf") / group / f"{choice}.yaml"
    if not file.is_file():
        return {}
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    found: dict[str, str] = {}
    for below in content.pop("defaults", []):
        if isinstance(below, str) and below != "_self_":
            found |= group_settings(group, below)
    return found | _flat(content)


def _flat(content: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Dotted names to values as text."""
    found: dict[str, str] = {}
    for name, value in content.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": str(value)}
    return found


def parse(cfg: DictConfig) -> RunSettings:
    """Check a composed config as far as that needs nothing that it names.

    Raises:
        InputError: a value is unknown, of the wrong type, out of range, or does not go with another.
    """
    resolved = plain_values(cfg)
    values = Values(**{name: resolved[name] for name in VALUES if name in resolved})
    return RunSettings(
        seeds=_checked(Seeds, resolved["seeds"], "seeds"),
        trainer=_checked(TrainerSettings, resolved["trainer"], "trainer"),
        tracking=tracking_of(resolved["tracking"], values.objective),
        objectives=values.objective,
        resume=values.resume,
        resolved=resolved,
    )


def tracking_of(group: Any, objectives: Sequence[str]) -> TrackingSettings:
    """The checked group `tracking`.

    Args:
        group: as Hydra composed it, or as plain values.
        objectives: names of the metrics that a run returns.

    Raises:
        InputError: a value does not serve, or there is no one best model to register.
    """
    tracking: TrackingSettings = _checked(TrackingSettings, plain(group, "tracking"), "tracking")
    if tracking.register is not None and len(objectives) > 1:
        raise InputError(
            f"tracking.register={tracking.register}: of {len(objectives)} objectives no model is "
            "simply the best; leave it out, and register the chosen one in the MLflow UI"
        )
    return tracking


def make(entry: Any, place: str, **more: Any) -> Any:
    """Make what a config entry names by `_target_`: Hydra's `instantiate`, with mistakes told in a line.

    Which packages the entry may name was checked when the config was read (`composition`); here each name is found to
    be the package's own, and nothing that the package has imported.

    Args:
        entry: of a config.
        place: where it stands, such as "optimizer" or "measurement.landscape".
        **more: arguments beside those of the entry.

    Raises:
        InputError: there is no such class or function, or it does not take its arguments.
    """
    group = place.partition(".")[0]
    values = plain(entry, place)
    if not isinstance(values, dict) or TARGET not in values:
        raise InputError(f"{place}: names nothing to make; choose one of conf/{group}")
    for where, target in targets(values, place):
        located(target, where)
    try:
        return instantiate(values, _convert_="all", **more)
    except Exception as error:  # Hydra wraps whatever was raised
        cause = error.__cause__ or error
        if isinstance(cause, SettingError):
            raise cause.at(place) from None
        if isinstance(cause, InputError):
            raise cause from None
        raise InputError(f"{place}: {in_a_line(cause)}; see conf/{group} for what it takes") from error


def located(target: Any, place: str) -> Any:
    """The class or function of a `_target_`, which must be its package's own.

    Args:
        target: its dotted name.
        place: of the name in the config, such as "model._target_".

    Raises:
        InputError: there is nothing of that name, or it is another package's, which this one has imported.
    """
    package = package_of(str(target)) or str(target).partition(".")[0]
    try:
        found = get_object(target)
    except Exception as error:  # whatever the import of a module raises
        raise InputError(f"{place}={target}: {in_a_line(error)}") from error
    home = str(getattr(found, "__module__", None))
    if not callable(found) or not f"{home}.".startswith(f"{package}."):
        raise InputError(f"{place}={target}: no class or function of {package}; name one")
    return found


def plain(entry: Any, place: str) -> Any:
    """An entry of a config as plain values.

    Raises:
        InputError: a value is missing, or cannot be resolved.
    """
    if not OmegaConf.is_config(entry):
        return entry
    try:
        return OmegaConf.to_container(entry, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        group = place.partition(".")[0]
        raise InputError(f"{place}: {str(error).splitlines()[0]}; see conf/{group} for what it takes") from None


def _checked(kind: type, values: Any, place: str) -> Any:
    """A class of settings with the values of a group."""
    if not isinstance(values, dict):
        raise InputError(f"{place}={values!r}: choose one of the group, such as those of conf/{place}")
    try:
        return kind(**{str(name): value for name, value in values.items()})
    except SettingError as error:
        raise error.at(place) from None
