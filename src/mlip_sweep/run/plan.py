"""First step of a run: make and check everything that its config names, before data, compiling and training."""

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlip_sweep import clock
from mlip_sweep.config import RunSettings, make, parse
from mlip_sweep.data.checksums import data_checksum
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.errors import InputError, without_passwords
from mlip_sweep.measurement.chosen import check_measurements, check_objectives, measurements_of
from mlip_sweep.measurement.interface import Measurement
from mlip_sweep.measurement.intermediate import IntermediateValue
from mlip_sweep.models import checkpoint
from mlip_sweep.models.rescaling import Rescaling
from mlip_sweep.tracking.runs_of_config import config_checksum
from mlip_sweep.training.fit import Recipe, accelerator
from mlip_sweep.training.loss import fits_energy_shift, losses_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The data set of a run, found fit for what will be trained and measured on it.

    Attributes:
        dataset: the frames.
        checksum: of all that they hold.
        rescaling: computed on the training frames.
        seconds: that reading or making them took.
    """

    dataset: Dataset
    checksum: str
    rescaling: Rescaling
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        settings: the plain settings.
        resolved: the whole config, every interpolation resolved.
        checksum: of all in the config that a number depends on.
        dataset: reads or makes the data set.
        rescaling: computes the rescaling on a data set.
        recipe: optimiser, losses and averaging.
        intermediate: what is followed while the model trains; None for nothing.
        measurements: what is measured afterwards, by the names of their entries.
    """

    settings: RunSettings
    resolved: dict[str, Any]
    checksum: str
    dataset: Callable[[], Dataset]
    rescaling: Callable[[Dataset], Rescaling]
    recipe: Recipe
    intermediate: IntermediateValue | None
    measurements: Mapping[str, Measurement]

    @property
    def model(self) -> dict[str, Any]:
        """The architecture's `_target_` and hyperparameters."""
        return dict(self.resolved["model"])

    @property
    def yaml(self) -> str:
        """The resolved config as text, without the passwords of URLs."""
        return without_passwords(OmegaConf.to_yaml(OmegaConf.create(self.resolved)))

    @property
    def averaging(self) -> str:
        """The chosen averaging, as a word."""
        return type(self.recipe.averaging).__name__ if self.recipe.averaging else "none"

    def read_data(self) -> Data:
        """Read or make the data set, and see that everything planned can be done on it.

        Raises:
            InputError: it cannot be had, or a rescaling or a measurement cannot work on it.
        """
        start = clock.now()
        dataset = self.dataset()
        for note in dataset.notes:
            log.info("dataset: %s", note)
        check_measurements(self.measurements, dataset)
        rescaling = self.rescaling(dataset)
        return Data(dataset, data_checksum(dataset), rescaling, clock.now() - start)


def make_plan(cfg: DictConfig) -> Plan:
    """Make and check everything that a composed config names.

    Raises:
        InputError: a value is unknown, of the wrong type or out of range; a class or function does not exist, is not
            installed, or does not take its arguments; or the objective is nothing that the run records.
    """
    settings = parse(cfg)
    try:
        resolved: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise InputError(f"config: {' '.join(str(error).split())}") from None
    accelerator(settings.trainer.accelerator)
    measurements = measurements_of(cfg)
    check_objectives(settings.objectives, measurements)
    checkpoint.check_hyperparameters(resolved["model"])
    loss, validation_loss = losses_of(resolved["loss"])
    return Plan(
        settings=settings,
        resolved=resolved,
        checksum=config_checksum(resolved),
        dataset=checked_call(cfg.dataset, "dataset"),
        rescaling=make(cfg.rescaling, "rescaling"),
        recipe=Recipe(
            optimizer=checked_optimizer(cfg.optimizer),
            loss=loss,
            validation_loss=validation_loss,
            fit_energy_shift=fits_energy_shift(resolved["loss"]),
            averaging=make(cfg.averaging, "averaging") or None,
            cycle=make(cfg.loss.cycle, "loss.cycle") if cfg.loss.cycle else None,
        ),
        intermediate=make(cfg.pruning, "pruning") if cfg.pruning else None,
        measurements=measurements,
    )


def checked_call(entry: DictConfig, place: str) -> Callable[[], Any]:
    """What makes a config entry when it is called; that it can be called with its arguments is checked now.

    Raises:
        InputError: there is no such function, or it does not take its arguments.
    """
    target = OmegaConf.select(entry, "_target_") if entry is not None else None
    if not target:
        raise InputError(f"{place}: names nothing to make; choose one of conf/{place}")
    given = [str(key) for key in entry if not str(key).startswith("_")]
    try:
        parameters = inspect.signature(get_method(target)).parameters
    except Exception as error:  # Hydra's own message says what is missing
        raise InputError(f"{place}._target_={target}: {' '.join(str(error).split())}") from error
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in given:
            if name not in parameters:
                raise InputError(f"{place}.{name}: there is no such setting; there are {', '.join(parameters)}")
    return partial(make, entry, place)


def checked_optimizer(entry: DictConfig) -> Callable[[Any], torch.optim.Optimizer]:
    """From parameters to an optimiser; that it takes its arguments is checked now.

    Raises:
        InputError: it does not.
    """
    optimizer: Callable[[Any], torch.optim.Optimizer] = make(entry, "optimizer")
    try:
        optimizer([torch.zeros(shape, requires_grad=True) for shape in (1, (1, 1))])  # some look at the shape
    except (TypeError, ValueError) as error:
        values: dict[str, Any] = OmegaConf.to_container(entry, resolve=True)  # type: ignore[assignment]
        given = ", ".join(f"{key}={value}" for key, value in values.items() if not key.startswith("_"))
        raise InputError(f"optimizer: {error} (given {given})") from error
    return optimizer
