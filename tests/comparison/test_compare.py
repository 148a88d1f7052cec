import io

import numpy as np
import pandas as pd
import pytest
from lifelines.statistics import logrank_test
from matplotlib.image import imread
from recorded_runs import DURATION, landscape_report, record_run
from rich.console import Console

from mlip_sweep.comparison.compare import compare
from mlip_sweep.comparison.runs import last_parent, read_landscape, read_replicas, read_runs
from mlip_sweep.comparison.tables import LOG_RANK, WALL_TIME
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.tracking import store
from mlip_sweep.tracking.run import record
from mlip_sweep.training.metrics import VALIDATION_FORCES

# name: error at the minimum (eV/Å), width of the valley, scale of the times to failure (ps)
MODELS = {"stable": (0.02, 3.0, 20.0), "accurate": (0.01, 2.0, 6.0), "flat": (0.03, 6.0, 3.0), "poor": (0.08, 1.0, 0.5)}
TIMES = {name: scale * np.linspace(0.05, 1.5, 12) for name, (_, _, scale) in MODELS.items()}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return store.prepare(f"sqlite:///{tmp_path_factory.mktemp('compared')}/mlflow.db")


@pytest.fixture(scope="module")
def parent(uri):
    with record(uri=uri, experiment="sweep", name="search", tags={"kind": "sweep"}) as sweep:
        for name, (error, width, _) in MODELS.items():
            record_run(uri, "sweep", f"{name} · constant", error, width, TIMES[name], sweep.run_id, {"seed": 1})
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
    assert runs["param.seed"].iloc[0] == "1"
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
    table = found.table
    assert list(table["name"]) == ["stable", "accurate", "flat", "poor", "lost"]
    assert list(table["rank"][:4]) == [1, 2, 3, 4]
    assert pd.isna(table["rank"].iloc[4])
    assert (table[WALL_TIME][:4] >= 0).all()


def test_log_rank_is_against_the_first(found):
    first = np.minimum(TIMES["stable"], DURATION)
    for place, name in enumerate(MODELS):
        times = np.minimum(TIMES[name], DURATION)
        expected = logrank_test(first, times, first < DURATION, times < DURATION).p_value if place else np.nan
        assert found.table[LOG_RANK].iloc[place] == pytest.approx(expected, nan_ok=True)


def test_findings_say_where_the_measures_part(found):
    text = "\n".join(found.findings)
    assert "longest time-to-failure: #1 (stable)" in text
    assert "lowest forces RMSE: #2 (accurate)" in text
    # By construction the RMSE orders accurate < stable < flat < poor.
    entropy = dict(zip(found.table["name"], found.table[LOSS_ENTROPY], strict=True))
    best = max((name for name in entropy if np.isfinite(entropy[name])), key=entropy.get)
    assert f"({best})" in next(line for line in found.findings if "highest S" in line)
    order = ["accurate", "stable", "flat", "poor"]
    opposite = sum(entropy[a] < entropy[b] for i, a in enumerate(order) for b in order[i + 1 :])
    assert f"disagree on {opposite} of 6 pairs" in text
    assert "1 of 5 runs did not finish (1 FAILED)" in text
    assert {"S and time-to-failure", "forces RMSE and time-to-failure"} <= set(found.correlations)
    assert "S and time-to-failure" in text and "forces RMSE and time-to-failure" in text  # never one alone


def test_terminal_shows_every_run_and_narrows_with_the_terminal(found):
    def shown(width):
        text = io.StringIO()
        found.show("search", Console(file=text, width=width))
        return text.getvalue()

    wide, narrow = shown(180), shown(90)
    for name in ("stable", "accurate", "flat", "poor", "lost"):
        assert name in wide and name in narrow
    assert "RuntimeError: loss is [not] finite" in wide
    assert all(label in wide for label in ("300K", "600K", "1200K", "high-T", "survive"))
    assert "300K" not in narrow and "high-T" in narrow and "to failure" in narrow
    assert f"{found.table[TIME_TO_FAILURE].iloc[0]:.2f} [" in narrow
    assert max(len(line) for line in narrow.splitlines()[:20]) <= 90


def test_files_are_written(found):
    assert [file.name for file in found.files] == [
        "comparison.csv",
        "findings.txt",
        "landscapes.png",
        "survival.png",
        "prediction.png",
    ]
    stored = pd.read_csv(found.files[0])
    assert list(stored["name"]) == list(found.table["name"])
    np.testing.assert_allclose(stored[LOSS_ENTROPY], found.table[LOSS_ENTROPY])
    for file in found.files[2:]:
        image = imread(file)
        assert image[..., :3].std() > 0.05  # something is drawn


def test_runs_that_all_survive_are_said_not_to_be_ordered(uri, tmp_path):
    for seed in range(2):
        record_run(uri, "survivors", f"seed={seed}", 0.02, 3.0, np.full(5, 10.0), seed=seed)
    table = compare(uri, "survivors", output=tmp_path)
    assert any("time-to-failure is a lower bound" in line for line in table.findings)
    assert any("does not tell #2 from #1" in line for line in table.findings)


def test_runs_with_little_to_compare_are_shown_all_the_same(uri, tmp_path):
    for _ in range(2):
        with record(uri=uri, experiment="bare", name="defaults") as rec:
            rec.metrics({VALIDATION_FORCES: 12.5})
    found = compare(uri, "bare", output=tmp_path / "bare")
    assert [file.name for file in found.files] == ["comparison.csv", "findings.txt"]
    assert found.table["name"].is_unique
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
