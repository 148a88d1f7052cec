"""The benchmarks count what they say: each moment once, and steps without what lies between epochs."""

import importlib

import numpy as np
import pytest
from samples import ROOT


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_each_moment_belongs_to_the_innermost_phase(benchmark):
    stopwatch = benchmark("stopwatch")
    now = [0.0]
    watch = stopwatch.Stopwatch("run", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    passes(1)
    with watch.within("training"):
        passes(2)
        with watch.model():
            passes(4)
            with watch.model():  # a forward pass inside a training step
                passes(8)
        with pytest.raises(KeyError), watch.within("validation"):
            passes(16)
            raise KeyError
        passes(32)
    passes(64)
    watch.note()
    assert watch.seconds == {
        ("run", stopwatch.REST): 65,
        ("training", stopwatch.REST): 34,
        ("training", stopwatch.MODEL): 12,
        ("validation", stopwatch.REST): 16,
    }


def test_a_watched_run_is_put_back_as_it_was(benchmark):
    from mlip_sweep.models.interface import Potential
    from mlip_sweep.tracking.run import RunRecord

    stopwatch = benchmark("stopwatch")
    before = (Potential.forward, RunRecord.phase)
    with stopwatch.watched(stopwatch.Stopwatch("run")):
        assert Potential.forward is not before[0]
    assert (Potential.forward, RunRecord.phase) == before


def test_steps_leave_out_the_time_between_epochs_and_the_first_epochs(benchmark):
    timing = benchmark("trainers").Timing([(t, 2.0 * t) for t in (0, 5, 9, 100, 101, 103, 200, 204, 209)], 1)
    times = benchmark("training").step_times(timing, per_epoch=3, skip=1)
    np.testing.assert_allclose(times, 1000.0 * np.array([[1, 2], [2, 4], [4, 8], [5, 10]]))
