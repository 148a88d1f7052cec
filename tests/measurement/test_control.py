"""The reference under the protocol of the model."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.calculators.emt import EMT
from samples import installed
from toys import dataset_of, frame_of

from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.measurement.dynamics import control as control_module
from mlip_sweep.measurement.dynamics.calculator_model import CalculatorModel
from mlip_sweep.measurement.dynamics.control import reference_control, run_control
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, simulate
from mlip_sweep.measurement.dynamics.time_to_failure import CONTROL_SURVIVAL, SURVIVAL_FRACTION, TimeToFailure

xtb = pytest.mark.skipif(not installed("tblite"), reason="tblite is not installed (extra xtb)")
SHORT = MDProtocol(duration_ps=0.03, replicas=5)


class Unconverged(Calculator):
    """Fails from its n-th calculation on."""

    implemented_properties = ("energy", "forces")

    def __init__(self, after: int):
        super().__init__()
        self.left = after

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.left -= 1
        if self.left < 0:
            raise CalculationFailed("SCF not converged")
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def ethanol_data(**changes):
    return dataset_of([frame_of(molecule("CH3CH2OH"))], **changes)


def test_a_calculator_says_of_a_batch_what_it_says_of_each_part():
    systems = [molecule("CH3CH2OH"), molecule("H2O")]
    model = CalculatorModel(EMT())
    found = model(collate([graph(frame_of(atoms), 2.0) for atoms in systems]))
    for atoms in systems:
        atoms.calc = EMT()
    np.testing.assert_allclose(found.energy, [atoms.get_potential_energy() for atoms in systems])
    np.testing.assert_allclose(found.forces, np.concatenate([atoms.get_forces() for atoms in systems]))


def test_a_calculation_that_fails_is_a_failed_replica():
    found = run_control(Unconverged(after=7), ethanol_data().train[0], SHORT, progress=False)
    # One calculation serves all five at step 0, where they are the same; five at step 1; one is left for step 2.
    assert found.reason == ["energy"] * 5
    np.testing.assert_allclose(found.time_ps, [0.003, 0.002, 0.002, 0.002, 0.002])
    assert found.survival_fraction == 0.0


@xtb
def test_the_control_is_kept_and_made_anew_when_a_setting_changes(tmp_path, monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        return run_control(*args, **kwargs)

    monkeypatch.setattr(control_module, "run_control", counted)
    data = ethanol_data(reference={"method": "GFN2-xTB"})
    protocol = MDProtocol(duration_ps=0.005)
    first = reference_control(data, protocol, 1, cache=tmp_path, progress=False)
    again = reference_control(data, protocol, 1, cache=tmp_path, progress=False)
    assert len(calls) == 1
    assert again.reason == first.reason == [""]
    np.testing.assert_array_equal(again.time_ps, first.time_ps)
    reference_control(data, MDProtocol(duration_ps=0.005, temperature_K=300.0), 1, cache=tmp_path, progress=False)
    assert len(calls) == 2
    kept = sorted((tmp_path / "md_control").glob("*.json"))
    assert len(kept) == 2
    assert {json.loads(p.read_text())["determined_by"]["protocol"]["temperature_K"] for p in kept} == {300.0, 1600.0}


@xtb
def test_xtb_ethanol_survives_and_stands_in_the_report(tmp_path):
    data = ethanol_data(reference={"method": "GFN2-xTB"})
    measurement = TimeToFailure(duration_ps=0.2, replicas=2, control_replicas=2, cache=tmp_path, progress=False)
    report = measurement(CalculatorModel(EMT()), data)  # EMT is no chemist's model of ethanol
    assert report.metrics[CONTROL_SURVIVAL] == 1.0
    assert report.metrics[SURVIVAL_FRACTION] < 1.0


@xtb
def test_a_reference_that_fails_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr("mlip_sweep.data.reference.reference_calculator", lambda reference: Unconverged(after=3))
    measurement = TimeToFailure(duration_ps=0.01, replicas=2, control_replicas=2, cache=tmp_path, progress=False)
    report = measurement(CalculatorModel(EMT()), ethanol_data(reference={"method": "GFN2-xTB"}))
    assert report.metrics[CONTROL_SURVIVAL] == 0.0
    assert "the reference itself fails in 2 of 2 replicas: this system is no test of a model" in report.notes


def test_emt_aluminium_survives_melting(tmp_path):
    """A crystal at its reference method, far above its melting point: atoms leave their places, and none fails."""
    start = bulk("Al", cubic=True).repeat((2, 1, 1))
    data = dataset_of([frame_of(start)], reference={"method": "EMT"})
    protocol = MDProtocol(temperature_K=3000.0, duration_ps=0.3, timestep_fs=3.0)
    assert reference_control(data, protocol, 2, cache=tmp_path, progress=False).survival_fraction == 1.0
    found = simulate(
        CalculatorModel(EMT(), pbc=start.pbc), data.train[0], replace(protocol, replicas=2), progress=False
    )
    assert np.linalg.norm(found.positions - start.positions, axis=-1).max() > 0.8  # Å, no vibration
