"""What MLflow's UI reads when it opens an experiment: through the client, and decoded as the UI decodes it."""

import base64
import json
import zlib

import pytest

from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.tracking import store
from mlip_sweep.tracking.run import record
from mlip_sweep.tracking.sweep import open_sweep
from mlip_sweep.tracking.views import View, charts, metric, param

TAG = "mlflow.sharedViewState."


def tags_of(uri, name):
    return store.client(uri).get_experiment_by_name(name).tags


def read_view(uri, experiment_id, key):
    """Name and state of a saved view."""
    saved = json.loads(store.client(uri).get_experiment(experiment_id).tags[TAG + key])
    assert type(saved["createdAt"]) is type(saved["updatedAt"]) is int  # else the UI does not list it
    header, _, content = saved["state"].partition(";")
    assert header == "deflate"
    return saved["name"], json.loads(zlib.decompress(base64.b64decode(content)))


def test_a_new_experiment_is_of_model_training(uri):
    store.experiment_id(uri, "new")
    assert tags_of(uri, "new")["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.parametrize("chosen", [None, "genai_development"])
def test_the_kind_that_somebody_chose_stays(uri, chosen):
    tags = {"mlflow.experimentKind": chosen} if chosen else {}
    name = f"by hand {chosen}"
    made = store.client(uri).create_experiment(name, tags=tags)
    assert store.experiment_id(uri, name) == made
    assert tags_of(uri, name)["mlflow.experimentKind"] == (chosen or "custom_model_development")


def test_every_experiment_has_a_view_of_all_runs(uri, tmp_path):
    sweep = open_sweep(uri, "all", "grid", tags={}, config="", folder=tmp_path)
    for run in ("first", "second"):
        with record(uri=uri, experiment="all", name=run, parent_run_id=sweep.run_id) as rec:
            pass
    name, state = read_view(uri, rec.experiment_id, "all_runs")
    assert name == "All runs"
    rec.supersede(store.client(uri).search_runs([rec.experiment_id], "attributes.run_name = 'first'")[0].info.run_id)
    shown = store.client(uri).search_runs([rec.experiment_id], state["searchFilter"])
    assert [run.info.run_name for run in shown] == ["second"]
    assert (state["orderByKey"], state["orderByAsc"]) == (f"metrics.`{LOSS_ENTROPY}`", False)
    columns = state["selectedColumns"]
    for name in ("dataset", "model", "rescaling", "optimizer", "averaging", "loss", "seed"):
        assert f"params.`{name}`" in columns
    metrics = [column for column in columns if column.startswith("metrics")]
    told_first = (LOSS_ENTROPY, TIME_TO_FAILURE, RMSE_FORCES_HIGH_T, "rmse_energy_high_T_meV_atom")
    assert metrics[:4] == [f"metrics.`{name}`" for name in told_first]
    assert "attributes.`Dataset`" in columns
    assert state["columnOrder"][:2] == ["attributes.`Run Name`", "runDateAndNestInfo"]  # which the UI pins
    assert set(columns) <= set(state["columnOrder"])


def test_the_charts_of_a_view_are_of_what_was_asked_for(uri):
    experiment_id = store.experiment_id(uri, "charts")
    store.save_view(uri, experiment_id, "drawn", View("drawn", [], charts=charts(["error"], ["width"])))
    _, state = read_view(uri, experiment_id, "drawn")
    drawn = state["compareRunCharts"]
    (section,) = state["compareRunSections"]
    assert {chart["metricSectionId"] for chart in drawn} == {section["uuid"]}
    assert len({chart["uuid"] for chart in drawn}) == len(drawn)
    assert drawn[0]["type"] == "BAR" and drawn[0]["metricKey"] == "error"
    axes = [(chart["xaxis"]["key"], chart["yaxis"]["key"]) for chart in drawn if chart["type"] == "SCATTER"]
    assert (LOSS_ENTROPY, TIME_TO_FAILURE) in axes and (TIME_TO_FAILURE, TIME_TO_FAILURE) not in axes
    assert (drawn[-1]["selectedParams"], drawn[-1]["selectedMetrics"]) == (["width"], ["error"])


def test_a_view_that_somebody_changed_stays(uri):
    experiment_id = store.experiment_id(uri, "changed")
    store.client(uri).set_experiment_tag(experiment_id, TAG + "all_runs", "mine")
    store.offer_all_runs(uri, experiment_id)
    assert tags_of(uri, "changed")[TAG + "all_runs"] == "mine"


def test_a_saved_view_is_a_filter_an_order_and_columns_which_mlflow_understands(uri, tmp_path):
    sweep = open_sweep(uri, "views", "grid", tags={}, config="", folder=tmp_path)
    for width, error in (("8", 0.3), ("16", 0.1), ("32", 0.2)):
        with record(
            uri=uri, experiment="views", name=width, params={"width": width}, parent_run_id=sweep.run_id
        ) as rec:
            rec.metrics({"error": error})
    with record(uri=uri, experiment="views", name="alone") as rec:
        rec.metrics({"error": 0.0})
    of_sweep = f"tags.filed_under LIKE '%{sweep.run_id}%'"
    view = View("grid", [param("width"), metric("error")], of_sweep, metric("error"), ascending=True)
    store.save_view(uri, sweep.experiment_id, sweep.run_id, view)

    name, state = read_view(uri, sweep.experiment_id, sweep.run_id)
    assert name == "grid"
    assert state["selectedColumns"] == ["params.`width`", "metrics.`error`", "attributes.`Dataset`"]
    order = [f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"]
    runs = store.client(uri).search_runs([sweep.experiment_id], state["searchFilter"], order_by=order)
    assert [run.info.run_name for run in runs] == ["16", "32", "8"]


def test_the_page_of_a_sweep_is_its_view_and_that_of_a_run_is_its_own(uri, tmp_path):
    sweep = open_sweep(uri, "pages", "grid", tags={}, config="", folder=tmp_path)
    pages = f"#/experiments/{sweep.experiment_id}/runs"
    own = f"{pages}/{sweep.run_id}?workflowType=machine_learning"
    assert store.page_of(uri, sweep.run_id) == own  # of a sweep of an earlier version
    store.save_view(uri, sweep.experiment_id, sweep.run_id, View("grid", []))
    view = f"{pages}?viewStateShareKey={sweep.run_id}&workflowType=machine_learning"
    assert store.page_of(uri, sweep.run_id) == view
    assert store.view_page(uri, sweep.experiment_id, sweep.run_id) == view
    assert store.view_page(uri, sweep.experiment_id, "") is None
    assert store.ui_hint(uri, sweep.run_id).endswith(f"http://127.0.0.1:5000/{view}")
    with record(uri=uri, experiment="pages", name="child", parent_run_id=sweep.run_id) as rec:
        assert store.page_of(uri, rec.run_id) == f"{pages}/{rec.run_id}?workflowType=machine_learning"
