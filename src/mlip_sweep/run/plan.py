"""First step of a run: make and check everything that its config names, before data, compiling and training."""

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf

from mlip_sweep import clock
from mlip_sweep.composition import TARGET
from mlip_sweep.config import RunSettings, located, make, parse
from mlip_sweep.data.checksums import data_checksum
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.errors import InputError, SettingError, in_a_line, without_passwords
from mlip_sweep.measurement.chosen import check_measurements, check_objectives, measurements_of
from mlip_sweep.measurement.interface import Measurement
from mlip_sweep.measurement.intermediate import IntermediateValue
from mlip_sweep.models import checkpoint
from mlip_sweep.models.rescaling import Rescaling
from mlip_sweep.run.initial_weights import InitialWeights, architecture_settings, initial_weights
from mlip_sweep.tracking.runs_of_config import config_checksum
from mlip_sweep.training.averaging import WeightAverage
from mlip_sweep.training.fit import Recipe, accelerator
from mlip_sweep.training.loss import fits_energy_shift, losses_of
from mlip_sweep.training.stage import Stage
from mlip_sweep.training.weight_cycle import WeightCycle

log = logging.getLogger(__name__)

Made = TypeVar("Made")


@dataclass(frozen=True)
class Data:
    """The data set of a run, found fit for what will be trained and measured on it.

    Attributes:
        dataset: the frames.
        checksum: of all that they hold.
        rescaling: computed on the training frames, or that of the weights that the training begins from.
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
        checksum: of all in the config that a number depends on, and of the weights that the training begins from.
        dataset: reads or makes the data set.
        rescaling: computes the rescaling on a data set.
        initial_weights: that the training begins from; None for random ones.
        recipe: optimiser, losses and averaging.
        intermediate: what is followed while the model trains; None for nothing.
        measurements: what is measured afterwards, by the names of their entries.
    """

    settings: RunSettings
    checksum: str
    dataset: Callable[[], Dataset]
    rescaling: Callable[[Dataset], Rescaling]
    initial_weights: InitialWeights | None
    recipe: Recipe
    intermediate: IntermediateValue | None
    measurements: Mapping[str, Measurement]

    @property
    def resolved(self) -> dict[str, Any]:
        """The whole config, every interpolation resolved."""
        return self.settings.resolved

    @property
    def model(self) -> dict[str, Any]:
        """The architecture's `_target_` and hyperparameters."""
        return architecture_settings(self.resolved["model"])

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
            InputError: it cannot be had, a rescaling or a measurement cannot work on it, or it has elements that the
                weights that the training begins from do not know.
        """
        start = clock.now()
        dataset = self.dataset()
        if not isinstance(dataset, Dataset):
            target = self.resolved["dataset"]["_target_"]
            raise InputError(
                f"dataset._target_={target}: it makes no {Dataset.__module__}.Dataset; name what makes one"
            )
        for note in dataset.notes:
            log.info("dataset: %s", note)
        check_objectives(self.settings.objectives, self.measurements, dataset)
        check_measurements(self.measurements, dataset)
        if self.initial_weights is not None:
            self.initial_weights.check_elements(dataset.atomic_numbers)
        rescaling = self.rescaling(dataset)
        return Data(dataset, data_checksum(dataset), rescaling, clock.now() - start)


def make_plan(cfg: DictConfig) -> Plan:
    """Make and check everything that a composed config names.

    Raises:
        InputError: a value is unknown, of the wrong type or out of range; a class or function does not exist, is not
            installed, or does not take its arguments; or the objective is nothing that the run records.
    """
    settings = parse(cfg)
    groups = settings.resolved
    epochs = settings.trainer.max_epochs
    accelerator(settings.trainer.accelerator)
    measurements = measurements_of(groups)
    check_objectives(settings.objectives, measurements)
    if groups["model"].get(TARGET):
        checkpoint.check_hyperparameters(architecture_settings(groups["model"]))
    weights = initial_weights(groups["model"], settings.tracking.uri)
    # As the record is to have it: with the checksum of the weights, and without a word where there are none.
    groups = groups | {"model": weights.model if weights else architecture_settings(groups["model"])}
    loss, validation_loss = losses_of(groups["loss"])
    cycle = _made(groups["loss"].get("cycle"), "loss.cycle", WeightCycle)
    averaging = _made(groups["averaging"], "averaging", WeightAverage)
    for stage, place in ((cycle, "loss.cycle"), (averaging, "averaging")):
        try:
            if isinstance(stage, Stage):
                stage.first_epoch(epochs)
        except SettingError as error:
            raise error.at(place) from None
    intermediate = _made(groups["pruning"], "pruning", IntermediateValue)  # type: ignore[type-abstract]
    if intermediate is not None and intermediate.every >= epochs:
        raise InputError(
            f"pruning.every={intermediate.every}: trainer.max_epochs={epochs} leaves no value to report, as the last "
            "epoch needs none; give a smaller number, or pruning=none"
        )
    rescaling = checked_rescaling(groups["rescaling"])
    return Plan(
        settings=replace(settings, resolved=groups),
        checksum=config_checksum(groups),
        dataset=checked_call(groups["dataset"], "dataset"),
        rescaling=rescaling if weights is None else lambda dataset: weights.rescaling,
        initial_weights=weights,
        recipe=Recipe(
            optimizer=checked_optimizer(groups["optimizer"]),
            loss=loss,
            validation_loss=validation_loss,
            fit_energy_shift=fits_energy_shift(groups["loss"]),
            averaging=averaging,
            cycle=cycle,
        ),
        intermediate=intermediate,
        measurements=measurements,
    )


def _made(entry: Any, place: str, kind: type[Made]) -> Made | None:
    """What an entry makes; None where it is null or empty.

    Raises:
        InputError: it makes something of another kind.
    """
    if not entry:
        return None
    made = make(entry, place)
    if not isinstance(made, kind):
        raise InputError(f"{place}: {entry['_target_']} makes no {kind.__module__}.{kind.__name__}; choose one")
    return made


def checked_call(entry: Mapping[str, Any], place: str) -> Callable[[], Any]:
    """What makes a config entry when it is called; that it can be called with its arguments is checked now.

    Raises:
        InputError: there is no such function, or it does not take its arguments.
    """
    target = entry.get("_target_")
    if not target:
        raise InputError(f"{place}: names nothing to make; choose one of conf/{place}")
    given = [str(key) for key in entry if not str(key).startswith("_")]
    function = located(target, f"{place}._target_")
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:  # of what is written in C
        raise InputError(f"{place}._target_={target}: {error}") from None
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in given:
            if name not in parameters:
                raise InputError(f"{place}.{name}: there is no such setting; there are {', '.join(parameters)}")
    return partial(make, entry, place)


def checked_rescaling(entry: Mapping[str, Any]) -> Callable[[Dataset], Rescaling]:
    """From a data set to its rescaling; that it takes its arguments is checked now.

    Raises:
        InputError: it does not.
    """
    rescaling = make(entry, "rescaling")
    try:
        inspect.signature(rescaling).bind("a data set")
    except (TypeError, ValueError):  # the latter of a partial function with arguments that it has not
        given = ", ".join(str(key) for key in entry if not str(key).startswith("_")) or "a data set alone"
        raise InputError(
            f"rescaling: {entry['_target_']} does not take {given}; see conf/rescaling for what it takes"
        ) from None
    return rescaling


def checked_optimizer(entry: Mapping[str, Any]) -> Callable[[Any], torch.optim.Optimizer]:
    """From parameters to an optimiser; that it takes its arguments is checked now.

    Raises:
        InputError: it does not, it would move nothing, or it makes no optimiser.
    """
    rate = entry.get("lr", 1.0)
    if type(rate) not in (int, float) or not rate > 0.0:
        raise InputError(f"optimizer.lr={rate!r}: give a number greater than 0")
    make_optimizer: Callable[[Any], torch.optim.Optimizer] = make(entry, "optimizer")
    given = ", ".join(f"{key}={value}" for key, value in entry.items() if not str(key).startswith("_"))
    try:
        optimizer = make_optimizer([torch.zeros(shape, requires_grad=True) for shape in (1, (1, 1))])  # some look at it
    except InputError:
        raise
    except Exception as error:  # of whatever library
        raise InputError(f"optimizer: {in_a_line(error)} (given {given})") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer._target_={entry['_target_']}: it makes no torch.optim.Optimizer; name one")
    return make_optimizer
