"""Molecular dynamics of the real architectures, against ASE's own on the model's calculator."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.nvtberendsen import NVTBerendsen
from samples import ethanol_dataset, main_architectures, small_model

from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import UNLIMITED
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, initial_momenta, simulate, starting_geometry
from mlip_sweep.measurement.dynamics.time_to_failure import SURVIVAL_FRACTION, TIME_TO_FAILURE_HIGH, TimeToFailure
from mlip_sweep.models.calculator import PotentialCalculator


@pytest.mark.parametrize("architecture", main_architectures())
def test_replicas_of_a_network_move_as_ase_moves_each(architecture):
    data = ethanol_dataset()
    model, start = small_model(architecture, data), starting_geometry(data)
    protocol = MDProtocol(temperature_K=300.0, duration_ps=0.1, replicas=3, max_bond_A=50.0)
    found = simulate(model, start, protocol, progress=False)
    momenta = initial_momenta(start, protocol)
    for k in (0, 2):
        atoms = Atoms(numbers=start.atomic_numbers, positions=start.positions)
        atoms.set_momenta(momenta[k])
        atoms.calc = PotentialCalculator(model)
        NVTBerendsen(atoms, units.fs, temperature_K=300.0, taut=250.0 * units.fs).run(100)
        np.testing.assert_allclose(found.positions[k], atoms.positions, rtol=0, atol=1e-8)
    assert not found.failed.any()


@pytest.mark.parametrize("architecture", main_architectures())
def test_networks_conserve_energy(architecture):
    data = ethanol_dataset()
    model, start = small_model(architecture, data), starting_geometry(data)
    protocol = MDProtocol(temperature_K=300.0, replicas=2)
    found = molecular_dynamics(
        model,
        start,
        initial_momenta(start, protocol),
        n_steps=80,
        timestep_fs=0.25,
        limits=UNLIMITED,
        sample_every=1,
        progress=False,
    )
    kinetic = 1.5 * len(start) * units.kB * found.temperature
    assert np.ptp(found.potential_energy + kinetic, axis=0).max() < 0.05 * np.ptp(found.potential_energy, axis=0).min()


@pytest.mark.parametrize("architecture", main_architectures())
def test_an_untrained_network_fails_the_protocol(architecture):
    data = ethanol_dataset()
    report = TimeToFailure(duration_ps=0.5, replicas=5, progress=False)(small_model(architecture, data), data)
    assert report.metrics[SURVIVAL_FRACTION] == 0.0
    assert report.metrics[TIME_TO_FAILURE_HIGH] < 0.25
    assert set(report.tables["replicas"]["reason"]) == {"bond"}
