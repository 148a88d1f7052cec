"""One run, from a composed config to recorded numbers."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from mlip_sweep.measurement.intermediate import Trial
from mlip_sweep.metrics import wall_time
from mlip_sweep.run.measure import measure
from mlip_sweep.run.outcome import Outcome
from mlip_sweep.run.plan import Plan, make_plan
from mlip_sweep.run.start import Finished, Resumed, find_start
from mlip_sweep.run.train import keep_model, torch_threads, train
from mlip_sweep.tracking.models import BEST, is_registered, register
from mlip_sweep.tracking.outbox import send_kept
from mlip_sweep.tracking.run import flatten, record
from mlip_sweep.tracking.runs_of_config import CONFIG, FOLDER

log = logging.getLogger(__name__)


def run(
    cfg: DictConfig,
    folder: Path,
    *,
    name: str = "run",
    choices: Mapping[str, str] | None = None,
    parent_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    take_over: bool = False,
    trial: Trial | None = None,
) -> float | list[float]:
    """Train, measure and record one potential.

    Args:
        cfg: a composed config, as `conf/run.yaml` describes it.
        folder: takes the checkpoints.
        name: of the run in MLflow.
        choices: names of the chosen configs by group, such as {"model": "mace"}, which are recorded as parameters; for
            a group that is missing, the class or function that its config names is recorded.
        parent_run_id: MLflow's id of the sweep's run.
        tags: more words about the run.
        take_over: begin from the last checkpoint of a run of the same config that was interrupted, where there is one;
            the config's `resume` asks for the same.
        trial: hears of intermediate values, where the config's `pruning` says which.

    Returns:
        The objective: one finite number, or a list of them.

    Raises:
        InputError: a value of the config, or the data, does not serve; found before the training wherever it can be.
    """
    plan = make_plan(cfg)
    send_kept(plan.settings.tracking.uri, folder)  # a finished run may have been without its store
    if plan.intermediate is not None and trial is None:
        log.info("%s: pruning: no search listens; %s is recorded alone", name, plan.intermediate.metric.name)
    with torch_threads(plan.settings.trainer.threads):
        data = plan.read_data()
        start = find_start(plan, data, folder, parent_run_id=parent_run_id, take_over=take_over)
        if isinstance(start, Finished):
            values = start.take(plan, name, parent_run_id)
            if parent_run_id is None:
                _register(plan, start.recorded.uri, start.run.tags.get("model"))
            return values
        with record(
            uri=plan.settings.tracking.uri,
            experiment=plan.settings.tracking.experiment,
            name=name,
            params={**flatten(plan.resolved), **(choices or {})},
            tags={**(tags or {}), **_started_from(plan), CONFIG: plan.checksum, FOLDER: str(folder)},
            parent_run_id=parent_run_id,
            run_id=start.run_id if isinstance(start, Resumed) else None,
            folder=folder,
        ) as rec:
            rec.config(plan.yaml)
            rec.describe_data(data.dataset, data.checksum)
            rec.metrics({wall_time("data"): data.seconds})
            start.claim(rec)
            outcome = Outcome(rec, name, alone=parent_run_id is None)  # a sweep tells it once, at its end
            train(
                plan,
                data,
                start,
                rec,
                folder,
                name=name,
                trial=trial,
                then=[
                    partial(
                        keep_model, rec, plan.yaml, choices or {}, data.checksum, folder
                    ),  # before a measurement can fail
                    partial(measure, plan.measurements, data.dataset, outcome),
                ],
                outcome=outcome,
            )
            values = outcome.conclude(plan)
            if parent_run_id is None:  # of a sweep, the best is registered
                _register(plan, rec.uri, rec.tags.get("model"))
    return values


def _started_from(plan: Plan) -> dict[str, str]:
    """The tag that says which weights a run has begun from, where it has not begun from random ones."""
    return {} if plan.initial_weights is None else {"start": plan.initial_weights.address}


def _register(plan: Plan, uri: str, model: str | None) -> None:
    """Register the model of a single run, where the config gives it a name that it does not have already."""
    name = plan.settings.tracking.register
    if name and model:
        model_id = model.removeprefix("models:/")
        if not is_registered(uri, name, model_id, BEST):
            register(uri, name, model_id, BEST)
