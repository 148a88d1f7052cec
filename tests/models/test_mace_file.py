"""MACE's own files: what the library has made becomes a potential, and a potential becomes what the library reads."""

import copy
import io
import pickle
import sys
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from samples import copper_frame, ethanol_dataset, installed, small_model
from test_contract import (  # noqa: F401 - the clauses that apply, on the model below
    test_a_batch_is_the_sum_of_its_parts,
    test_a_larger_cell_has_as_many_times_the_energy,
    test_an_error_leaves_the_models_own_states,
    test_forces_are_the_gradient_of_the_energy,
    test_forces_are_the_gradient_of_the_energy_in_a_periodic_cell,
    test_gradients_of_other_states_are_theirs,
    test_other_states_give_what_the_model_would_with_them,
    test_permutation,
    test_shapes_and_precision,
    test_training_mode_lets_forces_reach_the_parameters,
    test_translation_rotation_and_reflection,
    test_unknown_elements_are_named,
)

from mlip_sweep.errors import InputError
from mlip_sweep.models import library_files, mace_file
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.calculator import PotentialCalculator
from mlip_sweep.models.e3nn_options import eager_e3nn

pytestmark = pytest.mark.skipif(not installed("mace-torch"), reason="mace is not installed (extra mace)")


def network(numbers, *, dtype="float64", kind="ScaleShiftMACE", **changes):
    """An untrained module of the library, with what this project's own configs do not have."""
    with build_context(3, dtype), eager_e3nn():
        from mace import modules

        from e3nn import o3  # isort: skip

        scale = {"atomic_inter_scale": 1.3, "atomic_inter_shift": 0.1} if kind == "ScaleShiftMACE" else {}
        settings = {
            "r_max": 4.0,
            "num_bessel": 4,
            "num_polynomial_cutoff": 5,
            "max_ell": 1,
            "interaction_cls": modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
            "interaction_cls_first": modules.interaction_classes["RealAgnosticInteractionBlock"],
            "num_interactions": 2,
            "num_elements": len(numbers),
            "hidden_irreps": o3.Irreps("2x0e+2x1o"),
            "MLP_irreps": o3.Irreps("2x0e"),
            "atomic_energies": -13.0 * np.array(numbers, float) ** 2,
            "avg_num_neighbors": 6.0,
            "atomic_numbers": list(numbers),
            "correlation": 2,
            "gate": torch.nn.functional.silu,
            "radial_MLP": [8, 8],
            "pair_repulsion": True,
            "distance_transform": "Agnesi",
        }
        return getattr(modules, kind)(**settings | scale | changes)


SIZE = {"num_channels": 2, "max_ell": 1, "max_L": 1, "correlation": 2, "radial_mlp_width": 4}


@cache
def file_of(numbers, folder, **changes):
    path = folder / f"{len(list(folder.iterdir()))}.model"
    torch.save(network(numbers, **changes), path)
    return path


@pytest.fixture(autouse=True)
def as_mace_loads(monkeypatch):
    """Importing mace sets this, and this program takes it back."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@cache
def read(path):
    return library_files.read(path, "mace")


@pytest.fixture
def model(folder):
    return copy.deepcopy(read(file_of((1, 6, 8), folder)))


@pytest.fixture
def periodic(folder):
    return copper_frame(), copy.deepcopy(read(file_of((29,), folder)))


def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    return atoms


def copper():
    frame = copper_frame()
    return Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)


def maces_own(path, atoms, dtype="float64"):
    """Energy and forces by MACE's own calculator."""
    with build_context(0, dtype):
        from mace.calculators import MACECalculator

        atoms.calc = MACECalculator(model_paths=str(path), device="cpu", default_dtype=dtype)
        return atoms.get_potential_energy(), atoms.get_forces()


def ours(model, atoms):
    atoms.calc = PotentialCalculator(model)
    return atoms.get_potential_energy(), atoms.get_forces()


@pytest.mark.parametrize(
    ("numbers", "atoms", "kind"), [((1, 6, 8), ethanol, "ScaleShiftMACE"), ((29,), copper, "MACE")]
)
def test_a_file_gives_the_numbers_of_its_own_calculator(numbers, atoms, kind, folder):
    path = file_of(numbers, folder, kind=kind)
    for found, expected in zip(ours(read(path), atoms()), maces_own(path, atoms()), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_file_of_float32_stays_so_and_adds_its_shifts_in_float64(folder):
    single = read(file_of((1, 6, 8), folder, dtype="float32"))
    assert single.dtype == torch.float32
    energy, _ = ours(single, ethanol())
    expected, _ = maces_own(file_of((1, 6, 8), folder, dtype="float32"), ethanol(), dtype="float64")
    assert energy == pytest.approx(expected, abs=1e-4)


def test_a_file_that_e3nn_0_4_wrote_is_read(folder, monkeypatch):
    """Its layers kept their code as TorchScript alone, and lacked attributes that layers need to run today."""
    from e3nn.util import jit
    from e3nn.util.codegen import CodeGenMixin

    kept = CodeGenMixin.__getstate__

    def as_then(layer):
        state = kept(layer)
        for name, (_, code) in state.get("__codegen__", {}).items():
            written = io.BytesIO()
            torch.jit.save(jit.compile(pickle.loads(code), recurse=False), written)
            state["__codegen__"][name] = written.getvalue()
        return state

    path = file_of((1, 6, 8), folder)
    made = torch.load(path, weights_only=False)
    del made.spherical_harmonics.sph_func
    with monkeypatch.context() as then:
        then.setattr(CodeGenMixin, "__getstate__", as_then)
        torch.save(made, folder / "old.model")
    with pytest.raises(ValueError, match="unpack"):
        torch.load(folder / "old.model", weights_only=False)
    for found, expected in zip(ours(read(folder / "old.model"), ethanol()), maces_own(path, ethanol()), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_what_cannot_be_read_is_told_in_a_line(folder, tmp_path):
    path = tmp_path / "my.model"
    with pytest.raises(InputError, match=r"my\.model: no such file"):
        library_files.read(path, "mace")
    path.write_text("nothing of the kind")
    with pytest.raises(InputError, match=r"my\.model: no pickle of mace"):
        library_files.read(path, "mace")
    with pytest.raises(InputError, match=r"runs whatever code it holds.*--unpickle mace"):
        library_files.read(path, None)
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(InputError, match=r"holds a Linear; give a \.model file of MACE"):
        library_files.read(path, "mace")
    two = file_of((1, 6, 8), folder, heads=("dft", "cc"), atomic_inter_scale=(1, 1), atomic_inter_shift=(0, 0))
    with pytest.raises(InputError, match=r"has the heads dft, cc; take one out by `mace_select_head -n HEAD"):
        library_files.read(two, "mace")


@pytest.mark.parametrize(("precision", "bessel_trainable"), [("float32", True), ("float64", False)])
def test_a_written_file_gives_the_potentials_numbers_in_the_librarys_calculator(precision, bessel_trainable, tmp_path):
    model = small_model("mace", ethanol_dataset(), bessel_trainable=bessel_trainable, dtype=precision, **SIZE)
    mace_file.write(model, tmp_path / "our.model")
    assert b"mlip_sweep" not in (tmp_path / "our.model").read_bytes()  # whoever opens it need not have this program
    tolerance = 1e-6 if precision == "float64" else 1e-4
    again = library_files.read(tmp_path / "our.model", "mace")
    expected = ours(model, ethanol())
    for other in (maces_own(tmp_path / "our.model", ethanol(), precision), ours(again, ethanol())):
        for found, value in zip(other, expected, strict=True):
            np.testing.assert_allclose(found, value, atol=tolerance)


def test_a_written_file_is_taken_by_the_librarys_lammps_converter(tmp_path, monkeypatch):
    model = small_model(
        "mace", ethanol_dataset(), num_interactions=1, num_channels=2, max_ell=1, max_L=0, correlation=1
    )
    mace_file.write(model, tmp_path / "our.model")
    monkeypatch.setattr(sys, "argv", ["mace_create_lammps_model", f"{tmp_path}/our.model"])
    with build_context(0, "float32"):
        from mace.cli.create_lammps_model import main

        main()
    converted = torch.jit.load(tmp_path / "our.model-lammps.pt")
    atoms = ethanol()
    energy, forces = ours(model, atoms)
    with build_context(0, "float64"):
        from mace import data

        config = data.config_from_atoms(atoms)
        from mace.tools import AtomicNumberTable

        one = data.AtomicData.from_config(config, AtomicNumberTable([1, 6, 8]), cutoff=model.cutoff)
        one = {name: value for name, value in one.to_dict().items() if torch.is_tensor(value)}
        one |= {"batch": torch.zeros(len(atoms), dtype=torch.int64), "ptr": torch.tensor([0, len(atoms)])}
        found = converted(one, torch.ones(len(atoms)), False)
    assert found["total_energy_local"].item() == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(found["forces"].numpy(), forces, atol=1e-6)
