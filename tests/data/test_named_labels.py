"""Labels under names of habit: found by themselves, told, and never mixed up."""

import numpy as np
import pytest
from ase import Atoms

from mlip_sweep.data.datasets import extxyz
from mlip_sweep.data.isolated_atoms import read_apart
from mlip_sweep.data.named_labels import GivenNames, LabelNames
from mlip_sweep.errors import InputError


def renamed(structures: list[Atoms], *, keep: bool = False, **stress) -> list[Atoms]:
    """The same structures with labels as MACE's users write them, beside ASE's own ones or in their place."""
    made = []
    for atoms in structures:
        other = atoms.copy()
        other.info["REF_energy"] = atoms.get_potential_energy()
        other.arrays["REF_forces"] = atoms.get_forces()
        other.calc = atoms.calc if keep else None
        if stress:
            other.cell = [20.0, 20.0, 20.0]
            other.info |= stress
        made.append(other)
    return made


def test_names_of_habit_are_found_and_told(structures, write):
    atom = Atoms("H", info={"config_type": "IsolatedAtom", "REF_energy": -13.5})
    train = write("train.xyz", [atom, *renamed(structures(20), REF_virials=-8.0 * np.eye(3))])
    plain, other = write("plain.xyz", structures(5, seed=1)), write("other.xyz", renamed(structures(5, seed=2)))
    data = extxyz(name="own", train=train, tests={"plain": plain, "other": other}, seed=0)
    assert data.notes[1:] == (
        f"labels of {train}: REF_energy, REF_forces, REF_virials (stress = -virial/volume)",
        f"labels of {other}: REF_energy, REF_forces",
    )
    assert data.isolated_atom_energies == {1: -13.5}
    np.testing.assert_allclose(data.train[0].stress, 0.001 * np.eye(3), atol=1e-12)
    said = extxyz(name="own", train=other, energy_key="REF_energy", forces_key="REF_forces", seed=0)
    assert said.notes == ()


@pytest.mark.parametrize(("quantity", "place"), [("energy", "info"), ("forces", "arrays")])
def test_two_labels_that_differ_are_asked_about(structures, write, quantity, place):
    both = renamed(structures(5), keep=True)
    assert read_apart(write("same.xyz", both)).names == LabelNames("energy", "forces", None)
    labels = getattr(both[3], place)
    labels[f"REF_{quantity}"] = labels[f"REF_{quantity}"] + 0.1
    path = write("both.xyz", both)
    match = rf"both.xyz, frame 3: {quantity} and REF_{quantity} differ; choose one: dataset.{quantity}_key"
    with pytest.raises(InputError, match=match) as error:
        read_apart(path)
    assert "\n" not in str(error.value)
    decided = read_apart(path, GivenNames(**{quantity: f"REF_{quantity}"}))
    np.testing.assert_allclose(getattr(decided.frames[3], quantity), labels[f"REF_{quantity}"], atol=1e-7)


def test_labels_under_two_names_are_never_mixed(structures, write):
    path = write("mixed.xyz", [*structures(3), *renamed(structures(2, seed=1))])
    with pytest.raises(
        InputError, match=r"mixed.xyz, frame 3: it has REF_energy, and other frames energy; write the same"
    ):
        read_apart(path)
