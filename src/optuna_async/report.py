"""What a study shows: its progress, its table, and its results in files."""

import logging
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
import pandas as pd
from omegaconf import OmegaConf
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console
from rich.table import Table

from optuna_async import outcome as outcomes
from optuna_async.config import RESULTS_FILE, TRIALS_FILE
from optuna_async.progress import SweepLine, SweepState, duration
from optuna_async.study import SweepStudy, failed
from optuna_async.trials import REASON, RETRY_OF, own

ROWS = 40  # of the table

log = logging.getLogger(__name__)


class Progress:
    """The line of a study that lives as long as its sweep, for the trials that this start of it has to do.

    Where the output is no terminal, what became of every trial is said beside it. For the main thread.
    """

    def __init__(self, study: SweepStudy, n_jobs: int) -> None:
        self._study = study
        self._n_jobs = n_jobs
        self._since = datetime.now()  # of this host, as Optuna's times are
        self._before = study.count(study.trials(), running=False)
        self._old = {trial.number for trial in study.trials() if trial.state.is_finished()}
        self._line = SweepLine(study.study.study_name)

    def __enter__(self) -> "Progress":
        if self._before >= self._study.n_trials:
            log.info(
                "%s: all its %d trials are done, and none is run; hydra.sweeper.n_trials=N goes on to more, "
                "hydra.sweeper.study_name=NAME begins another",
                self._study.study.study_name,
                self._study.n_trials,
            )
        elif self._before:
            log.info(
                "%s: %d of its %d trials are done", self._study.study.study_name, self._before, self._study.n_trials
            )
        self.show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()

    def show(self) -> None:
        """Bring the line up to date."""
        self._line.show(self.state())

    def ended(self, number: int) -> None:
        """Say that a trial has ended."""
        if not sys.stderr.isatty():
            log.info("trial %d: %s", number, verdict(self._study.trials()[number]))
        self.show()

    def state(self) -> SweepState:
        """How far the study is."""
        trials = self._study.trials()
        new = [trial for trial in trials if trial.number not in self._old]
        counted = counts(new)
        n_running = counted["running"]
        return SweepState(
            total=max(0, self._study.n_trials - self._before),
            ended=self._study.count(trials, running=False) - self._before,
            failed=counted["failed"],
            pruned=counted["pruned"],
            finished_s=self._seconds(new, TrialState.COMPLETE),
            pruned_s=self._seconds(new, TrialState.PRUNED),
            at_work_s=[self._elapsed(trial) for trial in new if trial.state == TrialState.RUNNING],
            at_once=max(self._n_jobs, n_running),  # other processes may work at the same study
            best=self._best(trials),
        )

    def _seconds(self, trials: list[FrozenTrial], state: TrialState) -> list[float]:
        """Wall times of trials that began since this start; a trial that repeats another may have had less to do."""
        return [
            trial.duration.total_seconds()
            for trial in trials
            if trial.state == state and trial.duration and self._is_whole(trial)
        ]

    def _is_whole(self, trial: FrozenTrial) -> bool:
        return trial.datetime_start is not None and trial.datetime_start >= self._since and own(trial, RETRY_OF) is None

    def _elapsed(self, trial: FrozenTrial) -> float:
        started = max(trial.datetime_start or self._since, self._since)
        return max(0.0, (datetime.now() - started).total_seconds())

    def _best(self, trials: list[FrozenTrial]) -> str:
        best = self._study.study.best_trials if any(t.state == TrialState.COMPLETE for t in trials) else []
        if len(self._study.study.directions) > 1:
            return f"{len(best)} on the Pareto front"
        return f"best {_number(best[0].values[0])} of trial {best[0].number}" if best else ""


def table(study: optuna.Study, trials: list[FrozenTrial]) -> Table:
    """All trials with their states; of many, the best and the failed ones."""
    best = {trial.number for trial in _best(study)}
    shown = trials if len(trials) <= ROWS else _chosen(study, trials, best)
    words = ", ".join(f"{count} {state}" for state, count in counts(trials).items() if count)
    left_out = f"; {len(shown)} shown" if len(shown) < len(trials) else ""
    table_of_trials = Table(title=f"{study.study_name}: {words}{left_out}", box=box.SIMPLE_HEAD, title_justify="left")
    several = len(study.directions) > 1
    for column in ("trial", "state", *([f"value {i}" for i in range(len(study.directions))] if several else ["value"])):
        table_of_trials.add_column(column, justify="right" if column != "state" else "left", no_wrap=True)
    table_of_trials.add_column("time", justify="right", no_wrap=True)
    table_of_trials.add_column("parameters and reason")
    for trial in shown:
        values = trial.values or [None] * len(study.directions)
        values = [*values, *[None] * (len(study.directions) - len(values))]
        parameters = " ".join(f"{key}={_number(value)}" for key, value in trial.params.items())
        again, reason = own(trial, RETRY_OF), own(trial, REASON)
        retry = "" if again is None else f" (trial {again} again)"
        table_of_trials.add_row(
            f"{trial.number}{'*' if trial.number in best else ''}",
            trial.state.name.lower(),
            *("" if value is None else _number(value) for value in values),
            duration(trial.duration.total_seconds()) if trial.duration else "",
            f"{parameters}{retry}" + (f"\n{reason}" if reason else ""),
        )
    if best:
        table_of_trials.caption = "* on the Pareto front" if several else "* the best"
    return table_of_trials


def show(study: optuna.Study, trials: list[FrozenTrial]) -> None:
    """Print the table."""
    Console().print(table(study, trials), markup=False)


def write_results(study: optuna.Study, trials: list[FrozenTrial], folder: Path) -> None:
    """Write what hydra-optuna-sweeper writes, with the numbers of the trials, and a table of all trials."""
    results: dict[str, Any] = {"name": "optuna"}
    best = _best(study)
    if len(study.directions) == 1 and best:
        results |= {"best_params": best[0].params, "best_value": best[0].value, "best_trial": best[0].number}
    elif len(study.directions) > 1:
        results["solutions"] = [{"params": t.params, "values": list(t.values), "trial": t.number} for t in best]
    results["trials"] = counts(trials)
    OmegaConf.save(OmegaConf.create(results), folder / RESULTS_FILE)
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name,
            "reason": own(trial, REASON) or "",
            "retry_of": "" if own(trial, RETRY_OF) is None else own(trial, RETRY_OF),
            **{f"value_{i}": value for i, value in enumerate(trial.values or [])},
            "started": trial.datetime_start,
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
        }
        for trial in trials
    ]
    pd.DataFrame(rows).to_csv(folder / TRIALS_FILE, index=False)


def reasons(trials: list[FrozenTrial]) -> str:
    """Why trials failed, the most frequent reason first, with an example of each."""
    failures = [own(trial, REASON) or "unknown" for trial in trials if failed(trial)]
    examples = {outcomes.kind_of(text): text for text in reversed(failures)}
    counted = Counter(outcomes.kind_of(text) for text in failures)
    return "\n".join(f"  {count} × {examples[kind]}" for kind, count in counted.most_common())


def counts(trials: list[FrozenTrial]) -> Mapping[str, int]:
    """How many trials there are in each state, in a user's words."""
    return {
        "done": sum(trial.state == TrialState.COMPLETE for trial in trials),
        "running": sum(trial.state == TrialState.RUNNING for trial in trials),
        "failed": sum(failed(trial) for trial in trials),
        "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
    }


def verdict(trial: FrozenTrial) -> str:
    """A trial's end in a few words."""
    if trial.state == TrialState.COMPLETE:
        return ", ".join(_number(value) for value in trial.values)
    return f"{trial.state.name.lower()} ({own(trial, REASON) or 'no reason given'})"


def _best(study: optuna.Study) -> list[FrozenTrial]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return []
    return [study.best_trial] if len(study.directions) == 1 else study.best_trials


def _chosen(study: optuna.Study, trials: list[FrozenTrial], best: set[int]) -> list[FrozenTrial]:
    sign = -1 if study.directions[0] == StudyDirection.MAXIMIZE else 1
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    complete.sort(key=lambda trial: (trial.number not in best, sign * trial.values[0]))
    failures = [trial for trial in trials if failed(trial)]
    chosen = {trial.number for trial in [*complete[: ROWS // 2], *failures[: ROWS // 2]]}
    return [trial for trial in trials if trial.number in chosen]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
