"""What ends a replica, when, and that nobody else notices."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.data import covalent_radii
from toys import LennardJones, Springs, frame_of

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import UNLIMITED, Limits
from mlip_sweep.measurement.dynamics.integrators import Berendsen, Langevin
from mlip_sweep.measurement.dynamics.protocol import MDProtocol
from mlip_sweep.models.interface import Prediction

FREE = Springs(stiffness=0.0, length=1.0)
ARGON = LennardJones(sigma=3.4, epsilon=0.0104, cutoff=6.0, onset=4.5)


def flying(speeds_A_fs: list[float], symbols: str = "Ar2", distance: float = 3.0) -> tuple:
    """A pair of atoms whose distance changes at a known speed in each replica."""
    atoms = Atoms(symbols, [[0, 0, 0], [0, 0, distance]])
    momenta = np.zeros((len(speeds_A_fs), 2, 3))
    momenta[:, 1, 2] = np.array(speeds_A_fs) * atoms.get_masses()[1] / units.fs
    return frame_of(atoms), momenta


@pytest.mark.parametrize("check_every", [1, 7, 1000])
@pytest.mark.parametrize("thermostat", [Berendsen(300.0, 50.0), Langevin(300.0, 50.0), None])
def test_failures_are_dated_exactly_however_rarely_they_are_looked_for(check_every, thermostat):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=0)
    momenta = np.random.default_rng(0).normal(0.0, 3.0, (5, len(atoms), 3))
    momenta[1] *= 20.0  # atoms meet
    momenta[3] *= 30.0
    settings = {
        "n_steps": 60,
        "timestep_fs": 2.0,
        "thermostat": thermostat,
        "limits": Limits(bond=None, close=0.9),
        "progress": False,
        "sample_every": 1,
    }
    found = molecular_dynamics(ARGON, frame_of(atoms), momenta, check_every=check_every, **settings)
    truth = molecular_dynamics(ARGON, frame_of(atoms), momenta, check_every=1, **settings)
    assert found.reason == truth.reason == ["", "close", "", "close", ""]
    np.testing.assert_array_equal(found.last_step, truth.last_step)
    assert len(set(truth.last_step)) == 3
    np.testing.assert_allclose(found.positions, truth.positions, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.momenta, truth.momenta, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.temperature[: len(truth.temperature)], truth.temperature, rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_what_has_failed_does_no_harm_until_it_leaves(bad):
    """One replica's forces throw it out of all bounds; no model and no search for neighbours ever sees that."""
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    momenta = np.random.default_rng(0).normal(0.0, 3.0, (3, 4, 3))
    farthest = []

    class Thrown(LennardJones):
        calls = 0

        def forward(self, batch):
            farthest.append(float(batch.positions.abs().max()))
            prediction = super().forward(batch)
            self.calls += 1
            if self.calls == 10:
                prediction.forces[4] = bad
            return prediction

    settings = {"n_steps": 50, "limits": Limits(bond=None, temperature=1e5), "progress": False, "check_every": 50}
    model = Thrown(sigma=3.4, epsilon=0.0104, cutoff=6.0, onset=4.5)
    found = molecular_dynamics(model, frame_of(atoms), momenta, **settings)
    clean = molecular_dynamics(ARGON, frame_of(atoms), momenta, **settings)
    assert found.reason == ["", "temperature" if np.isfinite(bad) else "forces", ""]
    assert found.last_step.tolist() == [50, 9, 50]
    assert max(farthest) < 20.0
    np.testing.assert_allclose(found.positions[[0, 2]], clean.positions[[0, 2]], rtol=0, atol=1e-9)


def test_atoms_that_come_too_close():
    """The distance falls from 3 Å at 0.02 and 0.04 Å/fs; the limit is 0.6 times twice argon's radius."""
    start, momenta = flying([-0.02, -0.04, 0.02])
    limit = 0.6 * 2 * covalent_radii[18]
    found = molecular_dynamics(FREE, start, momenta, n_steps=99, limits=Limits(None, close=0.6), progress=False)
    first = [int(np.floor((3.0 - limit) / speed)) + 1 for speed in (0.02, 0.04)]
    assert found.reason == ["close", "close", ""]
    assert found.last_step.tolist() == [*first, 99]


def test_atoms_that_come_too_close_to_an_image():
    atoms = Atoms("Ar", [[0.0, 0.0, 0.0]], cell=[2.0, 9.0, 9.0], pbc=True)
    found = molecular_dynamics(
        FREE, frame_of(atoms), np.zeros((1, 1, 3)), n_steps=5, limits=Limits(None, close=0.97), progress=False
    )
    assert (found.reason, found.last_step.tolist()) == (["close"], [0])  # 2.0 < 0.97 · 2.12
    unharmed = molecular_dynamics(
        FREE, frame_of(atoms), np.zeros((1, 1, 3)), n_steps=5, limits=Limits(None, close=0.94), progress=False
    )
    assert not unharmed.failed.any()


def test_a_temperature_that_runs_away():
    """A constant force: T grows as t²."""

    class Pull:
        cutoff = 1.0

        def __call__(self, batch):
            forces = torch.zeros_like(batch.positions)
            forces[:, 2] = 0.5
            return Prediction(torch.zeros(batch.n_systems, dtype=torch.float64), forces)

    start, momenta = flying([0.0, 0.0])
    found = molecular_dynamics(
        Pull(), start, momenta, n_steps=99, limits=Limits(None, temperature=500.0), progress=False
    )
    mass = Atoms("Ar").get_masses()[0]
    steps = np.arange(100)
    kelvin = (0.5 * steps * units.fs) ** 2 / mass / (3 * units.kB)
    first = int(np.argmax(kelvin > 500.0))
    assert 5 < first < 99
    assert found.reason == ["temperature"] * 2
    assert found.last_step.tolist() == [first, first]


def test_energy_that_drifts():
    """Forces without a potential: the total energy grows by the kinetic energy that they give."""

    class Pull:
        cutoff = 1.0

        def __call__(self, batch):
            forces = torch.zeros_like(batch.positions)
            forces[batch.system == 1, 2] = 0.5
            return Prediction(torch.full((batch.n_systems,), 7.0, dtype=torch.float64), forces)

    start, momenta = flying([0.01, 0.0])
    found = molecular_dynamics(Pull(), start, momenta, n_steps=99, limits=Limits(None, drift=0.05), progress=False)
    mass = Atoms("Ar").get_masses()[0]
    kinetic = (0.5 * np.arange(100) * units.fs) ** 2 / (2 * mass)  # eV of each atom
    assert found.reason == ["", "drift"]
    assert found.last_step.tolist() == [99, int(np.argmax(kinetic > 0.05))]


@pytest.mark.parametrize(
    ("atoms", "settings", "reasons"),
    [
        (molecule("CH3CH2OH"), {}, {"bond"}),
        (molecule("CH3CH2OH", cell=[9, 9, 9], pbc=True), {}, {"bond"}),
        (bulk("Al", cubic=True), {}, {"close", "temperature"}),
        (molecule("CH3CH2OH"), {"thermostat": "none"}, {"bond", "drift"}),
        (bulk("Al", cubic=True), {"thermostat": "none"}, {"close", "temperature", "drift"}),
        (bulk("Al", cubic=True), {"criteria": ["temperature"]}, {"temperature"}),
        (molecule("CH3CH2OH"), {"criteria": ["auto", "close"]}, {"bond", "close"}),
    ],
)
def test_criteria_that_suit_the_system(atoms, settings, reasons):
    limits = MDProtocol(**settings).limits(frame_of(atoms))
    assert set(limits.reasons) - set(UNLIMITED.reasons) == reasons


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criteria": "heat"}, r"criteria='heat': choose one of auto, bond, close, temperature, drift"),
        ({"criteria": []}, r"criteria=\[\]: nothing would count as a failure"),
        ({"criteria": ["drift"]}, r"a thermostat changes the energy; .*thermostat=none"),
        ({"thermostat": "nose"}, r"thermostat='nose': choose 'berendsen', 'langevin' or 'none'"),
        ({"thermostat_fs": 0.5}, r"thermostat_fs=0\.5: shorter than the timestep"),
        ({"max_temperature_ratio": 0.0}, r"max_temperature_ratio=0\.0: give a number greater than 0"),
    ],
)
def test_protocols_that_do_not_serve(settings, message):
    with pytest.raises(InputError, match=message):
        MDProtocol(**settings)
