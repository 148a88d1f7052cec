"""Drift of energies that are known on paper, and of potentials that conserve it or do not."""

import numpy as np
import pytest
from samples import ethanol_frames
from toys import LennardJones, Springs, dataset_of

from mlip_sweep.errors import SettingError
from mlip_sweep.measurement.conservation import Conservation, drift, drift_ratio, drifts


def test_a_straight_drift_is_its_slope():
    t = np.linspace(0.0, 2.0, 401)
    kinetic = 1.0 + 0.1 * np.sin(40 * np.pi * t)  # a scatter of 0.1 / √2
    slope, ratio = drifts(t, 5.0 - 0.3 * t, kinetic)
    assert slope == pytest.approx(0.3)
    assert ratio == pytest.approx(0.3 * 2.0 / kinetic.std())
    kept = np.where(t <= 1.0, kinetic, np.nan)  # lost half way
    assert drifts(t, 5.0 - 0.3 * t, kept) == pytest.approx((0.3, 0.3 / kinetic[t <= 1.0].std()))
    assert np.isnan(drifts(t, np.full_like(t, np.nan), kinetic)).all()


def test_a_smooth_potential_conserves_and_one_that_is_cut_off_does_not():
    dataset = dataset_of(ethanol_frames(2))
    settings = Conservation(temperatures_K=[300.0, 900.0], duration_ps=0.2, replicas=3, progress=False)
    smooth = settings(Springs(stiffness=5.0, length=1.5, cutoff=30.0), dataset)
    cut = settings(Springs(stiffness=5.0, length=1.5, cutoff=2.2), dataset)  # pairs come and go at 2.2 Å
    assert smooth.metrics[drift_ratio("300K")] < 0.2
    assert cut.metrics[drift_ratio("900K")] > 10 * smooth.metrics[drift_ratio("900K")]
    assert smooth.metrics["nve_lost_replicas"] == 0
    assert smooth.arrays["total_energy_eV"].shape[1] == 6
    assert len(smooth.tables["drift"]) == 6
    per_atom = smooth.tables["drift"].groupby("temperature")["drift_eV_ps"].mean() * 1000 / 9
    assert smooth.metrics[drift("900K")] == pytest.approx(per_atom["900K"])


def test_a_shorter_timestep_conserves_better():
    """The error of velocity Verlet falls with the square of the timestep."""
    dataset = dataset_of(ethanol_frames(1))
    model = LennardJones(sigma=1.2, epsilon=0.5, cutoff=6.0, onset=4.0)
    spreads = []
    for timestep in (1.0, 0.25):
        report = Conservation(
            temperatures_K=[100.0], duration_ps=0.1, timestep_fs=timestep, replicas=2, progress=False
        )(model, dataset)
        spreads.append(np.ptp(report.arrays["total_energy_eV"], axis=0).mean())
    assert spreads[1] < spreads[0] / 4


def test_a_temperature_must_be_positive():
    with pytest.raises(SettingError, match="temperatures_K"):
        Conservation(temperatures_K=[300.0, -1.0])
