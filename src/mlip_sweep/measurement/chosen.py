"""The measurements that a config chooses, made and checked; and those that ship with this program."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from mlip_sweep.config import config_folder, make
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.errors import InputError, SettingError
from mlip_sweep.measurement.interface import Measurement
from mlip_sweep.metrics import Metric, declaration_of
from mlip_sweep.training.metrics import METRICS


def measurements_of(cfg: DictConfig) -> dict[str, Measurement]:
    """The entries of the config group `measurement`, by name; one that is null is left out.

    Raises:
        InputError: a setting of one does not serve, or an entry is no measurement.
    """
    made = {}
    for name, entry in (cfg.measurement or {}).items():
        if entry is None:
            continue
        place = f"measurement.{name}"
        made[str(name)] = make(entry, place)
        if not isinstance(made[str(name)], Measurement):
            raise InputError(
                f"{place}: {OmegaConf.select(entry, '_target_')} is no measurement; name a class that derives from "
                f"{Measurement.__module__}.Measurement"
            )
    return made


def check_measurements(measurements: Mapping[str, Measurement], dataset: Dataset) -> None:
    """See that everything can be measured on a data set.

    Raises:
        InputError: naming the setting that does not go with the data set.
    """
    for name, measurement in measurements.items():
        try:
            measurement.check(dataset)
        except SettingError as error:
            raise error.at(f"measurement.{name}") from None


def check_objectives(objectives: tuple[str, ...], measurements: Mapping[str, Measurement]) -> None:
    """See that a run records what it is to return.

    Raises:
        InputError: it does not.
    """
    recorded = (*METRICS, *declared_by(measurements.values()))
    for name in objectives:
        if declaration_of(name, recorded) is not None:
            continue
        able = [key for key, cls in shipped_measurements().items() if declaration_of(name, cls.metrics)]
        remedy = (
            f"choose a measurement with `{able[0]}`, such as measurement=quick, or another objective, such as "
            "validation/loss"
            if able
            else f"it records {', '.join(metric.name for metric in recorded if metric.better)}"
        )
        raise InputError(f"objective={name}: no measurement of this run gives it; {remedy}")


@cache
def shipped_measurements() -> dict[str, type[Measurement]]:
    """The classes that `conf/measurement/paper.yaml` names, by the names of its entries."""
    entries: Any = OmegaConf.load(config_folder("conf") / "measurement" / "paper.yaml")
    return {str(name): get_class(entry["_target_"]) for name, entry in entries.items()}


def declared_by(measurements: Iterable[Measurement | type[Measurement]]) -> tuple[Metric, ...]:
    """All metrics that some measurements declare."""
    return tuple(metric for measurement in measurements for metric in measurement.metrics)
