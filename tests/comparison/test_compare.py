import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from recorded_runs import DURATION, landscape_report, record_run
from rich.console import Console

from mlip_sweep.comparison.compare import compare
from mlip_sweep.comparison.runs import last_parent, read_landscape, read_replicas, read_runs
from mlip_sweep.comparison.tables import WALL_TIME
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.tracking import store
from mlip_sweep.tracking.run import record
from mlip_sweep.training.metrics import VALIDATION_FORCES

# name: error at the minimum (eV/Å), width of the valley, scale of the times to failure (ps)
MODELS = {
    "stable": (0.02, 3.0, 20.0),
    "accurate": (0.01, 2.0, 12.0),
    "flat": (0.03, 6.0, 3.0),
    "poor": (0.08, 1.0, 0.5),
}
TIMES = {name: scale * np.linspace(0.05, 1.5, 12) for name, (_, _, scale) in MODELS.items()}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return store.prepare(f"sqlite:///{tmp_path_factory.mktemp('compared')}/mlflow.db")


@pytest.fixture(scope="module")
def parent(uri):
    with record(uri=uri, experiment="sweep", name="search", tags={"kind": "sweep"}) as sweep:
        for name, (error, width, _) in MODELS.items():
            params = {"model": name, "loss": "constant", "seed": 1}
            record_run(uri, "sweep", f"{name} · constant", error, width, TIMES[name], sweep.run_id, params)
        lost = record(uri=uri, experiment="sweep", name="lost · constant", parent_run_id=sweep.run_id)
        with pytest.raises(RuntimeError), lost:
            raise RuntimeError("loss is [not] finite")
    return sweep.run_id


@pytest.fixture(scope="module")
def found(uri, parent, tmp_path_factory):
    return compare(uri, "sweep", parent, tmp_path_factory.mktemp("comparison"))


def test_runs_are_read_back_whole(uri, parent):
    runs = read_runs(uri, "sweep", parent)
    assert list(runs["name"]) == ["stable", "accurate", "flat", "poor", "lost"]
    assert list(runs["status"]) == ["FINISHED"] * 4 + ["FAILED"]
    assert runs["seed"].iloc[0] == runs["params"].iloc[0]["seed"] == "1"
    report = landscape_report(*MODELS["stable"][:2], seed=0)
    assert runs[LOSS_ENTROPY].iloc[0] == report.metrics[LOSS_ENTROPY]
    curves = read_landscape(uri, runs["run_id"].iloc[0])
    np.testing.assert_array_equal(curves.forces, report.arrays["forces"])
    replicas = read_replicas(uri, runs["run_id"].iloc[0])
    np.testing.assert_allclose(replicas.time, np.minimum(TIMES["stable"], DURATION))
    np.testing.assert_array_equal(replicas.failed, TIMES["stable"] < DURATION)
    lost = runs["run_id"].iloc[-1]
    assert read_landscape(uri, lost) is None
    assert read_replicas(uri, lost) is None
    assert last_parent(uri, "sweep") == parent


def test_the_longest_survivor_comes_first_and_the_lost_run_last(found):
    runs = found.runs
    assert list(runs["name"]) == ["stable", "accurate", "flat", "poor", "lost"]
    assert list(runs["choice"][:4]) == ["stable", "accurate", "flat", "poor"]
    assert list(runs["rank"][:2]) == [1, 1] and list(runs["rank"][2:4]) == [3, 4]
    assert pd.isna(runs["rank"].iloc[4])
    assert (runs[WALL_TIME][:4] >= 0).all()


def test_findings_answer_first_and_say_where_the_measures_part(found):
    text = "\n".join(found.findings)
    assert found.findings[0].startswith("trust stable (run ")
    assert "cannot be told from it: accurate (p = " in found.findings[1]
    assert "forces error above the training temperature would have chosen accurate, which cannot be told" in text
    entropy = found.runs.set_index("choice")[LOSS_ENTROPY]
    assert f"S would have chosen {entropy.idxmax()}" in text
    assert "1 of 5 runs did not finish (1 FAILED)" in text


def test_terminal_shows_every_run_and_narrows_with_the_terminal(found):
    def shown(width):
        text = io.StringIO()
        found.show("search", Console(file=text, width=width))
        return text.getvalue()

    wide, narrow = shown(190), shown(90)
    for name in ("stable", "accurate", "flat", "poor", "lost"):
        assert name in wide and name in narrow
    assert "RuntimeError: loss is [not] finite" in wide
    assert all(label in wide for label in ("300K", "600K", "1200K", "high-T", "survive"))
    assert "300K" not in narrow and "high-T" in narrow and "to failure" in narrow
    assert f"{found.runs[TIME_TO_FAILURE].iloc[0]:.2f} [" in narrow
    assert max(len(line) for line in narrow.splitlines()[:20]) <= 90
    assert "1=" in narrow  # a tie is shown as one


def test_files_are_written(found):
    assert [file.name for file in found.files] == [
        "comparison.csv",
        "choices.csv",
        "findings.txt",
        "landscapes.png",
        "survival.png",
        "prediction.png",
    ]
    stored = pd.read_csv(found.files[0], float_precision="round_trip")
    assert list(stored["name"]) == list(found.runs["name"])
    np.testing.assert_allclose(stored[LOSS_ENTROPY], found.runs[LOSS_ENTROPY])
    for file in found.files[3:]:
        image = imread(file)
        assert image[..., :3].std() > 0.05  # something is drawn


def test_runs_with_little_to_compare_are_shown_all_the_same(uri, tmp_path):
    for _ in range(2):
        with record(uri=uri, experiment="bare", name="defaults") as rec:
            rec.metrics({VALIDATION_FORCES: 12.5})
    found = compare(uri, "bare", output=tmp_path / "bare")
    assert [file.name for file in found.files] == ["comparison.csv", "choices.csv", "findings.txt"]
    assert found.runs["name"].is_unique
    assert "choose measurement=quick" in found.findings[0]
    text = io.StringIO()
    found.show(console=Console(file=text, width=100))
    assert "F validation" in text.getvalue() and "12.5" in text.getvalue()


def test_nothing_to_compare_is_said(uri, tmp_path):
    store.experiment_id(uri, "empty")
    with pytest.raises(InputError, match="no runs to compare"):
        compare(uri, "empty", output=tmp_path)
    with pytest.raises(InputError, match="'unknown' is not in"):
        compare(uri, "unknown", output=tmp_path)
    with pytest.raises(InputError, match="no sweep in"):
        last_parent(uri, "empty")
