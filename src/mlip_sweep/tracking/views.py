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
        order_by: The column that the runs are sorted by. MLflow files the runs of a sweep under their parent only where
            it shows all runs, in the order of their start.
        ascending: Whether the smallest comes first.
    """

    name: str
    columns: Sequence[str]
    runs: str = ""
    order_by: str = START_TIME
    ascending: bool = False

    def state(self) -> dict[str, Any]:
        """The state of the UI's page; what is left out stays as the UI has it."""
        heading = re.compile("`(.*)`")
        widths = {column: round(MARGIN + CHARACTER * len(heading.findall(column)[0])) for column in self.columns}
        return {
            "searchFilter": self.runs,
            "orderByKey": self.order_by,
            "orderByAsc": self.ascending,
            "selectedColumns": [*self.columns, DATASET],
            "columnOrder": [RUN_NAME, CREATED, *self.columns, DURATION, DATASET],
            "columnWidths": {**widths, **WIDTHS},
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
    """The view that every experiment has: the runs of all sweeps in one list, the last one first."""
    from mlip_sweep.measurement.chosen import declared_by, shipped_measurements  # PyTorch takes seconds to import
    from mlip_sweep.tracking.read import CURRENT
    from mlip_sweep.training.metrics import METRICS

    declared = (*declared_by(shipped_measurements().values()), *METRICS)
    return View("All runs", compared([], declared, CHOICES), f"tags.kind = 'run' AND {CURRENT}")


def compared(objectives: Sequence[str], declared: Iterable[Metric], params: Iterable[str]) -> list[str]:
    """The columns that runs are compared by: the most telling metrics, what varies, the other metrics.

    Args:
        objectives: Names of the metrics that come first.
        declared: The declarations of all metrics; one that has a column in the table of a comparison is shown, unless
            it stands for a family such as the errors on each set of frames.
        params: Names of the parameters that vary.
    """
    from mlip_sweep.measurement.accuracy import HIGH_T, RMSE_FORCES_HIGH_T
    from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
    from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
    from mlip_sweep.models.targets import ENERGY

    first = (*objectives, LOSS_ENTROPY, TIME_TO_FAILURE, RMSE_FORCES_HIGH_T, ENERGY.metric("rmse", HIGH_T))
    columns = [(one.column.priority, one.name) for one in declared if one.column and SET not in one.name]
    others = [name for _, name in sorted(columns, key=lambda one: -one[0])]
    return list(dict.fromkeys([*map(metric, first), *map(param, params), *map(metric, others)]))
