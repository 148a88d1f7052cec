"""A run's potential leaves as a file of its library, and comes back as a potential of the same numbers."""

import numpy as np
import pytest
from ase.build import molecule
from samples import TINY, ethanol_dataset, installed_architectures, main_architectures, small_model

from mlip_sweep import cli
from mlip_sweep.models import checkpoint, library_files
from mlip_sweep.models.calculator import PotentialCalculator


@pytest.mark.parametrize("architecture", main_architectures())
def test_a_potential_leaves_and_comes_back(architecture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (library,) = [name for name in library_files.LIBRARIES if architecture.startswith(name)]
    model = small_model(architecture, ethanol_dataset(), **TINY[architecture])
    (tmp_path / "run").mkdir()
    checkpoint.save(model, tmp_path / "run" / "checkpoint.pt")
    assert cli.export(["run", "--to", library]) == 0
    written = f"run{library_files.ENDINGS[library]}"
    first, _, *use = capsys.readouterr().out.splitlines()
    assert first == f"wrote {written}, in float64; it is used so:"
    assert any("atoms.calc = " in line for line in use) and any(written in line for line in use)
    atoms = molecule("CH3CH2OH")
    expected, found = (PotentialCalculator(one) for one in (model, library_files.read(tmp_path / written, library)))
    np.testing.assert_allclose(found.get_forces(atoms), expected.get_forces(atoms), atol=1e-8)
    assert found.get_potential_energy(atoms) == pytest.approx(expected.get_potential_energy(atoms), abs=1e-8)
    assert cli.export(["run", "--to", library]) == 2
    assert f"mlip-export: --output {written}: is there already" in capsys.readouterr().err


@pytest.mark.skipif(not installed_architectures(), reason="neither architecture is installed")
def test_a_run_that_is_not_there_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.export(["0" * 32, "--to", "mace"]) == 2
    _, line = capsys.readouterr().err.splitlines()
    assert line.startswith("mlip-export: sqlite:///") and "no such store" in line
    assert not list(tmp_path.iterdir())
