"""Langevin dynamics against ASE's own with the same noise, and against what is known of a harmonic well."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.md.langevinbaoab import LangevinBAOAB
from toys import LennardJones, frame_of

from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import UNLIMITED
from mlip_sweep.measurement.dynamics.integrators import STREAM, Berendsen, Langevin
from mlip_sweep.models.interface import Prediction

QUIET = {"progress": False, "limits": UNLIMITED}


class Wells:
    """Every atom in a harmonic well of its own around the origin; gives zero energy."""

    cutoff = 0.1

    def __init__(self, stiffness: float):
        self.stiffness = stiffness

    def __call__(self, batch):
        return Prediction(torch.zeros(batch.n_systems, dtype=torch.float64), -self.stiffness * batch.positions)


@pytest.mark.parametrize("periodic", [True, False])
def test_equals_ase_with_the_same_noise(periodic):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 1, 1))
    atoms.pbc = periodic
    atoms.rattle(0.1, seed=0)
    momenta = np.random.default_rng(0).normal(0.0, 2.0, (3, len(atoms), 3))
    found = molecular_dynamics(
        LennardJones(sigma=3.4, epsilon=0.0104, cutoff=6.0, onset=4.5),
        frame_of(atoms),
        momenta,
        n_steps=100,
        timestep_fs=2.0,
        thermostat=Langevin(300.0, 100.0, seed=7),
        **QUIET,
    )
    for k in range(3):
        truth = atoms.copy()
        truth.set_momenta(momenta[k])
        truth.calc = AseLennardJones(sigma=3.4, epsilon=0.0104, rc=6.0, ro=4.5, smooth=True)
        noise = np.random.default_rng([7, STREAM, k])
        LangevinBAOAB(truth, 2.0 * units.fs, temperature_K=300.0, T_tau=100.0 * units.fs, rng=noise).run(100)
        np.testing.assert_allclose(found.positions[k], truth.positions, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.momenta[k], truth.get_momenta(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("swing", [1.0, 0.2])
def test_a_harmonic_well_has_the_variances_of_its_scheme(swing):
    """BAOAB: ⟨x²⟩ = k_B T / k at any timestep and ⟨p²⟩ = m k_B T (1 − ω²Δt²/4), ωΔt the swing of hydrogen.

    At a swing of 1 the two differ by a quarter; at 0.2 energy is shared equally, whatever the mass.
    """
    temperature, stiffness = 400.0, 5.0
    atoms = Atoms("HCO", positions=np.zeros((3, 3)))
    masses = atoms.get_masses()[:, None]
    timestep_fs = swing / np.sqrt(stiffness / masses[0, 0]) / units.fs
    replicas = 1500
    found = molecular_dynamics(
        Wells(stiffness),
        frame_of(atoms),
        np.zeros((replicas, 3, 3)),
        n_steps=round(200 / swing**0.5),
        timestep_fs=timestep_fs,
        thermostat=Langevin(temperature, 10 * timestep_fs, seed=1),
        sample_every=1000,
        **QUIET,
    )
    kT = units.kB * temperature
    tolerance = 4.0 * np.sqrt(2.0 / (3 * replicas))  # four standard errors of a variance
    shortened = 1.0 - stiffness / masses[:, 0] * (timestep_fs * units.fs) ** 2 / 4.0
    assert shortened[0] == pytest.approx(1.0 - swing**2 / 4.0)
    np.testing.assert_allclose((found.positions**2).mean((0, 2)) * stiffness / kT, 1.0, rtol=tolerance)
    np.testing.assert_allclose((found.momenta**2 / masses).mean((0, 2)) / kT, shortened, rtol=tolerance)


def test_a_replica_has_its_noise_whoever_else_is_there():
    start = frame_of(Atoms("HCO", positions=np.zeros((3, 3))))

    def run(replicas: int) -> np.ndarray:
        momenta = np.zeros((replicas, 3, 3))
        return molecular_dynamics(
            Wells(5.0), start, momenta, n_steps=40, thermostat=Langevin(400.0, 20.0, seed=3), **QUIET
        ).positions

    np.testing.assert_allclose(run(5)[:2], run(2), rtol=0, atol=1e-12)
    assert not np.allclose(run(2)[0], run(2)[1])


class Alone:
    """A model by which every replica but one fails at once, so that this one is simulated alone, with its own noise."""

    def __init__(self, model, replica: int):
        self.model, self.cutoff, self.replica, self.sizes = model, model.cutoff, replica, []

    def __call__(self, batch):
        self.sizes.append(batch.n_systems)
        prediction = self.model(batch)
        if len(self.sizes) > 1:
            return prediction
        others = torch.arange(batch.n_systems) != self.replica
        return Prediction(prediction.energy.masked_fill(others, torch.nan), prediction.forces)


@pytest.mark.parametrize("replica", [0, 2])
@pytest.mark.parametrize(
    "thermostat", [None, Berendsen(150.0, 50.0), Langevin(150.0, 50.0, seed=3)], ids=["none", "berendsen", "langevin"]
)
def test_a_replica_moves_as_if_it_was_simulated_alone(thermostat, replica):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 1, 1))
    model = LennardJones(sigma=3.4, epsilon=0.0104, cutoff=6.0, onset=4.5)
    momenta = np.random.default_rng(0).normal(0.0, 0.5, (4, len(atoms), 3))
    settings = {"n_steps": 60, "timestep_fs": 2.0, "thermostat": thermostat, "trajectory_every": 10, **QUIET}
    together = molecular_dynamics(model, frame_of(atoms), momenta, **settings)
    lonely = Alone(model, replica)
    alone = molecular_dynamics(lonely, frame_of(atoms), momenta, **settings)
    assert lonely.sizes == [4] + [1] * 60
    assert len(alone.snapshots[replica]) == 7
    for one, other in zip(alone.snapshots[replica], together.snapshots[replica], strict=True):
        assert one.step == other.step
        np.testing.assert_allclose(one.positions, other.positions, rtol=0, atol=1e-8)
        np.testing.assert_allclose(one.momenta, other.momenta, rtol=0, atol=1e-8)
    moved = np.linalg.norm(together.positions[replica] - atoms.positions, axis=1)
    assert moved.min() > 0.01
