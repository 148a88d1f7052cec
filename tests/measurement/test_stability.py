"""Survival arithmetic by hand, the protocol's start against ASE, and the report as a whole."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.md.velocitydistribution import Stationary
from scipy import stats
from toys import Springs, dataset_of, frame_of

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, initial_momenta, simulate, starting_geometry
from mlip_sweep.measurement.dynamics.survival import log_rank, survival
from mlip_sweep.measurement.dynamics.time_to_failure import (
    CONTROL_SURVIVAL,
    DURATION,
    MEAN_TEMPERATURE,
    SURVIVAL_FRACTION,
    TIME_TO_FAILURE,
    TIME_TO_FAILURE_LOW,
    TIME_TO_FAILURE_PAPER,
    TimeToFailure,
    failures,
)

ETHANOL = frame_of(molecule("CH3CH2OH"), energy=-10.0, origin="the start")


class Network(Springs):
    """Springs that hold ethanol together, as stiff as bonds."""

    def __init__(self, stiffness: float = 20.0):
        atoms = molecule("CH3CH2OH")
        super().__init__(stiffness=stiffness, length=0.0, cutoff=20.0)
        self.lengths = atoms.get_all_distances()
        self.size = len(atoms)

    def atomic_energies(self, batch):
        import torch

        i, j = batch.edge_index % self.size
        pair = 0.25 * self.stiffness * (batch.edge_vectors().norm(dim=1) - torch.from_numpy(self.lengths)[i, j]) ** 2
        return (0.0 * batch.positions.sum(1)).index_add(0, batch.edge_index[1], pair)


class Explosive(Network):
    """Springs that push."""

    def __init__(self):
        super().__init__(stiffness=-20.0)


def test_censored_survival_by_hand():
    # Five replicas, failures at 1, 2 and 2 ps, two intact at 4 ps: S = 1 until 1, 0.8 until 2, then 0.4.
    times, failed = np.array([2.0, 4.0, 1.0, 4.0, 2.0]), np.array([True, False, True, False, True])
    found = survival(times, failed, duration_ps=4.0, timestep_ps=0.001)
    assert found.restricted_mean == pytest.approx(1 * 1.0 + 1 * 0.8 + 2 * 0.4)
    assert found.fraction == pytest.approx(0.4)
    assert found.paper_mean == pytest.approx((1 + 2 + 2 + 4.001 + 4.001) / 5)
    assert found.curve["survival"].to_dict() == pytest.approx({0.0: 1.0, 1.0: 0.8, 2.0: 0.4, 4.0: 0.4})
    reach = stats.t.ppf(0.975, 4) * np.std(times, ddof=1) / np.sqrt(5)
    assert (found.low, found.high) == pytest.approx((2.6 - reach, 4.0))  # the upper end is cut at the duration
    assert not found.conservative


def test_intervals_of_equal_times_are_as_wide_as_ignorance():
    share = 1 - 0.025 ** (1 / 30)  # Clopper & Pearson for 0 of 30: 0.1157
    assert share == pytest.approx(0.1157, abs=1e-4)
    intact = survival(np.full(30, 6.0), np.zeros(30, bool), duration_ps=6.0, timestep_ps=0.001)
    assert (intact.low, intact.restricted_mean, intact.high) == pytest.approx((6 * (1 - share), 6.0, 6.0))
    assert intact.paper_mean == pytest.approx(6.001)
    together = survival(np.full(30, 2.0), np.ones(30, bool), duration_ps=6.0, timestep_ps=0.001)
    assert (together.low, together.high) == pytest.approx((2 * (1 - share), 2 + share * 4))
    assert together.fraction == 0.0
    at_once = survival(np.zeros(30), np.ones(30, bool), duration_ps=6.0, timestep_ps=0.001)
    assert (at_once.low, at_once.restricted_mean, at_once.paper_mean) == (0.0, 0.0, 0.0)
    assert intact.conservative and together.conservative and at_once.conservative


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 2.0 * (1 - np.exp(-2.0))  # of an exponential with mean 2 ps, cut at 4 ps
    covered = 0
    for _ in range(200):
        drawn = rng.exponential(2.0, 30)
        found = survival(np.minimum(drawn, 4.0), drawn < 4.0, duration_ps=4.0, timestep_ps=0.001)
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_log_rank_by_hand():
    # Three against three, no censoring, all of a before all of b: expected failures of a are 1/2 + 2/5 + 1/4, the
    # variance 1/4 + 6/25 + 3/16.
    a, b, all_failed = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), np.ones(3, bool)
    chi2 = (3 - (1 / 2 + 2 / 5 + 1 / 4)) ** 2 / (1 / 4 + 6 / 25 + 3 / 16)
    assert log_rank(a, all_failed, b, all_failed) == pytest.approx(stats.chi2.sf(chi2, 1))
    assert log_rank(a, ~all_failed, b, ~all_failed) == 1.0


def test_velocities_are_those_of_ase_and_do_not_depend_on_the_number_of_replicas():
    many, few = (initial_momenta(ETHANOL, MDProtocol(replicas=n, seed=3)) for n in (2000, 2))
    np.testing.assert_array_equal(many[:2], few)
    assert not np.allclose(few[0], few[1])
    assert not np.allclose(few, initial_momenta(ETHANOL, MDProtocol(replicas=2, seed=4)))
    np.testing.assert_allclose(many.sum(axis=1), 0.0, atol=1e-12)
    atoms = Atoms(numbers=ETHANOL.atomic_numbers, positions=ETHANOL.positions)
    temperatures = []
    for momenta in many:
        atoms.set_momenta(momenta)
        temperatures.append(atoms.get_temperature())
    spread = 1600 * np.sqrt(2 / (3 * len(atoms)))
    assert np.mean(temperatures) == pytest.approx(1600, abs=4 * spread / np.sqrt(2000))
    assert np.std(temperatures) == pytest.approx(spread, rel=0.1)
    atoms.set_momenta(many[0])
    Stationary(atoms)
    np.testing.assert_allclose(atoms.get_momenta(), many[0], atol=1e-12)  # already what ASE would make of it


def test_the_cold_start_is_one_start():
    protocol = MDProtocol(replicas=3, velocities="paper", duration_ps=0.05)
    rattled = molecule("CH3CH2OH")
    rattled.rattle(0.05, seed=0)
    found = simulate(Network(), frame_of(rattled), protocol, progress=False)
    assert (found.temperature[0] == 0.0).all()
    assert (found.temperature[-1] > 100.0).all()
    np.testing.assert_allclose(found.positions[1:], found.positions[:1].repeat(2, axis=0), atol=1e-10)


def test_the_start_is_the_lowest_clean_label():
    low, high = frame_of(molecule("CH3CH2OH"), energy=-5.0), frame_of(molecule("CH3CH2OH"), energy=-4.0)
    noisy = [frame_of(molecule("CH3CH2OH"), energy=e) for e in (-3.0, -9.0)]
    assert starting_geometry(dataset_of(noisy, train_clean=[low, high])) is low


def test_a_model_that_holds_and_one_that_does_not():
    settings = {"duration_ps": 0.1, "replicas": 4, "progress": False}
    held = TimeToFailure(**settings)(Network(), dataset_of([ETHANOL]))
    assert held.metrics[SURVIVAL_FRACTION] == 1.0
    assert held.metrics[TIME_TO_FAILURE] == pytest.approx(0.1)
    assert held.metrics[TIME_TO_FAILURE_PAPER] == pytest.approx(0.101)
    assert held.metrics[DURATION] == pytest.approx(0.1)
    assert 300 < held.metrics[MEAN_TEMPERATURE] < 2000
    assert any("same time" in note for note in held.notes)
    lost = TimeToFailure(**settings)(Explosive(), dataset_of([ETHANOL]))
    assert lost.metrics[SURVIVAL_FRACTION] == 0.0
    assert lost.metrics[failures("bond")] == 4.0
    assert 0.0 < lost.metrics[TIME_TO_FAILURE_LOW] <= lost.metrics[TIME_TO_FAILURE] < 0.1
    assert lost.tables["criteria"].values.tolist() == [
        ["position", "finite", 0],
        ["bond", "2 Å", 4],
        ["energy", "finite", 0],
        ["forces", "finite", 0],
    ]
    table = lost.tables["replicas"]
    assert list(table.columns) == ["replica", "time_ps", "failed", "reason", "seed"]
    assert table["time_ps"].mean() == pytest.approx(lost.metrics[TIME_TO_FAILURE])
    assert held.arrays["temperature_K"].shape == (101, 4)
    assert lost.arrays["temperature_K"].shape[0] <= 1 + 1000 * table["time_ps"].max()  # ends with the last replica
    for report in (held, lost):
        assert set(report.figures) == {"survival", "temperature"}
        assert all(np.isfinite(v) or name == MEAN_TEMPERATURE for name, v in report.metrics.items())


def test_what_was_looked_for_is_recorded():
    settings = {"criteria": ["temperature"], "thermostat": "langevin", "duration_ps": 0.02, "replicas": 2}
    report = TimeToFailure(max_temperature_ratio=1.5, progress=False, **settings)(Explosive(), dataset_of([ETHANOL]))
    found = {name.removeprefix("md_failures_"): n for name, n in report.metrics.items() if "md_failures_" in name}
    assert found == {"position": 0.0, "energy": 0.0, "forces": 0.0, "temperature": 2.0}


def test_a_model_of_nan_fails_at_time_zero():
    report = TimeToFailure(replicas=3, progress=False)(Network(stiffness=float("nan")), dataset_of([ETHANOL]))
    assert report.metrics[TIME_TO_FAILURE] == 0.0
    assert report.metrics[TIME_TO_FAILURE_PAPER] == 0.0
    assert report.metrics[failures("energy")] == 3.0
    assert np.isnan(report.metrics[MEAN_TEMPERATURE])


def test_the_same_seed_gives_the_same_numbers():
    settings = {"duration_ps": 0.05, "replicas": 3, "progress": False}
    first, again, other = (
        TimeToFailure(seed=seed, **settings)(Explosive(), dataset_of([ETHANOL])) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.arrays["temperature_K"], again.arrays["temperature_K"])
    assert first.metrics == pytest.approx(again.metrics, nan_ok=True)
    assert not np.allclose(first.arrays["temperature_K"][0], other.arrays["temperature_K"][0])


def test_temperature_is_that_of_the_kinetic_energy():
    found = simulate(Network(), ETHANOL, MDProtocol(replicas=2, duration_ps=0.02), progress=False)
    masses = Atoms(numbers=ETHANOL.atomic_numbers).get_masses()[:, None]
    kinetic = 0.5 * (found.momenta**2 / masses).sum((1, 2))
    np.testing.assert_allclose(found.temperature[-1], 2 * kinetic / (27 * units.kB))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"replicas": 0}, r"replicas=0"),
        ({"velocities": "hot"}, r"velocities='hot': choose 'maxwell' or 'paper'"),
        ({"duration_ps": 1e-5}, "shorter than one timestep"),
        ({"max_bond_A": 1.2}, r"max_bond_A=1\.2: bond .* of the starting geometry \(the start\) is already 1\.5"),
    ],
)
def test_what_cannot_work_is_refused(setting, message):
    with pytest.raises(InputError, match=message):
        TimeToFailure(progress=False, **setting)(Network(), dataset_of([ETHANOL]))
    with pytest.raises(InputError, match=message):  # and before a model is trained for it
        TimeToFailure(**setting).check(dataset_of([ETHANOL]))


def test_replicas_that_cannot_fail_are_no_measurement():
    apart = frame_of(Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.0, 3.8]]), origin="argon")
    message = r"criteria: bonds alone .*\(argon\) has none, .*criteria=\[close,temperature\]"
    for measurement in (TimeToFailure(), TimeToFailure(criteria=["bond"])):
        with pytest.raises(InputError, match=message):
            measurement.check(dataset_of([apart]))
    with pytest.raises(InputError, match=message):
        TimeToFailure(progress=False)(Springs(stiffness=1.0, length=3.8), dataset_of([apart]))
    TimeToFailure(criteria=["close", "temperature"]).check(dataset_of([apart]))
    TimeToFailure(thermostat="none").check(dataset_of([apart]))  # its energy is watched


def test_without_a_reference_there_is_no_control():
    measurement = TimeToFailure(control_replicas=2, replicas=1, duration_ps=0.002, progress=False)
    report = measurement(Network(), dataset_of([ETHANOL]))
    assert CONTROL_SURVIVAL not in report.metrics
