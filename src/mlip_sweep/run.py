"""One run, from a composed config to recorded numbers."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from mlip_sweep import keys
from mlip_sweep.config import RunSettings, made, parse
from mlip_sweep.data.checksums import data_checksum
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.frames import Dataset
from mlip_sweep.data.graphs import collate
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.callbacks import AfterTraining, MeasurementCallback
from mlip_sweep.measurement.interface import Measurement, check_measurement
from mlip_sweep.measurement.intermediate import Search
from mlip_sweep.models import checkpoint
from mlip_sweep.models.compiled import compile_potential
from mlip_sweep.models.interface import Potential
from mlip_sweep.results import Results, objective, returned
from mlip_sweep.tracking.earlier import CONFIG, FOLDER, Earlier, config_checksum
from mlip_sweep.tracking.models import BEST, log_model, register
from mlip_sweep.tracking.run import RunRecord, record
from mlip_sweep.training.fit import LAST, Recipe, accelerator, fit
from mlip_sweep.training.loss import LossWeights
from mlip_sweep.training.resume import resuming

log = logging.getLogger(__name__)


def run(
    cfg: DictConfig,
    folder: Path,
    *,
    name: str = "run",
    parent_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    take_over: bool = False,
    search: Search | None = None,
) -> float | list[float]:
    """Train, measure and record one potential.

    Args:
        cfg: a composed config, as `conf/run.yaml` describes it.
        folder: takes the checkpoints.
        name: of the run in MLflow.
        parent_run_id: MLflow's id of the sweep's run.
        tags: more words about the run.
        take_over: begin from the last checkpoint of a run of the same config that was interrupted, where there is one;
            the config's `resume` asks for the same.
        search: hears of intermediate values, where the config's `pruning` says which.

    Returns:
        The objective: one finite number, or a list of them.

    Raises:
        InputError: a value of the config, or the data, does not serve; found before the training wherever it can be.
    """
    settings = parse(cfg)
    recipe, measurements = prepare(cfg, settings)
    resolved: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    tracking = settings.tracking
    same = config_checksum(resolved)
    earlier = Earlier(tracking.uri, tracking.experiment, same)
    if settings.resume and earlier:
        done = earlier.finished(data_checksum(made(cfg.dataset, "dataset")), settings.objectives)
        if done is not None:
            log.info("%s: has finished before, as run %s", name, done.run_id)
            earlier.gather(done, parent_run_id)
            return returned({key: done.metrics[keys.objective(key)] for key in settings.objectives}, cfg.objective)
    goes_on = resuming(folder, resolved, settings.trainer.resume)
    with (
        threads(settings.trainer.threads),
        record(
            uri=tracking.uri,
            experiment=tracking.experiment,
            name=name,
            params=resolved,
            tags={**(tags or {}), CONFIG: same, FOLDER: str(folder)},
            parent_run_id=parent_run_id,
            run_id=earlier.of_folder(folder) if goes_on else None,
        ) as rec,
    ):
        config = OmegaConf.to_yaml(cfg, resolve=True)
        rec.config(config)
        with rec.phase("data"):
            dataset = data_of(cfg, rec, measurements)
        source = folder if goes_on else None
        if source is None and (take_over or settings.resume):
            source = earlier.hand_over(rec, folder, data_checksum(dataset))
        with rec.phase("model"):
            train, validation = (graphs_of(frames, cfg.model.cutoff) for frames in (dataset.train, dataset.validation))
            rescaling = made(cfg.rescaling, "rescaling")(dataset)
            model = checkpoint.build(
                resolved["model"],
                dataset,
                train,
                rescaling,
                dtype=settings.trainer.dtype,
                seed=settings.seeds.model,
            )
            rec.metrics({keys.PARAMETERS: sum(p.numel() for p in model.parameters())})
        if settings.trainer.compile:
            with rec.phase("compile"):
                model.to(accelerator(settings.trainer.accelerator))
                seconds = compile_potential(model, collate(train[: settings.trainer.batch_size]), training=True)
            log.info("%s: compiled in %.0f s", name, seconds)
        results = Results(rec)
        how = f", going on from {source / LAST}" if source else ""
        log.info("%s: training on %d frames, %d epochs%s", name, len(train), settings.trainer.max_epochs, how)
        start = time.perf_counter()
        kept = fit(
            model,
            train,
            validation,
            recipe,
            settings.trainer,
            seed=settings.seeds.order,
            folder=folder,
            logger=rec.logger,
            watch=made(cfg.pruning, "pruning")(dataset, model.cutoff, search=search) if cfg.pruning else None,
            callbacks=[
                AfterTraining(
                    lambda: rec.metrics({keys.wall_time("training"): time.perf_counter() - start}),
                    lambda: keep_model(rec, model, config, folder),  # before a measurement can fail
                ),
                MeasurementCallback(measurements, dataset, results),
            ],
        )
        rec.tag("weights", f"epoch {kept.epoch} of {settings.trainer.max_epochs}, averaging {averaging_name(cfg)}")
        rec.metrics({keys.KEPT_EPOCH: kept.epoch, keys.VALIDATION_LOSS_KEPT: kept.score})
        results.conclude(name, tell_where=parent_run_id is None)  # a sweep tells it once, at its end
        found = {**results.metrics, keys.VALIDATION_LOSS: kept.score}
        values = returned(found, cfg.objective)
        rec.metrics({keys.objective(key): objective(key, found) for key in settings.objectives})
        if tracking.register and parent_run_id is None:  # of a sweep, the best is registered at its end
            register(rec.uri, tracking.register, rec.stored_tags()["model"].removeprefix("models:/"), BEST)
    return values


def prepare(cfg: DictConfig, settings: RunSettings) -> tuple[Recipe, dict[str, Measurement]]:
    """Make what the config names, before anything heavy.

    Raises:
        InputError: a class or function does not exist, is not installed, or does not take its arguments.
    """
    checkpoint.check_hyperparameters(OmegaConf.to_container(cfg.model, resolve=True))  # type: ignore[arg-type]
    accelerator(settings.trainer.accelerator)
    optimizer = made(cfg.optimizer, "optimizer")
    try:
        optimizer([torch.zeros(1, requires_grad=True)])  # refuses its arguments now, not after the data is made
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value}" for key, value in cfg.optimizer.items() if not str(key).startswith("_"))
        raise InputError(f"optimizer: {error} (given {given})") from error
    recipe = Recipe(
        optimizer=optimizer,
        weights=LossWeights(settings.loss.energy_weight, settings.loss.forces_weight),
        validation_weights=LossWeights(settings.loss.validation.energy_weight, settings.loss.validation.forces_weight),
        averaging=made(cfg.averaging, "averaging") or None,
        cycle=made(cfg.loss.cycle, "loss") if cfg.loss.cycle else None,
    )
    return recipe, measurements_of(cfg)


def measurements_of(cfg: DictConfig) -> dict[str, Measurement]:
    """The entries of the config group `measurement`, by name; one that is null is left out."""
    entries = (cfg.measurement or {}).items()
    return {str(key): made(entry, "measurement") for key, entry in entries if entry is not None}


def data_of(cfg: DictConfig, rec: RunRecord, measurements: Mapping[str, Measurement]) -> Dataset:
    """The data set of a config, recorded, and found fit for what will be measured on it.

    Raises:
        InputError: it cannot be had, or a measurement cannot work on it.
    """
    dataset: Dataset = made(cfg.dataset, "dataset")
    describe(rec, dataset)
    for measure in measurements.values():
        check_measurement(measure, dataset)
    return dataset


def describe(rec: RunRecord, dataset: Dataset) -> None:
    """Record which data a run saw."""
    rec.tag("data.checksum", data_checksum(dataset))
    rec.tag("data.sources", "\n".join(f"{checksum}  {source}" for source, checksum in dataset.checksums.items()))
    counts = {"train": dataset.train, "validation": dataset.validation, **dataset.tests}
    rec.tag("data.frames", ", ".join(f"{label} {len(frames)}" for label, frames in counts.items()))


def keep_model(rec: RunRecord, model: Potential, config: str, folder: Path) -> None:
    """Save the kept weights beside the checkpoints, and as a logged model of the run."""
    place = folder / "model"
    place.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, place / "checkpoint.pt")
    (place / "config.yaml").write_text(config)
    with rec.phase("saving"):
        rec.tag("model", f"models:/{log_model(rec, place)}")


def averaging_name(cfg: DictConfig) -> str:
    """The chosen averaging, as a word."""
    return str(cfg.averaging.get("_target_", "none")).rpartition(".")[2]


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Torch's number of CPU threads for the length of a run; None leaves it alone."""
    before = torch.get_num_threads()
    try:
        if n is not None:
            torch.set_num_threads(n)
        yield
    finally:
        torch.set_num_threads(before)
