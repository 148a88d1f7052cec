"""What a search knows of its trials, for the record of their runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.types import RunMode

from mlip_sweep.tracking import store
from mlip_sweep.tracking.read import StoredRun
from optuna_async.config import RESULT_FILES, TRIALS_FILE

STUDY = "optuna.study_name"
NUMBER = "optuna.trial_number"
STATE = "optuna.trial_state"
REASON = "optuna.trial_reason"
RETRY_OF = "optuna.retry_of"


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


def tell(uri: str, runs: Sequence[StoredRun], folder: Path) -> None:
    """Tag the runs of a search with the states of their trials, and the reason where one has failed."""
    table = folder / TRIALS_FILE
    if not table.is_file():
        return
    trials = pd.read_csv(table, index_col="number", keep_default_na=False, dtype=str)
    client = store.client(uri)
    for run in runs:
        number = run.tags.get(NUMBER, "")
        if not number.isdecimal() or int(number) not in trials.index:
            continue
        trial = trials.loc[int(number)]
        told = {STATE: trial["state"].lower(), REASON: trial["reason"], RETRY_OF: trial["retry_of"]}
        for name, value in told.items():
            if value and run.tags.get(name) != value:
                client.set_tag(run.run_id, name, value)
