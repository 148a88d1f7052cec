"""What a search knows of its trials, for the record of their runs."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.types import RunMode

from mlip_sweep.tracking.read import StoredRun
from mlip_sweep.tracking.sweep import tag_children
from optuna_async.config import RESULT_FILES, study_of
from optuna_async.trials import TrialSummary, UnreadableStudyError, read_trials

STUDY = "optuna.study_name"
NUMBER = "optuna.trial_number"
STATE = "optuna.trial_state"
REASON = "optuna.trial_reason"
RETRY_OF = "optuna.retry_of"

log = logging.getLogger(__name__)


def tags(hydra_cfg: Any) -> dict[str, str]:
    """Which trial of which study a job is; nothing outside a search, since only its job numbers are trial numbers.

    Args:
        hydra_cfg: `HydraConfig.get()`.
    """
    study = hydra_cfg.sweeper.get("study_name")
    if hydra_cfg.mode != RunMode.MULTIRUN or not study:
        return {}
    return {STUDY: str(study), NUMBER: str(hydra_cfg.job.num)}


def files(folder: Path) -> list[Path]:
    """What a search has left in its folder: its table, its plots, its results; nothing where it was a grid."""
    return [folder / name for name in RESULT_FILES if (folder / name).is_file()]


def tag_runs(uri: str, runs: Sequence[StoredRun], hydra_cfg: Any) -> None:
    """Tag the runs of a search with the states of their trials, and the reason where one has failed.

    A study whose storage cannot be read now costs the runs these tags, and a warning, but no comparison.

    Args:
        uri: URI of a prepared store.
        runs: The children of the sweep.
        hydra_cfg: The entry `hydra` of the multirun's config.
    """
    study = study_of(hydra_cfg)
    if study is None:
        return
    try:
        trials = {str(trial.number): trial for trial in read_trials(study)}
    except UnreadableStudyError as error:
        log.warning("the runs are not tagged with the states of their trials: %s", error)
        return
    # A sweep may have found runs of another study finished, and gathered them under its parent.
    of_trials = [run for run in runs if run.tags.get(STUDY) == study.name and run.tags.get(NUMBER) in trials]
    tag_children(uri, of_trials, {run.run_id: _tags_of(trials[run.tags[NUMBER]]) for run in of_trials})


def _tags_of(trial: TrialSummary) -> dict[str, str]:
    described = {STATE: trial.state, REASON: trial.reason, RETRY_OF: trial.retry_of}
    return {name: str(value) for name, value in described.items() if value is not None}
