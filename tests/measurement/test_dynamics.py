"""Batched dynamics against ASE's own, and against what is known on paper."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from toys import LennardJones, Spoiled, Springs, frame_of

from mlip_sweep.data.graphs import graph
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.calculator_model import CalculatorModel
from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import UNLIMITED, Limits, bonds_of, check_start
from mlip_sweep.measurement.dynamics.integrators import Berendsen

ARGON = {"sigma": 3.4, "epsilon": 0.0104}
QUIET = {"progress": False, "limits": UNLIMITED}


def argon(replicas: int, *, periodic: bool = True) -> tuple[Atoms, np.ndarray]:
    """A rattled cell of argon narrower than twice the cutoff, and hot momenta."""
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 1, 1))
    atoms.pbc = periodic
    atoms.rattle(0.1, seed=0)
    momenta = []
    for k in range(replicas):
        copy = atoms.copy()
        thermalize_momenta(copy, 300.0, rng=np.random.default_rng(k))
        momenta.append(copy.get_momenta())
    return atoms, np.array(momenta)


def ase_run(atoms: Atoms, momenta, calculator, steps: int, thermostat: Berendsen | None, dt: float) -> Atoms:
    atoms = atoms.copy()
    atoms.set_momenta(momenta)
    atoms.calc = calculator
    if thermostat is None:
        dynamics = VelocityVerlet(atoms, dt * units.fs)
    else:
        dynamics = NVTBerendsen(
            atoms, dt * units.fs, temperature_K=thermostat.temperature_K, taut=thermostat.time_fs * units.fs
        )
    dynamics.run(steps)
    return atoms


def test_the_model_is_shown_no_more_atoms_than_asked_and_says_the_same():
    atoms, momenta = argon(5)
    shown = []

    class Noted(LennardJones):
        def forward(self, batch):
            shown.append(len(batch.positions))
            return super().forward(batch)

    model = Noted(**ARGON, cutoff=6.0, onset=4.5)
    runs = [molecular_dynamics(model, frame_of(atoms), momenta, n_steps=20, max_atoms=n, **QUIET) for n in (16, 999)]
    assert set(shown) == {16, 8, 40}  # two replicas and a single one; all five
    np.testing.assert_allclose(runs[0].positions, runs[1].positions, atol=1e-12)
    np.testing.assert_allclose(runs[0].potential_energy, runs[1].potential_energy, atol=1e-12)


@pytest.mark.parametrize("thermostat", [Berendsen(500.0, 50.0), None])
@pytest.mark.parametrize("periodic", [True, False])
def test_equals_ase_with_its_own_lennard_jones(thermostat, periodic):
    atoms, momenta = argon(3, periodic=periodic)
    model = LennardJones(**ARGON, cutoff=6.0, onset=4.5)
    found = molecular_dynamics(
        model, frame_of(atoms), momenta, n_steps=100, timestep_fs=2.0, thermostat=thermostat, **QUIET
    )
    for k in range(3):
        truth = ase_run(atoms, momenta[k], AseLennardJones(**ARGON, rc=6.0, ro=4.5, smooth=True), 100, thermostat, 2.0)
        np.testing.assert_allclose(found.positions[k], truth.positions, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.momenta[k], truth.get_momenta(), rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.temperature[-1, k], truth.get_temperature(), rtol=1e-8)
        np.testing.assert_allclose(found.potential_energy[-1, k], truth.get_potential_energy(), rtol=1e-8)
    assert not found.failed.any()
    assert found.last_step.tolist() == [100] * 3


@pytest.mark.parametrize("velocity", [0.0, 1.0])
def test_equals_ase_on_emt_copper_also_from_rest(velocity):
    atoms = bulk("Cu", cubic=True).repeat((2, 2, 1))
    atoms.rattle(0.05, seed=3)
    thermalize_momenta(atoms, 800.0, rng=np.random.default_rng(1))
    momenta = velocity * atoms.get_momenta()[None]
    thermostat = Berendsen(1200.0, 100.0)
    model = CalculatorModel(EMT(), pbc=atoms.pbc)
    found = molecular_dynamics(model, frame_of(atoms), momenta, n_steps=100, thermostat=thermostat, **QUIET)
    with np.errstate(divide="ignore"):  # ASE divides by a temperature of zero
        truth = ase_run(atoms, momenta[0], EMT(), 100, thermostat, 1.0)
    np.testing.assert_allclose(found.positions[0], truth.positions, rtol=0, atol=1e-8)
    assert np.abs(truth.positions - atoms.positions).max() > 0.1


class SpringsByAutograd(Calculator):
    """As trained potentials do, it derives its forces, and needs gradients enabled."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms, properties, system_changes):
        super().calculate(atoms, properties, system_changes)
        positions = torch.tensor(atoms.positions, requires_grad=True)
        energy = 15.0 * ((positions[0] - positions[1]).norm() - 0.75) ** 2
        (gradient,) = torch.autograd.grad(energy, positions)
        self.results = {"energy": energy.item(), "forces": -gradient.numpy()}


def test_a_calculator_may_derive_its_forces_by_gradients():
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    momenta = np.zeros((1, 2, 3))
    found = molecular_dynamics(CalculatorModel(SpringsByAutograd()), frame_of(atoms), momenta, n_steps=20, **QUIET)
    truth = ase_run(atoms, momenta[0], SpringsByAutograd(), 20, None, 1.0)
    np.testing.assert_allclose(found.positions[0], truth.positions, rtol=0, atol=1e-10)


def test_a_spring_keeps_its_period():
    stiffness, mass = 30.0, Atoms("H").get_masses()[0]
    period = 2 * np.pi * np.sqrt(0.5 * mass / stiffness) / units.fs
    frame = frame_of(Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]))
    steps = 1000
    found = molecular_dynamics(
        Springs(stiffness=stiffness, length=0.75),
        frame,
        np.zeros((1, 2, 3)),
        n_steps=steps,
        timestep_fs=period / steps,
        **QUIET,
    )
    np.testing.assert_allclose(found.positions[0], frame.positions, atol=1e-6)
    # Half of the period on, the spring is as much too short as it was too long.
    half = molecular_dynamics(
        Springs(stiffness=stiffness, length=0.75),
        frame,
        np.zeros((1, 2, 3)),
        n_steps=steps // 2,
        timestep_fs=period / steps,
        **QUIET,
    )
    assert np.ptp(half.positions[0], axis=0)[2] == pytest.approx(0.70, abs=1e-5)


def test_free_atoms_fly_straight():
    frame = frame_of(Atoms("Ar2", [[0, 0, 0], [0, 0, 50.0]]))
    momenta = np.random.default_rng(0).normal(size=(2, 2, 3))
    found = molecular_dynamics(LennardJones(**ARGON, cutoff=6.0, onset=5.0), frame, momenta, n_steps=50, **QUIET)
    mass = Atoms("Ar").get_masses()[0]
    np.testing.assert_allclose(found.positions, frame.positions + 50 * units.fs * momenta / mass, atol=1e-10)
    np.testing.assert_array_equal(found.momenta, momenta)


def test_without_a_thermostat_energy_is_kept_to_second_order():
    atoms, momenta = argon(2)
    model = LennardJones(**ARGON, cutoff=6.0, onset=4.5)

    def drift(dt: float) -> float:
        found = molecular_dynamics(
            model, frame_of(atoms), momenta, n_steps=round(400 / dt), timestep_fs=dt, sample_every=1, **QUIET
        )
        kinetic = 1.5 * len(atoms) * units.kB * found.temperature
        total = found.potential_energy + kinetic
        assert np.ptp(kinetic) > 0.05
        return float(np.ptp(total, axis=0).max())

    coarse, fine = drift(4.0), drift(2.0)
    assert fine < 2e-3
    assert coarse / fine == pytest.approx(4.0, rel=0.3)


def test_the_thermostat_reaches_its_temperature():
    atoms, momenta = argon(4)
    found = molecular_dynamics(
        LennardJones(**ARGON, cutoff=6.0, onset=4.5),
        frame_of(atoms),
        momenta * 0.2,
        n_steps=400,
        timestep_fs=2.0,
        thermostat=Berendsen(150.0, 20.0),
        **QUIET,
    )
    assert found.temperature[0].mean() < 30.0
    assert found.temperature[-20:].mean() == pytest.approx(150.0, rel=0.03)


@pytest.mark.parametrize("what", ["energy", "forces"])
def test_a_failed_replica_leaves_and_the_others_do_not_notice(what):
    atoms, momenta = argon(4)
    clean = LennardJones(**ARGON, cutoff=6.0, onset=4.5)
    settings = {"n_steps": 80, "timestep_fs": 2.0, "thermostat": Berendsen(300.0, 50.0), **QUIET}
    untouched = molecular_dynamics(clean, frame_of(atoms), momenta, **settings)
    spoiled = Spoiled(clean, system=1, call=31, what=what)
    found = molecular_dynamics(spoiled, frame_of(atoms), momenta, **settings)
    assert found.reason == ["", what, "", ""]
    assert found.last_step.tolist() == [80, 31, 80, 80]
    assert spoiled.systems == [4] * 32 + [3] * 49
    np.testing.assert_allclose(found.positions[[0, 2, 3]], untouched.positions[[0, 2, 3]], rtol=0, atol=1e-9)
    assert np.isnan(found.temperature[4:, 1]).all()
    assert np.isfinite(found.temperature[:4, 1]).all()
    assert np.isfinite(found.temperature[:, 0]).all()


def test_a_bond_that_breaks_is_a_failure_at_the_step_where_it_is_too_long():
    """H2 without forces: the atoms part at a known speed."""
    frame = frame_of(Atoms("H2", [[0, 0, 0], [0, 0, 0.75]]))
    mass = Atoms("H").get_masses()[0]
    speed = np.array([0.01, 0.02, 0.001])  # Å/fs, of each atom; the distance grows twice as fast
    momenta = np.zeros((3, 2, 3))
    momenta[:, 1, 2] = speed * mass / units.fs
    momenta[:, 0, 2] = -momenta[:, 1, 2]
    model = Springs(stiffness=0.0, length=1.0)
    found = molecular_dynamics(model, frame, momenta, n_steps=100, limits=Limits(bond=2.0), progress=False)
    assert found.reason == ["bond", "bond", ""]
    assert found.last_step.tolist() == [63, 32, 100]  # 1.25 / 0.02 = 62.5 and 1.25 / 0.04 = 31.25 steps
    assert (found.positions[0, 1, 2] - found.positions[0, 0, 2]) == pytest.approx(0.75 + 63 * 0.02)


def test_a_bond_across_the_boundary_is_followed_there():
    frame = frame_of(Atoms("H2", [[0, 0, 0.2], [0, 0, 8.0 - 0.55]], cell=[8, 8, 8], pbc=True))
    bonds = bonds_of(frame)
    assert len(bonds) == 1
    (i, j), shift = bonds.pairs[:, 0], bonds.shift[0]
    assert np.linalg.norm(frame.positions[j] - frame.positions[i] + shift) == pytest.approx(0.75)
    momenta = np.zeros((2, 2, 3))
    momenta[0, :, 2] = 1.0  # both fly together through the boundary
    momenta[1, 0, 2] = 1.0  # only one flies
    found = molecular_dynamics(Springs(stiffness=0.0, length=1.0), frame, momenta, n_steps=100, progress=False)
    assert found.reason == ["", "bond"]


def test_bonds_are_those_of_a_chemist():
    frame = frame_of(molecule("CH3CH2OH"))
    found = {tuple(sorted(frame.atomic_numbers[list(pair)].tolist())) for pair in bonds_of(frame).pairs.T}
    assert len(bonds_of(frame)) == 8
    assert found == {(6, 6), (6, 8), (1, 6), (1, 8)}


def test_a_bond_too_long_from_the_outset_is_refused():
    with pytest.raises(InputError, match=r"max_bond_A=2\.0: bond Cu0-Cu1 .* already 2\.55 Å"):
        check_start(frame_of(bulk("Cu", cubic=True)), Limits(bond=2.0))


def test_a_model_that_fails_at_once_fails_at_step_zero():
    atoms, momenta = argon(2)
    model = LennardJones(sigma=float("nan"), epsilon=1.0, cutoff=6.0, onset=4.5)
    found = molecular_dynamics(model, frame_of(atoms), momenta, n_steps=10, **QUIET)
    assert found.last_step.tolist() == [0, 0]
    assert found.reason == ["energy", "energy"]


def test_the_model_is_left_as_it_was_and_its_exceptions_pass():
    atoms, momenta = argon(1)
    model = LennardJones(**ARGON, cutoff=6.0, onset=4.5).train()
    model.rescaling.eval()
    molecular_dynamics(model, frame_of(atoms), momenta, n_steps=2, **QUIET)
    assert model.training and not model.rescaling.training

    def broken(distance: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    model.pair_energy = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        molecular_dynamics(model, frame_of(atoms), momenta, n_steps=2, **QUIET)
    assert model.training and not model.rescaling.training


@pytest.mark.parametrize("setting", [{"n_steps": 0}, {"timestep_fs": -1.0}, {"skin_A": 0.0}])
def test_settings_that_cannot_work_are_refused(setting):
    atoms, momenta = argon(1)
    (name,) = setting
    with pytest.raises(InputError, match=name):
        molecular_dynamics(
            LennardJones(**ARGON, cutoff=6.0, onset=4.5),
            frame_of(atoms),
            momenta,
            **({"n_steps": 5} | QUIET | setting),
        )


def test_a_graph_of_the_batch_is_the_collated_graphs():
    """What the model is shown is what `data.graphs` would show it, at the last positions as at the first."""
    atoms, momenta = argon(2)
    seen = []

    class Watching(LennardJones):
        def forward(self, batch):
            seen.append(batch)
            return super().forward(batch)

    molecular_dynamics(
        Watching(**ARGON, cutoff=6.0, onset=4.5), frame_of(atoms), momenta, n_steps=60, timestep_fs=3.0, **QUIET
    )
    last = atoms.copy()
    last.positions = seen[-1].positions[: len(atoms)].numpy()
    fresh = graph(frame_of(last), 6.0)
    first_system = seen[-1].edge_index[0] < len(atoms)
    assert int(first_system.sum()) == fresh.edge_index.shape[1]
