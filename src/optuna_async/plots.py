"""A study's plots, as Optuna draws them, on one HTML page that needs no network."""

import html
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna import visualization
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_async.config import PLOTS_FILE

CONFIG = {"showSendToCloud": False, "displaylogo": False}  # no button that uploads unpublished results
MIN_COMPLETE = 2  # trials, below which a plot shows nothing

log = logging.getLogger(__name__)


def draw(study: optuna.Study, trials: list[FrozenTrial], folder: Path) -> None:
    """Write the page; none while hardly a trial is complete."""
    if sum(trial.state == TrialState.COMPLETE for trial in trials) < MIN_COMPLETE:
        return
    parts: list[str] = []
    for title, make in _plots(study, trials):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what the sign of a target means, which is handled below
                figure = make()
        except (ValueError, RuntimeError) as error:  # such as importances for values that are all the same
            log.debug("%s was not drawn: %s", title, error)
            continue
        figure.update_layout(title=title)
        parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts, config=CONFIG))
    head = f'<head><meta charset="utf-8"><title>{html.escape(study.study_name)}</title></head>'
    lines = ["<!doctype html>", "<html>", head, "<body>", *parts, "</body>", "</html>"]
    (folder / PLOTS_FILE).write_text("\n".join(lines) + "\n")


def _plots(study: optuna.Study, trials: list[FrozenTrial]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The title of each plot, and the function that draws it."""
    n = len(study.directions)
    if n in (2, 3):
        yield "Pareto front", partial(visualization.plot_pareto_front, study)
    for i in range(n):
        name = f"value {i}" if n > 1 else "value"
        target: dict[str, Any] = {"target": partial(_value, i=i), "target_name": name} if n > 1 else {}
        yield f"Optimisation history, {name}", partial(visualization.plot_optimization_history, study, **target)
        if n > 1 and study.directions[i] == StudyDirection.MAXIMIZE:  # importances are those for a low target
            target = {"target": partial(_value, i=i, sign=-1.0), "target_name": name}
        yield f"Importance for {name}", partial(visualization.plot_param_importances, study, **target)
    if n == 1:
        yield "Value against each parameter", partial(visualization.plot_slice, study)
    if any(trial.intermediate_values for trial in trials):
        yield "Intermediate values", partial(visualization.plot_intermediate_values, study)


def _value(trial: FrozenTrial, i: int, sign: float = 1.0) -> float:
    return sign * float(trial.values[i])
