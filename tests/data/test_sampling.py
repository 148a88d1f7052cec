import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.harmonic import HarmonicCalculator, HarmonicForceField

from mlip_sweep.data import sampling
from mlip_sweep.data.sampling import Dynamics, trajectory
from mlip_sweep.errors import InputError


@pytest.fixture
def held_by_springs(monkeypatch):
    """A molecule with an isotropic spring of 20 eV/Å² on every atom in place of the reference method."""

    def hold(name):
        start = molecule(name)
        hessian = 20.0 * np.eye(3 * len(start))

        def calculator(reference):
            return HarmonicCalculator(HarmonicForceField(ref_atoms=start, ref_energy=-1.0, hessian_x=hessian))

        monkeypatch.setattr(sampling, "reference_calculator", calculator)
        return start

    return hold


@pytest.fixture
def harmonic(held_by_springs):
    return held_by_springs("H2O")


def test_the_sample_is_canonical(harmonic):
    temperature, count = 300.0, 400
    sample = trajectory(harmonic, {}, temperature, count, Dynamics(stride=20), np.random.default_rng(0))
    energies = sample.energies + 1.0
    expected = 9 / 2 * units.kB * temperature  # kT/2 for each of nine modes
    assert energies.mean() == pytest.approx(expected, rel=0.1)  # one standard error: sqrt(2/9)/sqrt(400) = 2.4 %
    assert energies.std() == pytest.approx(expected * np.sqrt(2 / 9), rel=0.2)
    neighbours = np.corrcoef(energies[1:], energies[:-1])[0, 1]
    assert abs(neighbours) < 0.35
    assert sample.restarts == 0


def test_labels_belong_to_their_positions(harmonic):
    sample = trajectory(harmonic, {}, 300.0, 5, Dynamics(stride=5, equilibration=5), np.random.default_rng(0))
    displacement = sample.positions - harmonic.positions
    np.testing.assert_allclose(sample.forces, -20.0 * displacement, atol=1e-9)
    np.testing.assert_allclose(sample.energies, -1.0 + 10.0 * (displacement**2).sum(axis=(1, 2)), atol=1e-9)


def test_a_broken_molecule_goes_back_to_the_start(harmonic):
    # At 20000 K these springs stretch a bond beyond 2 Å now and then, at 200000 K nearly always.
    hot = trajectory(harmonic, {}, 20000.0, 30, Dynamics(stride=10, equilibration=50), np.random.default_rng(0))
    assert hot.restarts > 0
    bonds = np.linalg.norm(hot.positions[:, 1:] - hot.positions[:, :1], axis=2)  # O-H
    assert 1.8 < bonds.max() <= 2.0  # Å
    with pytest.raises(InputError, match=r"it broke .* times at 200000 K .*choose a lower temperature"):
        trajectory(harmonic, {}, 200000.0, 10, Dynamics(stride=10, equilibration=10), np.random.default_rng(0))


def test_a_long_bond_breaks_at_a_multiple_of_its_length(held_by_springs):
    disilane = held_by_springs("Si2H6")
    first, second = np.flatnonzero(disilane.symbols == "Si")
    length = disilane.get_distance(first, second)
    assert length > 2.0  # Å, where shorter bonds break

    def sampled(temperature, count):
        settings = Dynamics(stride=10, equilibration=20)
        sample = trajectory(disilane, {}, temperature, count, settings, np.random.default_rng(0))
        return np.linalg.norm(sample.positions[:, first] - sample.positions[:, second], axis=1), sample.restarts

    lengths, restarts = sampled(300.0, 5)
    assert lengths == pytest.approx(length, abs=0.3)
    assert restarts == 0
    lengths, restarts = sampled(12000.0, 200)
    assert 1.2 * length < lengths.max() <= 1.3 * length
    assert restarts > 0


def test_settings_that_make_no_sense():
    with pytest.raises(InputError, match=r"stride=0: give a number greater than 0"):
        Dynamics(stride=0)


def test_a_reference_method_that_fails_counts_as_broken(monkeypatch):
    from ase.calculators.calculator import CalculationFailed

    start = molecule("H2O")

    class Failing(HarmonicCalculator):
        calls = 0

        def calculate(self, *args, **kwargs):
            Failing.calls += 1
            if Failing.calls == 12:
                raise CalculationFailed("no convergence")
            super().calculate(*args, **kwargs)

    field = HarmonicForceField(ref_atoms=start, ref_energy=-1.0, hessian_x=20.0 * np.eye(9))
    monkeypatch.setattr(sampling, "reference_calculator", lambda reference: Failing(field))
    sample = trajectory(start, {}, 300.0, 4, Dynamics(stride=3, equilibration=3), np.random.default_rng(0))
    assert sample.restarts == 1
    assert len(sample.energies) == len(np.unique(sample.energies)) == 4
