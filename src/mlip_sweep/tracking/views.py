"""Saved views of the run list in MLflow's UI: which runs it shows, by which columns, in what order.

MLflow keeps a saved view as a tag of the experiment. Everybody who opens the experiment finds it under "Views", and
a link opens it at once; MLflow has no view that it opens by itself. The value of the tag is what the UI itself writes
for "Save as new view" since MLflow 3.16: a name, two times, and the state of the page as deflated JSON. An older UI
shows its usual columns instead.
"""

import base64
import json
import re
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlip_sweep.metrics import SET, Metric

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ALL_RUNS = "all_runs"  # key of the view that every experiment has
CHOICES = ("dataset", "model", "rescaling", "optimizer", "averaging", "loss", "seed")
TAG = "mlflow.sharedViewState."  # before the key of a view
DEFLATED = "deflate;"
MODEL_TRAINING = "workflowType=machine_learning"  # else a browser shows the pages for GenAI that it was left with
START_TIME = "attributes.start_time"
RUN_NAME = "attributes.`Run Name`"  # columns that the UI shows always,
CREATED = "runDateAndNestInfo"
DURATION = "duration"
DATASET = "attributes.`Dataset`"  # and one that it shows where it is asked to
WIDTHS = {RUN_NAME: 270, CREATED: 140, DATASET: 220}  # pixels
SECTION = {"uuid": "comparison", "name": "Comparison", "display": True, "isReordered": True}
RUNS_IN_CHART = 100
NARROWEST = 115  # holds forces_rms and ethanol_xtb
MARGIN = 40  # of a column, beside its heading,
CHARACTER = 7.5  # each letter of which is so wide


@dataclass(frozen=True)
class View:
    """A saved view.

    Attributes:
        name: Under which the UI lists it.
        columns: What it shows, in this order, as `param` and `metric` write it; what no run has takes no place. The
            name of a run comes before them, its duration and data after them.
        runs: A filter in the language of MLflow's search; "" for all runs of the experiment.
        order_by: The column that the runs are sorted by. In the order of their start MLflow files the runs of a sweep
            under its parent, and folds them away; in any other it lists them.
        ascending: Whether the smallest comes first.
        charts: What it draws, as `charts` writes it, before MLflow's own charts of every metric.
    """

    name: str
    columns: Sequence[str]
    runs: str = ""
    order_by: str = START_TIME
    ascending: bool = False
    charts: Sequence[dict[str, Any]] = ()

    def state(self) -> dict[str, Any]:
        """The state of the UI's page; what is left out stays as the UI has it."""
        heading = re.compile("`(.*)`")
        headings = {column: heading.findall(column)[0] for column in self.columns}
        widths = {column: max(NARROWEST, round(MARGIN + CHARACTER * len(text))) for column, text in headings.items()}
        drawn = {"compareRunCharts": list(self.charts), "compareRunSections": [SECTION], "isAccordionReordered": True}
        return {
            "searchFilter": self.runs,
            "orderByKey": self.order_by,
            "orderByAsc": self.ascending,
            "selectedColumns": [*self.columns, DATASET],
            "columnOrder": [RUN_NAME, CREATED, *self.columns, DURATION, DATASET],
            "columnWidths": {**widths, **WIDTHS},
            "runsHiddenMode": "SHOW_ALL",  # the UI's charts are of the first ten runs alone
            **(drawn if self.charts else {}),
        }


def param(name: str) -> str:
    """The column of a parameter."""
    return f"params.`{name}`"


def metric(name: str) -> str:
    """The column of a metric."""
    return f"metrics.`{name}`"


def save(client: "MlflowClient", experiment_id: str, key: str, view: View) -> None:
    """Save a view in an experiment; one of the same key is replaced.

    Args:
        client: Of the store.
        experiment_id: MLflow's id of the experiment.
        key: By which a link names the view.
        view: The view.
    """
    now = int(time.time() * 1000)
    deflated = base64.b64encode(zlib.compress(json.dumps(view.state()).encode())).decode()
    value = {"name": view.name, "createdAt": now, "updatedAt": now, "state": DEFLATED + deflated}
    client.set_experiment_tag(experiment_id, TAG + key, json.dumps(value))


def page(experiment_id: str, key: str) -> str:
    """The address of a view inside MLflow's UI."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}&{MODEL_TRAINING}"


def all_runs() -> View:
    """The view that every experiment has: the runs of all sweeps in one list, the highest loss entropy first."""
    from mlip_sweep.measurement.chosen import declared_by, shipped_measurements  # PyTorch takes seconds to import
    from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
    from mlip_sweep.tracking.read import CURRENT
    from mlip_sweep.training.metrics import METRICS

    declared = (*declared_by(shipped_measurements().values()), *METRICS)
    columns = compared([], declared, CHOICES)
    return View(
        "All runs", columns, f"tags.kind = 'run' AND {CURRENT}", metric(LOSS_ENTROPY), charts=charts([], CHOICES)
    )


def compared(objectives: Sequence[str], declared: Iterable[Metric], params: Iterable[str]) -> list[str]:
    """The columns that runs are compared by: the most telling metrics, what varies, the other metrics.

    Args:
        objectives: Names of the metrics that come first.
        declared: The declarations of all metrics; one that has a column in the table of a comparison is shown, unless
            it stands for a family such as the errors on each set of frames.
        params: Names of the parameters that vary.
    """
    columns = [(one.column.priority, one.name) for one in declared if one.column and SET not in one.name]
    others = [name for _, name in sorted(columns, key=lambda one: -one[0])]
    first = _most_telling(objectives)
    return list(dict.fromkeys([*map(metric, first), *map(param, params), *map(metric, others)]))


def charts(objectives: Sequence[str], params: Iterable[str]) -> list[dict[str, Any]]:
    """Charts that runs are compared by.

    Bars of the most telling metrics, each of these against the time to failure, and lines from what varies to the first
    of them.

    Args:
        objectives: Names of the metrics that come first.
        params: Names of the parameters that vary.
    """
    from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE

    first = _most_telling(objectives)
    bars = [{"type": "BAR", "metricKey": name, "displayName": name} for name in first]
    time_to_failure = {"key": TIME_TO_FAILURE, "type": "METRIC"}
    scatters = [
        {"type": "SCATTER", "xaxis": {"key": name, "type": "METRIC"}, "yaxis": time_to_failure}
        for name in first
        if name != TIME_TO_FAILURE
    ]
    lines = {"type": "PARALLEL", "selectedParams": list(params), "selectedMetrics": [first[0]], "showAllRuns": True}
    drawn: list[dict[str, Any]] = [*bars, *scatters, lines]
    shared = {"metricSectionId": SECTION["uuid"], "runsCountToCompare": RUNS_IN_CHART}
    return [{"uuid": f"comparison-{n}", **shared, **one} for n, one in enumerate(drawn)]


def _most_telling(objectives: Sequence[str]) -> list[str]:
    """Names of the metrics that come first in lists and charts."""
    from mlip_sweep.measurement.accuracy import HIGH_T, RMSE_FORCES_HIGH_T
    from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
    from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
    from mlip_sweep.models.targets import ENERGY

    usual = (LOSS_ENTROPY, TIME_TO_FAILURE, RMSE_FORCES_HIGH_T, ENERGY.metric("rmse", HIGH_T))
    return list(dict.fromkeys([*objectives, *usual]))
