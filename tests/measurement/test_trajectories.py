"""Trajectories as files that ASE reads back."""

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones
from toys import LennardJones, Springs, dataset_of, frame_of

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import UNLIMITED, Limits
from mlip_sweep.measurement.dynamics.time_to_failure import TimeToFailure
from mlip_sweep.measurement.dynamics.trajectories import write_extxyz

ARGON = LennardJones(sigma=3.4, epsilon=0.0104, cutoff=6.0, onset=4.5)


def argon() -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.1, seed=0)
    return atoms


@pytest.mark.parametrize("check_every", [1, 50])
def test_frames_hold_what_the_model_says_of_them(tmp_path, check_every):
    start = frame_of(argon())
    momenta = np.random.default_rng(0).normal(0.0, 3.0, (2, 4, 3))
    settings = {"n_steps": 25, "limits": UNLIMITED, "progress": False, "check_every": check_every}
    found = molecular_dynamics(ARGON, start, momenta, trajectory_every=10, **settings)
    write_extxyz(tmp_path / "one.xyz", start, found, 1, 1.0)
    frames = ase.io.read(tmp_path / "one.xyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 10, 20]
    assert [frame.info["time_fs"] for frame in frames] == [0.0, 10.0, 20.0]
    np.testing.assert_allclose(frames[0].get_momenta(), momenta[1], atol=1e-7)
    for frame in frames:
        again = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        again.calc = AseLennardJones(sigma=3.4, epsilon=0.0104, rc=6.0, ro=4.5, smooth=True)
        assert frame.pbc.all()
        assert frame.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(frame.get_forces(), again.get_forces(), atol=1e-6)
    total = [frame.get_potential_energy() + frame.get_kinetic_energy() for frame in frames]
    assert np.ptp(total) < 0.01 * np.ptp([frame.get_kinetic_energy() for frame in frames])
    # Velocities are those that moved the atoms: the mean of two ends, over ten short steps.
    moved = (frames[1].positions - frames[0].positions) / (10 * units.fs)
    mean = 0.5 * (frames[0].get_velocities() + frames[1].get_velocities())
    np.testing.assert_allclose(moved, mean, atol=0.02 * np.abs(mean).max())


def test_the_last_frame_of_a_failed_replica_says_why(tmp_path):
    start = frame_of(Atoms("H2", [[0, 0, 0], [0, 0, 0.75]]))
    momenta = np.zeros((1, 2, 3))
    momenta[0, 1, 2] = 0.04 * 1.008 / units.fs
    settings = {"n_steps": 100, "progress": False, "limits": Limits(bond=2.0), "trajectory_every": 10}
    found = molecular_dynamics(Springs(stiffness=0.0, length=1.0), start, momenta, check_every=25, **settings)
    write_extxyz(tmp_path / "lost.xyz", start, found, 0, 1.0)
    frames = ase.io.read(tmp_path / "lost.xyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 10, 20, 30, 32]  # 1.25 / 0.04 = 31.25
    assert [frame.info.get("failure") for frame in frames] == [None] * 4 + ["bond"]
    assert frames[-1].get_distance(0, 1) == pytest.approx(0.75 + 32 * 0.04, abs=1e-4)


def test_the_report_brings_a_file_a_replica_where_they_are_asked_for(tmp_path):
    data = dataset_of([frame_of(argon())])
    settings = {
        "duration_ps": 0.01,
        "replicas": 2,
        "temperature_K": 100.0,
        "criteria": ["temperature"],
        "max_temperature_ratio": 1e6,
        "progress": False,
    }
    assert not TimeToFailure(**settings)(ARGON, data).files
    report = TimeToFailure(trajectory_every=5, **settings)(ARGON, data)
    assert list(report.files) == ["trajectories/replica_00.xyz", "trajectories/replica_01.xyz"]
    report.files["trajectories/replica_01.xyz"](tmp_path / "b.xyz")
    assert len(ase.io.read(tmp_path / "b.xyz", ":")) == 3


def test_an_interval_of_zero_is_refused_before_the_training():
    with pytest.raises(InputError, match="trajectory_every=0"):
        TimeToFailure(trajectory_every=0)
