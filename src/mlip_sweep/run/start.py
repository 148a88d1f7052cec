"""Second step of a run: find where it starts.

| start    | there is                                          | looked for where           | then                  |
| -------- | ------------------------------------------------- | -------------------------- | --------------------- |
| Finished | a run of the same config and data that is done    | `resume=true`              | its numbers are taken |
| Finished | such a run in the run's own folder                | `trainer.resume` (default) | its numbers are taken |
| refused  | a finished training in the run's own folder, and  | `trainer.resume` (default) | `mlip-measure`        |
|          | the config differs elsewhere: in `measurement`,   |                            | measures it again     |
|          | `objective`, or `trainer` without more epochs     |                            |                       |
| refused  | a checkpoint of another training in that folder   | `trainer.resume` (default) |                       |
| Resumed  | a finished training in that folder, with its      | `trainer.resume` (default) | a new run goes on, if |
|          | checkpoint, and `trainer.max_epochs` is larger    |                            | it was recorded       |
| Resumed  | a checkpoint in the run's own folder              | `trainer.resume` (default) | the same run goes on  |
| Resumed  | a checkpoint in another folder, of an interrupted | `resume=true`, and for the | a new run goes on     |
|          | run of the same config and data                   | trials of a search         | from a copy of it     |
| Fresh    | nothing of these                                  |                            | the training begins   |

`trainer.resume=false` starts over in a folder, whatever it holds.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from mlip_sweep.config import DEFAULT_URI
from mlip_sweep.errors import InputError
from mlip_sweep.metrics import objective_metric
from mlip_sweep.run.outcome import returned_values
from mlip_sweep.run.plan import Data, Plan
from mlip_sweep.tracking.read import StoredRun
from mlip_sweep.tracking.run import RunRecord
from mlip_sweep.tracking.runs_of_config import RunsOfConfig, last_of_folder, relevant
from mlip_sweep.tracking.store import ui_hint
from mlip_sweep.training.fit import LAST, check_checkpoint

log = logging.getLogger(__name__)

RECIPE = "training.yaml"  # beside a checkpoint: what is trained there
GROUPS = ("dataset", "model", "rescaling", "optimizer", "averaging", "loss", "seeds")
TRAINER = ("dtype", "batch_size", "gradient_clip", "schedule", "warmup_epochs")
CHECKSUM = "data_checksum"
FINISHED_CONFIG = Path("model", "config.yaml")  # in the folder of a run, once its training has finished


@dataclass(frozen=True)
class Fresh:
    """The training begins at its beginning.

    Attributes:
        supersedes: interrupted runs of the same sweep whose place this one takes.
    """

    supersedes: tuple[StoredRun, ...] = ()

    def claim(self, rec: RunRecord) -> None:
        """Record whose place the run takes."""
        for run in self.supersedes:
            rec.supersede(run.run_id)


@dataclass(frozen=True)
class Resumed(Fresh):
    """The training goes on from a checkpoint, which lies in the run's folder by now.

    Attributes:
        source: the folder that the checkpoint came from.
        run_id: of the recorded run that goes on; None where a new one does.
        continues: the run that left the checkpoint, where a new run goes on from it.
    """

    source: Path = Path()
    run_id: str | None = None
    continues: str | None = None

    def claim(self, rec: RunRecord) -> None:
        """Record whose place the run takes, and from whose checkpoint it goes on."""
        super().claim(rec)
        if self.continues:
            rec.tag("continues", self.continues)


@dataclass(frozen=True)
class Finished:
    """There is nothing to do.

    Attributes:
        run: as it is recorded.
        recorded: all runs of the config.
    """

    run: StoredRun
    recorded: RunsOfConfig

    def take(self, plan: Plan, name: str, parent_run_id: str | None) -> float | list[float]:
        """What the finished run returned; it is filed under one more sweep, where one asks."""
        returned = {metric: self.run.metrics[objective_metric(metric)] for metric in plan.settings.objectives}
        told = ", ".join(f"{metric} = {value:.4g}" for metric, value in returned.items())
        where = "" if parent_run_id else f"; {ui_hint(self.recorded.uri, self.run.run_id)}"  # a sweep tells it once
        log.info("%s: has finished before, as run %s: %s%s", name, self.run.run_id, told, where)
        self.recorded.file_under(self.run, parent_run_id)
        return returned_values(returned, plan.resolved["objective"])


def find_start(
    plan: Plan, data: Data, folder: Path, *, parent_run_id: str | None = None, take_over: bool = False
) -> Fresh | Resumed | Finished:
    """Where a run starts; leaves a record of what is trained in its folder, and the checkpoint, if it has one.

    Args:
        plan: of the run.
        data: that it trains on.
        folder: of the run.
        parent_run_id: MLflow's id of the sweep's run.
        take_over: whether to look for what an interrupted run left elsewhere; the config's `resume` asks for the same.

    Raises:
        InputError: the folder holds the checkpoint of another training, or one that has finished and was measured, or
            filed, in another way.
    """
    tracking = plan.settings.tracking
    recorded = RunsOfConfig(tracking.uri, tracking.experiment, plan.checksum)
    if plan.settings.resume:
        finished = recorded.finished(data.checksum, plan.settings.objectives)
        if finished is not None:
            return Finished(finished, recorded)
    recipe = _recipe(plan, data)
    goes_on = plan.settings.trainer.resume and (folder / LAST).is_file()
    if goes_on:
        _check_recipe(folder, recipe)
        check_checkpoint(folder / LAST)
    if plan.settings.trainer.resume and (folder / FINISHED_CONFIG).is_file() and not _changes_of_recipe(folder, recipe):
        done = last_of_folder(tracking.uri, folder)
        same = done is not None and done.status == "FINISHED" and done.data_checksum == data.checksum
        if done is not None and same and not _asks_for_more(plan, folder):
            _check_finished(plan, folder, done)
            return Finished(done, recorded)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECIPE).write_text(OmegaConf.to_yaml(OmegaConf.create(recipe)))
    if goes_on:
        return Resumed(source=folder, run_id=recorded.of_folder(folder))
    if not (take_over or plan.settings.resume):
        return Fresh()
    interrupted = recorded.interrupted()
    supersedes = tuple(run for run in interrupted if parent_run_id and run.parent == parent_run_id)
    for run in interrupted:
        source = run.folder
        if source is not None and run.data_checksum == data.checksum and source != folder and (source / LAST).is_file():
            for name in (RECIPE, LAST):
                shutil.copyfile(source / name, folder / name)
            return Resumed(supersedes, source=source, continues=run.run_id)
    return Fresh(supersedes)


def _recipe(plan: Plan, data: Data) -> dict[str, Any]:
    """All that decides how the weights move."""
    trainer = {key: plan.resolved["trainer"][key] for key in TRAINER}
    return {group: plan.resolved[group] for group in GROUPS} | {"trainer": trainer, CHECKSUM: data.checksum}


def _check_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """See that the checkpoint in a folder is of this training.

    Raises:
        InputError: it is of another.
    """
    if not (folder / RECIPE).is_file():
        raise InputError(
            f"hydra.run.dir={folder}: no {RECIPE} says what its {LAST} is of; choose another folder, or "
            "trainer.resume=false to start over"
        )
    changed = _changes_of_recipe(folder, recipe)
    if changed:
        raise InputError(
            f"hydra.run.dir={folder}: its {LAST} is of a training with {', '.join(changed[:5])}; choose another "
            "folder, or trainer.resume=false to start over"
        )


def _changes_of_recipe(folder: Path, recipe: Mapping[str, Any]) -> list[str]:
    """How the training that a folder holds differs from another, as "optimizer.lr=0.005 (now 0.1)"."""
    if not (folder / RECIPE).is_file():
        return []
    before = _config_of(folder / RECIPE)
    older = CHECKSUM not in before  # of an earlier version of this program
    return _changes(before, {key: value for key, value in recipe.items() if not (older and key == CHECKSUM)})


def _asks_for_more(plan: Plan, folder: Path) -> bool:
    """Whether a config has more epochs than the training that has finished in a folder."""
    before = _config_of(folder / FINISHED_CONFIG)["trainer"]["max_epochs"]
    return plan.settings.trainer.max_epochs > int(before)


def _check_finished(plan: Plan, folder: Path, done: StoredRun) -> None:
    """See that the finished run of a folder is what a config asks for.

    Raises:
        InputError: its training is, but not all that was done with it.
    """
    before = _config_of(folder / FINISHED_CONFIG)
    changed = _changes(relevant(before), relevant(plan.resolved))
    experiment = before["tracking"]["experiment"]
    if experiment != plan.settings.tracking.experiment:
        changed.append(f"tracking.experiment={experiment} (now {plan.settings.tracking.experiment})")
    if any(objective_metric(name) not in done.metrics for name in plan.settings.objectives):
        changed.append(f"objective={before['objective']} (now {plan.resolved['objective']})")
    if changed:
        uri = plan.settings.tracking.uri
        store = "" if uri == DEFAULT_URI else f" --uri {uri}"
        raise InputError(
            f"hydra.run.dir={folder}: its training has finished as run {done.run_id}, with {', '.join(changed[:5])}; "
            f"`mlip-measure {done.run_id}{store} measurement=…` measures it again, a larger trainer.max_epochs "
            "trains it further, trainer.resume=false starts over"
        )


def _config_of(file: Path) -> dict[str, Any]:
    """The config that a file of a run's folder holds.

    Raises:
        InputError: it holds none.
    """
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(file))
    except Exception:  # whatever the parser of YAML makes of it
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{file}: not as mlip-sweep has written it; choose another folder, or remove it to start over")
    return config


def _changes(before: Any, now: Any) -> list[str]:
    """What differs between two configs, as "optimizer.lr=0.005 (now 0.1)"."""
    old, new = _flat(before), _flat(now)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return [f"{key}={old.get(key)} (now {new.get(key)})" for key in keys]


def _flat(config: Any) -> dict[str, Any]:
    """Dotted names to values, compared as text: a list from YAML is the same as one from Hydra."""
    (flat,) = pd.json_normalize(config).to_dict("records")
    return {str(key): str(value) for key, value in flat.items()}
