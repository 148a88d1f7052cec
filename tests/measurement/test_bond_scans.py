"""Scans of potentials whose curves are known on paper."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from samples import ethanol_frames
from toys import Pairwise, dataset_of

from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import SettingError
from mlip_sweep.measurement.bond_scans import (
    ENERGY_JUMP,
    FORCE_FLIPS,
    ROUGHNESS,
    SMOOTHNESS_DEVIATION,
    TORTUOSITY,
    BondScans,
    force_smoothness_deviation,
    scans,
)


class Wavy(Pairwise):
    """Morse's curve with waves of some height on it."""

    def __init__(self, height: float) -> None:
        super().__init__(cutoff=12.0)
        self.height = height

    def pair_energy(self, distance):
        return curve(distance, self.height)


def curve(r, height):
    exp, sin = (torch.exp, torch.sin) if isinstance(r, torch.Tensor) else (np.exp, np.sin)
    return 4.0 * (1.0 - exp(-2.0 * (r - 0.9))) ** 2 + height * sin(20.0 * r)


def hydrogen() -> Frame:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    return Frame(atoms.numbers, atoms.positions, np.zeros((3, 3)), np.zeros(3, bool), -1.0, np.zeros((2, 3)))


@pytest.mark.parametrize("height", [0.0, 0.3])
def test_a_diatomic_has_the_numbers_of_its_curve(height):
    report = BondScans(points=200)(Wavy(height), dataset_of([hydrogen()]))
    r = np.linspace(0.5, 2.0, 200) * 0.62  # twice the covalent radius of hydrogen, 0.31 Å
    assert report.arrays["lengths_A"][0] == pytest.approx(r)
    energy = curve(r, height)
    assert report.arrays["energy_eV"][0] == pytest.approx(energy)
    steps = np.diff(energy)
    direct = abs(energy[-1] - energy.min()) + energy[0] - energy.min()
    assert report.metrics[TORTUOSITY] == pytest.approx(np.abs(steps).sum() / direct)
    turns = [k for k in range(len(steps) - 1) if steps[k] * steps[k + 1] < 0]
    slopes = 16.0 * (1 - np.exp(-2 * (r - 0.9))) * np.exp(-2 * (r - 0.9)) + 20.0 * height * np.cos(20.0 * r)
    assert report.metrics[FORCE_FLIPS] == np.count_nonzero(np.diff(np.sign(slopes))) == len(turns)
    if height:
        assert len(turns) > 1
        told = [step for step in steps if abs(step) >= 0.001]  # eV
        jumps = [abs(a) + abs(b) for a, b in pairwise(told) if a * b < 0]
        assert report.metrics[ENERGY_JUMP] == pytest.approx(sum(jumps))
    else:
        assert len(turns) == 1  # the minimum
        assert report.metrics[TORTUOSITY] == pytest.approx(1.0, abs=0.01)
    assert report.metrics[ROUGHNESS] == pytest.approx(np.abs(np.diff(energy, 3)).max() / (r[1] - r[0]) ** 3)
    assert SMOOTHNESS_DEVIATION not in report.metrics  # no reference at hand


def test_what_hangs_on_the_second_atom_moves_along_as_a_rigid_body():
    start = ethanol_frames(1)[0]
    found = scans(start, BondScans(points=20))
    assert len(found) == 8
    (carbons,) = [scan for scan in found if scan.name.count("C") == 2]
    assert sorted([carbons.moved.sum(), (~carbons.moved).sum()]) == [4, 5]  # CH3 and CH2OH
    inside = carbons.positions[:, carbons.moved]
    apart = np.linalg.norm(inside[:, :, None] - inside[:, None], axis=-1)
    assert apart == pytest.approx(np.broadcast_to(apart[0], apart.shape))
    i, j = (int(part.lstrip("CHO")) for part in carbons.name.split("-"))
    lengths = np.linalg.norm(carbons.positions[:, i] - carbons.positions[:, j], axis=-1)
    assert lengths == pytest.approx(carbons.lengths)


def test_in_a_ring_the_second_atom_moves_alone():
    triangle = Atoms("C3", [[0, 0, 0], [1.5, 0, 0], [0.75, 1.3, 0]])
    frame = Frame(triangle.numbers, triangle.positions, np.zeros((3, 3)), np.zeros(3, bool), 0.0, np.zeros((3, 3)))
    assert [scan.moved.sum() for scan in scans(frame, BondScans())] == [1, 1, 1]


def test_the_deviation_from_the_reference_is_that_of_the_forces():
    lengths = np.linspace(1.0, 2.0, 11)
    at_rest = np.zeros((2, 3))
    reference = np.zeros((11, 2, 3))
    reference[:, 0, 0] = 5.0
    forces = reference * np.exp(0.5 * lengths)[:, None, None]  # |F|² grows as e^r
    assert force_smoothness_deviation(lengths, forces, reference, at_rest) == pytest.approx(1.0)
    assert force_smoothness_deviation(lengths, reference, reference, at_rest) == 0.0
    assert force_smoothness_deviation(lengths, 0.001 * forces, 0.001 * reference, at_rest) == 0.0  # below 1 (eV/Å)²
    reference[3] = np.nan  # did not converge
    assert force_smoothness_deviation(lengths, forces, reference, at_rest) == pytest.approx(1.0)


def test_the_reference_itself_deviates_by_nothing(tmp_path):
    pytest.importorskip("tblite")
    from dataclasses import replace

    from mlip_sweep.data.reference import reference_calculator
    from mlip_sweep.measurement.dynamics.calculator_model import CalculatorModel

    dataset = replace(dataset_of(ethanol_frames(1)), reference={"method": "GFN2-xTB"})
    model = CalculatorModel(reference_calculator({"method": "GFN2-xTB"}))
    report = BondScans(points=12, shortest=0.8, cache=tmp_path)(model, dataset)
    assert report.metrics[SMOOTHNESS_DEVIATION] == pytest.approx(0.0, abs=1e-3)
    assert len(list((tmp_path / "bond_scans").glob("*.npz"))) == 1


def test_a_scan_must_go_somewhere():
    with pytest.raises(SettingError, match=r"longest=0\.4"):
        BondScans(longest=0.4)


def test_without_a_bond_nothing_is_recorded():
    atom = Frame(np.array([18]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), 0.0, np.zeros((1, 3)))
    report = BondScans()(Wavy(0.0), dataset_of([atom]))
    assert not report.metrics and "no bond" in report.notes[0]
