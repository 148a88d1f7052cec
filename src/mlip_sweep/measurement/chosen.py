"""The measurements that a config chooses, made and checked; and those that ship with this program."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from mlip_sweep.config import config_folder, make, plain
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.errors import InputError, SettingError
from mlip_sweep.measurement.interface import Measurement
from mlip_sweep.metrics import Metric, declaration_of, wall_time
from mlip_sweep.training.metrics import VALIDATION_LOSS


def measurements_of(cfg: Mapping[str, Any] | DictConfig) -> dict[str, Measurement]:
    """The entries of the config group `measurement`, by name; one that is null is left out.

    Args:
        cfg: a config with that group, as Hydra composed it or as plain values.

    Raises:
        InputError: a setting of one does not serve, or an entry is no measurement.
    """
    made = {}
    for name, entry in plain(cfg["measurement"] or {}, "measurement").items():
        if entry is None:
            continue
        place = f"measurement.{name}"
        made[str(name)] = make(entry, place)
        if not isinstance(made[str(name)], Measurement):
            raise InputError(
                f"{place}: {entry['_target_']} is no measurement; name a class that derives from "
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


def check_objectives(
    objectives: Iterable[str], measurements: Mapping[str, Measurement], dataset: Dataset | None = None
) -> None:
    """See that a run can return what it is to return.

    Args:
        objectives: names of metrics.
        measurements: of the run, by the names of their entries.
        dataset: that is measured on; None where it is not known yet, so that any label of a set of frames will do.

    Raises:
        InputError: it cannot.
    """
    own = (VALIDATION_LOSS, *map(wall_time, measurements))
    measured = (metric.name for metric in declared_by(measurements.values()) if metric.better)
    told = ", ".join((VALIDATION_LOSS, *measured))
    for name in objectives:
        if name in own or any(_records(measurement, name, dataset) for measurement in measurements.values()):
            continue
        if any(_records(measurement, name, None) for measurement in measurements.values()):
            labels = ", ".join(("train", *dataset.tests)) if dataset is not None else ""
            raise InputError(
                f"objective={name}: nothing on this data set gives it; it has the sets {labels}, and the "
                f"measurements record {told}"
            )
        able = [key for key, cls in shipped_measurements().items() if declaration_of(name, cls.metrics)]
        remedy = (
            f"choose a measurement with `{able[0]}`, such as measurement=quick, or another objective, such as "
            "validation/loss"
            if able
            else f"it records {told}"
        )
        raise InputError(f"objective={name}: no measurement of this run gives it; {remedy}")


def _records(measurement: Measurement, name: str, dataset: Dataset | None) -> bool:
    if dataset is None:
        return declaration_of(name, measurement.metrics) is not None
    return measurement.records(name, dataset)


@cache
def shipped_measurements() -> dict[str, type[Measurement]]:
    """The classes that `conf/measurement/paper.yaml` names, by the names of its entries."""
    entries: Any = OmegaConf.load(config_folder("conf") / "measurement" / "paper.yaml")
    return {str(name): get_class(entry["_target_"]) for name, entry in entries.items()}


def declared_by(measurements: Iterable[Measurement | type[Measurement]]) -> tuple[Metric, ...]:
    """All metrics that some measurements declare."""
    return tuple(metric for measurement in measurements for metric in measurement.metrics)
