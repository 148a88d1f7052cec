"""NequIP's own files: what the library packs becomes a potential, and a potential becomes what the library packs."""

import copy
import logging
from functools import cache

import numpy as np
import pytest
import torch
from ase.build import molecule
from samples import ethanol_dataset, installed, small_model
from test_contract import (  # noqa: F401 - the clauses that apply, on the model below
    test_a_batch_is_the_sum_of_its_parts,
    test_forces_are_the_gradient_of_the_energy,
    test_gradients_of_other_states_are_theirs,
    test_other_states_give_what_the_model_would_with_them,
    test_permutation,
    test_shapes_and_precision,
    test_training_mode_lets_forces_reach_the_parameters,
    test_translation_rotation_and_reflection,
    test_unknown_elements_are_named,
)

from mlip_sweep.errors import InputError
from mlip_sweep.models import library_files, nequip_file
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.calculator import PotentialCalculator

pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")


@cache
def original(dtype="float64"):
    return small_model("nequip", ethanol_dataset(), **nequip_file.NequIP.smallest, dtype=dtype)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("packages") / "our.nequip.zip"
    handlers, level = list(logging.root.handlers), logging.root.level
    library_files.write(original(), "nequip", path)
    assert (list(logging.root.handlers), logging.root.level) == (handlers, level)
    assert torch.get_default_dtype() == torch.float32
    return path


@pytest.fixture(scope="module")
def read(package):
    return library_files.read(package, "nequip")


@pytest.fixture
def model(read):
    return copy.deepcopy(read)


def numbers_of(calculator):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    atoms.calc = calculator
    return np.append(atoms.get_forces().ravel(), atoms.get_potential_energy())


def test_the_librarys_calculator_gives_the_potentials_numbers(package):
    from nequip.integrations.ase import NequIPCalculator

    with build_context(0, "float64"):  # as nequip has it
        found = numbers_of(NequIPCalculator._from_saved_model(package, chemical_species_to_atom_type_map=True))
    np.testing.assert_allclose(found, numbers_of(PotentialCalculator(original())), atol=1e-8)


def test_a_package_becomes_a_potential_of_the_same_numbers(read):
    np.testing.assert_allclose(
        numbers_of(PotentialCalculator(read)), numbers_of(PotentialCalculator(original())), atol=1e-8
    )
    assert read.cutoff == original().cutoff
    assert read.atomic_numbers == (1, 6, 8)


def test_what_cannot_be_read_or_written_is_told_in_a_line(package, tmp_path):
    (tmp_path / "my.ckpt").write_text("nothing of the kind")
    with pytest.raises(InputError, match=r"my\.ckpt: no package or checkpoint of nequip"):
        library_files.read(tmp_path / "my.ckpt", "nequip")
    with pytest.raises(InputError, match="--to mace: the potential is a NequIP; write --to nequip"):
        library_files.write(original(), "mace", tmp_path / "my.model")
    with pytest.raises(InputError, match=r"--output .*my\.zip: nequip knows.* end it with \.nequip\.zip"):
        library_files.write(original(), "nequip", tmp_path / "my.zip")
    with pytest.raises(InputError, match="is there already"):
        library_files.write(original(), "nequip", package)
    with pytest.raises(InputError, match="there is no folder"):
        library_files.write(original(), "nequip", tmp_path / "absent" / "my.nequip.zip")
