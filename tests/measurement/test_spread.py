"""How the spread of a committee rises before its dynamics fails."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from ase.build import molecule
from toys import Springs, dataset_of, frame_of

from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.measurement.dynamics.spread import spread_table, until_failure
from mlip_sweep.measurement.dynamics.time_to_failure import (
    FORCES_SPREAD,
    FORCES_SPREAD_AT_FAILURE,
    TIME_TO_FAILURE,
    TimeToFailure,
)
from mlip_sweep.measurement.evaluation import predict_in_parts
from mlip_sweep.models.committee import Committee

METHANE = frame_of(molecule("CH4"), energy=-10.0)
SOON = TimeToFailure(duration_ps=0.05, replicas=3, control_replicas=0, progress=False)


def pushing(*stiffness: float) -> Committee:
    """Springs that push atoms apart, each with another force."""
    return Committee([Springs(stiffness=-one, length=0.0, cutoff=20.0) for one in stiffness])


def test_replicas_are_put_together_by_the_time_that_is_left_by_hand():
    time = np.array([0.0, 2.0, 4.0, 6.0])
    failed_at = np.array([5.0, np.nan, 4.0])  # of the first 5, 3 and 1 fs before its failure; of the last 4 and 2 fs
    nan = np.nan
    spread = np.array([[1.0, 9.0, 10.0], [2.0, 9.0, 20.0], [3.0, 9.0, nan], [nan, 9.0, nan]])
    found = until_failure(time, spread, failed_at)
    expected = pd.DataFrame({0: [3.0, 2.0, 1.0], 2: [20.0, 10.0, nan]}, index=[2.0, 4.0, 6.0])
    pd.testing.assert_frame_equal(found, expected, check_names=False)
    table = spread_table(found)
    assert list(table["median_eV_A"]) == [11.5, 6.0, 1.0]
    assert list(table["replicas"]) == [2, 2, 1]
    assert list(table["before_failure_fs"]) == [2.0, 4.0, 6.0]


def test_times_that_few_replicas_reach_back_to_are_left_out():
    time = np.arange(5.0)
    spread = np.where(time[:, None] < [4.0, 1.0, 1.0], 1.0, np.nan)
    assert list(until_failure(time, spread, np.array([4.0, 1.0, 1.0])).index) == [1.0]


@pytest.mark.parametrize("failed_at", [[np.nan, np.nan], [0.0, 0.0]])
def test_without_a_sample_before_a_failure_there_is_nothing(failed_at):
    spread = np.full((3, 2), np.nan)
    assert until_failure(np.arange(3.0), spread, np.array(failed_at)).empty


def test_dynamics_of_a_committee_tells_its_spread():
    committee = pushing(20.0, 22.0, 26.0)
    report = SOON(committee, dataset_of([METHANE]))
    assert report.metrics[TIME_TO_FAILURE] < SOON.duration_ps
    start = committee(graph(METHANE, committee.cutoff)).forces_spread
    np.testing.assert_allclose(report.arrays["forces_spread_eV_A"][0], start.max().item())
    median = report.tables["spread_before_failure"]["median_eV_A"]
    assert median.is_monotonic_decreasing and median.iloc[0] > start.max().item()  # it rises towards the failure
    assert "spread_before_failure" in report.figures
    assert report.metrics[FORCES_SPREAD_AT_FAILURE] == pytest.approx(1000.0 * median.iloc[0])
    assert report.metrics[FORCES_SPREAD] == pytest.approx(1000.0 * np.nanmedian(report.arrays["forces_spread_eV_A"]))


def test_a_committee_that_does_not_fail_has_no_spread_before_a_failure():
    calm = Committee([Springs(stiffness=one, length=1.8, cutoff=20.0) for one in (0.1, 0.2)])
    report = replace(SOON, temperature_K=1.0)(calm, dataset_of([METHANE]))
    assert "spread_before_failure" not in report.figures
    assert report.metrics[FORCES_SPREAD] > 0 and FORCES_SPREAD_AT_FAILURE not in report.metrics


def test_one_potential_has_no_spread():
    report = SOON(Springs(stiffness=-20.0, length=0.0, cutoff=20.0), dataset_of([METHANE]))
    assert FORCES_SPREAD not in report.metrics and not SOON.records(FORCES_SPREAD, dataset_of([METHANE]))
    assert "forces_spread_eV_A" not in report.arrays and "spread_before_failure" not in report.tables


def test_parts_have_the_spread_of_the_whole():
    committee = pushing(1.0, 2.0)
    batch = collate([graph(METHANE, committee.cutoff)] * 3)
    whole, parts = committee(batch), predict_in_parts(committee, batch, max_atoms=5)
    np.testing.assert_allclose(parts.forces_spread, whole.forces_spread)
