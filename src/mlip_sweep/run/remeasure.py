"""Measure a finished run again, with other settings: the last step of a run alone."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from mlip_sweep import clock
from mlip_sweep.composition import check_targets, named_packages
from mlip_sweep.config import config_folder, plain
from mlip_sweep.data.checksums import data_checksum
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import collate
from mlip_sweep.errors import InputError, in_a_line
from mlip_sweep.measurement.chosen import check_measurements, measurements_of
from mlip_sweep.measurement.evaluation import device_of
from mlip_sweep.measurement.interface import ForceFieldMeasurement, Measurement
from mlip_sweep.metrics import wall_time
from mlip_sweep.models import checkpoint, committee
from mlip_sweep.models.committee import Committee
from mlip_sweep.models.compiled import BACKEND, compile_potential
from mlip_sweep.models.interface import Potential
from mlip_sweep.run.measure import measure
from mlip_sweep.run.outcome import Outcome
from mlip_sweep.run.plan import checked_call
from mlip_sweep.run.train import CHECKSUM, CHOICES
from mlip_sweep.tracking.models import local_path
from mlip_sweep.tracking.outbox import send_kept
from mlip_sweep.tracking.read import whole_id
from mlip_sweep.tracking.run import RunRecord, flatten, record
from mlip_sweep.tracking.store import existing

log = logging.getLogger(__name__)


def remeasure(
    run: str,
    overrides: Sequence[str] = (),
    *,
    uri: str,
    device: str = "cpu",
    compiled: bool = False,
    other_data: bool = False,
) -> dict[str, float]:
    """Measure a trained potential on its own data, and record the numbers as a run filed under the measured one.

    A committee is measured as its first member was, without what looks at the weights of one potential.

    Args:
        run: MLflow's id of a run or its beginning, a `models:/` or `runs:/` URI, or the folder of a run, of its model
            or of a committee.
        overrides: of the config group `measurement`; without any, what the run itself measured is measured again.
        uri: MLflow store.
        device: "cpu" or "cuda".
        compiled: by torch.compile, before anything is measured.
        other_data: whether to measure although the data has changed since the training.

    Returns:
        The metrics.

    Raises:
        InputError: no such run or model, an override that is not one of `measurement`, or other data than it had.
    """
    uri = existing(uri)
    here = Path.cwd()
    send_kept(uri, here)
    is_address = Path(run).exists() or ":" in run
    run_id = None if is_address else whole_id(uri, run)
    folder = local_path(f"runs:/{run_id}" if run_id else run, uri)
    members = committee.member_folders(folder)
    first = members[0] if members else folder
    places = (first / "config.yaml", first / "model" / "config.yaml")
    file = next((place for place in places if place.is_file()), places[0])
    cfg = OmegaConf.load(file) if file.is_file() else None
    if not isinstance(cfg, DictConfig):
        raise InputError(f"{file}: not the config of a run; give the folder of a run or of its model")
    chosen, measurement_choice = measurement_config(cfg, overrides)
    kept = file.with_name(CHOICES)  # models of earlier versions have none
    choices: Any = OmegaConf.to_container(OmegaConf.load(kept)) if kept.is_file() else {}
    for group in ("measurement", "dataset"):
        check_targets(plain(chosen[group], group), named_packages(chosen.get("packages")), group)
    measurements: Mapping[str, Measurement] = measurements_of(chosen)
    if members:
        measurements = _of_force_fields(measurements)
    read_data = checked_call(plain(chosen.dataset, "dataset"), "dataset")
    model: Potential | Committee
    if members:
        model = committee.load(folder, device=device, backend=BACKEND if compiled else None)
    else:
        model = checkpoint.load(folder, device=device)
    begin = clock.now()
    dataset = read_data()
    checksum, seconds = data_checksum(dataset), clock.now() - begin
    for kept_with in members or [file.parent]:
        _check_data(kept_with / CHECKSUM, checksum, other_data=other_data)
    check_measurements(measurements, dataset)
    model.check_elements(dataset.atomic_numbers, "dataset")
    with record(
        uri=uri,
        experiment=cfg.tracking.experiment,
        name=f"measured again: {' '.join(overrides) or 'same settings'}",
        params={
            **flatten(OmegaConf.to_container(chosen, resolve=True)),  # type: ignore[arg-type]
            **choices,
            **measurement_choice,
            **({"committee": f"committee of {len(members)}"} if members else {}),  # a choice of its own, beside theirs
        },
        tags={"kind": "measurement", "measured": run_id or run},
        parent_run_id=run_id,
        folder=here,
    ) as rec:
        rec.config(OmegaConf.to_yaml(chosen, resolve=True))
        rec.metrics({wall_time("data"): seconds})
        return measure_on(rec, dataset, checksum, measurements, model, name="measured again", compiled=compiled)


def measure_on(
    rec: RunRecord,
    dataset: Dataset,
    checksum: str,
    measurements: Mapping[str, Measurement],
    model: Potential | Committee,
    *,
    name: str,
    compiled: bool,
) -> dict[str, float]:
    """Measure a potential, or a committee, that is not to be trained, and tell what was found.

    Args:
        rec: takes the numbers.
        dataset: fit for the measurements and the potential.
        checksum: of the data set.
        measurements: by the names of their entries.
        model: in evaluation mode.
        name: of the run, for messages.
        compiled: by torch.compile, before anything is measured.

    Returns:
        The metrics.
    """
    rec.describe_data(dataset, checksum)
    if compiled:
        with rec.phase("compile"):
            batch = collate(dataset.graphs("train", model.cutoff)[:5])
            if isinstance(model, Committee):
                model(batch.to(device_of(model)))
            else:
                compile_potential(model, batch, training=False)
    outcome = Outcome(rec, name)
    measure(measurements, dataset, outcome, model)
    outcome.summarise()
    return outcome.metrics


def _of_force_fields(measurements: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """Those measurements that a committee can be measured by; what is left out is told.

    Raises:
        InputError: There is none.
    """
    fitting: dict[str, Measurement] = {
        name: one for name, one in measurements.items() if isinstance(one, ForceFieldMeasurement)
    }
    others = ", ".join(f"measurement.{name}" for name in measurements if name not in fitting)
    if not fitting:
        raise InputError(
            f"{others or 'measurement=none'}: of one potential, not of a committee; choose what asks for energies and "
            "forces alone, such as the accuracy and stability of measurement=quick"
        )
    if others:
        log.info("left out, as they are of one potential, not of a committee: %s", others)
    return fitting


def _check_data(kept: Path, checksum: str, *, other_data: bool) -> None:
    """See that the data is what a model was trained and measured on.

    Args:
        kept: file of the data's checksum, beside the model's config; models of earlier versions have none.
        checksum: of the data now.
        other_data: whether other data will do.

    Raises:
        InputError: it is not, and other data will not do.
    """
    before = kept.read_text().strip() if kept.is_file() else None
    if before == checksum:
        return
    if before is None:
        log.warning("%s: none, as the model is of an earlier version; whether its data has changed is not known", kept)
        return
    changed = f"the data has changed since the training (checksum {before[:8]}, now {checksum[:8]})"
    if not other_data:
        raise InputError(f"{changed}: bring it back, or measure on what there is now by --other-data")
    log.warning("%s: the numbers are of other frames than those of the run", changed)


def measurement_config(cfg: DictConfig, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The config of a run, with the group `measurement` as the overrides ask.

    Returns:
        The config, and the name of the chosen config of `measurement` where the overrides choose one.

    Raises:
        InputError: an override names another group, or does not compose.
    """
    result = cfg.copy()
    if not overrides:
        return result, {}
    for override in overrides:
        if not override.lstrip("~+").startswith("measurement"):
            raise InputError(
                f"{override}: only `measurement` can change, the rest is what the run was; write measurement=paper, "
                "or measurement.landscape.directions=20"
            )
    fresh = composed(overrides)
    result.measurement = fresh.measurement
    return result, {"measurement": str(fresh.hydra.runtime.choices.measurement)}


def composed(overrides: Sequence[str]) -> DictConfig:
    """The config of a run with some overrides, and Hydra's own part of it.

    Raises:
        InputError: an override does not compose.
    """
    try:
        with initialize_config_dir(config_dir=str(config_folder("conf")), version_base="1.3"):
            return compose("run", overrides=list(overrides), return_hydra_config=True)
    except HydraException as error:
        raise InputError(f"{' '.join(overrides)}: {in_a_line(error)}") from None
