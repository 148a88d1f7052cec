from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_sweep.data.named_labels import GivenNames
from mlip_sweep.data.reading import atoms_of, frame_of, read_frames
from mlip_sweep.errors import InputError


def test_extended_xyz_comes_back_as_it_was_written(structures, write):
    written = structures(5)
    labels = written[2].calc.results
    written[2] = Atoms(written[2].numbers, written[2].positions, cell=[9.0, 8.0, 7.0], pbc=(True, False, True))
    written[2].calc = SinglePointCalculator(written[2], **labels)
    read = read_frames(write("train.xyz", written))
    assert len(read) == 5
    for frame, atoms in zip(read, written, strict=True):
        assert frame.atomic_numbers.tolist() == atoms.numbers.tolist()
        assert frame.atomic_numbers.dtype == np.int64
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(frame.forces, atoms.calc.results["forces"], atol=1e-8)
        assert frame.energy == pytest.approx(atoms.calc.results["energy"], abs=1e-9)
        assert frame.pbc.tolist() == atoms.pbc.tolist()
        np.testing.assert_allclose(frame.cell, atoms.cell.array)
    assert read[3].origin.endswith("train.xyz, frame 3")


def test_labels_under_names_of_the_users_choice(structures, write):
    (atoms,) = structures(1)
    plain = Atoms(atoms.numbers, atoms.positions, info={"dft_energy": -7.5})
    plain.arrays["dft_forces"] = atoms.get_forces()
    path = write("custom.xyz", [plain])
    (frame,) = read_frames(path, GivenNames(energy="dft_energy", forces="dft_forces"))
    assert frame.energy == -7.5
    np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-8)
    with pytest.raises(InputError, match=r"frame 0: no energy; choose dataset.energy_key among .*dft_energy"):
        read_frames(path)


def test_formats_other_than_xyz(structures, tmp_path):
    import ase.io

    written = structures(3)
    ase.io.write(tmp_path / "run.traj", written)
    read = read_frames(tmp_path / "run.traj")
    np.testing.assert_array_equal(read[1].forces, written[1].get_forces())


def test_constraints_do_not_change_the_labels(structures):
    from ase.constraints import FixAtoms

    (atoms,) = structures(1)
    truth = atoms.get_forces().copy()
    atoms.set_constraint(FixAtoms([0]))
    np.testing.assert_array_equal(frame_of(atoms, "here").forces, truth)


def test_weights_are_those_of_mace(structures, write):
    weighed = structures(3)
    weighed[0].info["config_weight"], weighed[1].info["config_weight"] = 2.5, 0
    read = read_frames(write("train.xyz", weighed))
    assert [frame.weight for frame in read] == [2.5, 0.0, 1.0]
    assert [frame_of(atoms_of(frame), "again").weight for frame in read] == [2.5, 0.0, 1.0]


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "heavy", np.ones(2)])
def test_a_weight_that_is_none_is_refused(structures, value):
    (atoms,) = structures(1)
    atoms.info["config_weight"] = value
    with pytest.raises(InputError, match=r"^here: config_weight is .*; give a number from 0") as error:
        frame_of(atoms, "here")
    assert "\n" not in str(error.value)


def test_frames_go_back_to_ase(frames):
    frame = frames(1)[0]
    again = frame_of(atoms_of(frame), "again")
    np.testing.assert_array_equal(again.positions, frame.positions)
    np.testing.assert_array_equal(again.forces, frame.forces)
    assert frame_of(atoms_of(replace(frame, config_type="bulk")), "again").config_type == "bulk"
    assert again.energy == frame.energy


HEADER = '1\nProperties=species:S:1:pos:R:3:forces:R:3 energy={energy} pbc="F F F"\n'


STRESS = np.array([[0.01, 0.02, 0.03], [0.02, 0.05, -0.06], [0.03, -0.06, 0.09]])
VIRIAL = -60.0 * STRESS  # eV, in a cell of 3 x 4 x 5 Å³
CELL = 'Lattice="3 0 0 0 4 0 0 0 5" '


def with_info(path, info, cell=CELL):
    """A file of one atom with a label of its stress, in whatever way it is written."""
    path.write_text(f"1\n{cell}Properties=species:S:1:pos:R:3:forces:R:3 energy=1.0 {info}\nCu 0 0 0 0 0 0\n")
    return path


def text(values):
    return '"' + " ".join(f"{value:.10g}" for value in np.ravel(values)) + '"'


VOIGT = STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


@pytest.mark.parametrize(
    "info",
    [
        f"stress={text(STRESS)}",
        f"virial={text(VIRIAL)}",
        f"virials={text(VIRIAL)}",
        f"virials={text(-60.0 * VOIGT)}",
        f"stress={text(STRESS)} virials={text(VIRIAL)}",
    ],
)
def test_a_stress_is_read_however_it_is_written(tmp_path, info):
    (frame,) = read_frames(with_info(tmp_path / "train.xyz", info))
    np.testing.assert_allclose(frame.stress, STRESS, atol=1e-12)
    np.testing.assert_allclose(frame_of(atoms_of(frame), "again").stress, STRESS, atol=1e-12)


def test_a_stress_under_a_name_of_the_users_choice(tmp_path):
    path = with_info(tmp_path / "train.xyz", f"dft_stress={text(VOIGT)} dft_Virial={text(2 * VIRIAL)}")
    assert read_frames(path)[0].stress is None
    np.testing.assert_allclose(read_frames(path, GivenNames(stress="dft_stress"))[0].stress, STRESS)
    np.testing.assert_allclose(read_frames(path, GivenNames(stress="dft_Virial"))[0].stress, 2 * STRESS)
    assert read_frames(with_info(path, f"stress={text(STRESS)}"), GivenNames(stress=False))[0].stress is None


@pytest.mark.parametrize(
    ("cell", "info", "message"),
    [
        (CELL, 'virials="1 2 3"', r"virials has shape \(3,\); write 6 or 9 numbers"),
        (CELL, "virials=1.0", r"virials has shape \(\); write 6 or 9 numbers"),
        (CELL, "virials=all", "virials is 'all'; give numbers, or another dataset.stress_key"),
        (
            CELL,
            'stress="1 0 0 0 nan 0 0 0 1"',
            "stress is .*nan.*; give 6 or 9 finite numbers in eV/Å³, or .*stress_key=false",
        ),
        (CELL, 'stress="1 0 0 0 1e4 0 0 0 1"', r"stress is .*10000.*; give 6 or 9 finite numbers in eV/Å³"),
        (CELL, 'virials="1 9 0 0 1 0 0 0 1"', "stress .* is not symmetric; mend or remove it"),
        (
            "",
            f"stress={text(STRESS)}",
            "a stress, but no cell of three vectors; write the cell, or set dataset.stress_key",
        ),
        ("", f"virials={text(VIRIAL)}", "virials, but no cell; write the cell, or set dataset.stress_key=false"),
        (
            CELL,
            f"stress={text(STRESS)} virial={text(-VIRIAL)}",
            "stress and virial differ; choose one: dataset.stress_key=",
        ),
    ],
)
def test_a_stress_that_is_none_ends_in_one_line(tmp_path, cell, info, message):
    with pytest.raises(InputError, match=rf"bad.xyz, frame 0: {message}") as error:
        read_frames(with_info(tmp_path / "bad.xyz", info, cell))
    assert "\n" not in str(error.value)


def test_stresses_under_two_names_are_never_mixed(tmp_path):
    one, two = (with_info(tmp_path / "a.xyz", f"{name}={text(VIRIAL)}").read_text() for name in ("virial", "virials"))
    (tmp_path / "mixed.xyz").write_text(one + two + one)
    with pytest.raises(
        InputError, match=r"mixed.xyz, frame 1: it has virials, and other frames virial; write the same"
    ):
        read_frames(tmp_path / "mixed.xyz")
    assert [frame.stress is None for frame in read_frames(tmp_path / "mixed.xyz", GivenNames(stress="virial"))] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.format(energy="nan") + "H 0 0 0 0 0 0\n", "bad.xyz, frame 0, energy: energy is nan"),
        (HEADER.format(energy="inf") + "H 0 0 0 0 0 0\n", "bad.xyz, frame 0, energy: energy is inf"),
        (HEADER.format(energy="1.0") + "H 0 0 0 0 nan 0\n", "bad.xyz, frame 0: forces of atom 0 are .*nan"),
        (HEADER.format(energy="1.0") + "X 0 0 0 0 0 0\n", "bad.xyz, frame 0: atomic number 0 is no element"),
        (HEADER.format(energy="1.0") + "Qq 0 0 0 0 0 0\n", "bad.xyz: ASE cannot read it .*Qq"),
        (
            "1\nProperties=species:S:1:pos:R:3 energy=1.0\nH 0 0 0\n",
            "frame 0: no forces; choose dataset.forces_key",
        ),
        ("1\nProperties=species:S:1:pos:R:3:forces:R:3\nH 0 0 0 0 0 0\n", "bad.xyz, frame 0: no energy"),
        (
            "1\nProperties=species:S:1:pos:R:3:REF:R:1 energy=1.0\nH 0 0 0 0\n",
            r"forces have shape \(1,\), not \(1, 3\)",
        ),
        ('1\nProperties=species:S:1:pos:R:3:forces:R:3 energy="F F" \nH 0 0 0 0 0 0\n', "bad.xyz"),
        ("", "bad.xyz: .*"),
        ("hello", "bad.xyz: ASE cannot read it"),
        ("999999999999\n\nH 0 0 0\n", "bad.xyz, frame 0: 999999999999 atoms are promised, more than the file holds"),
        (
            "1\nProperties=species:S:1:pos:R:888888888\nH 0 0 0\n",
            "frame 0: 888888888 columns are promised, more than the",
        ),
        ("1\n\nH 0 0 0\n88888888\n", "bad.xyz, frame 1: 88888888 atoms are promised"),
    ],
)
def test_bad_files_end_in_one_line_that_names_the_place(tmp_path, text, message):
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_frames(path, GivenNames(forces="REF" if "REF" in text else "forces"))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.xyz: no such file"):
        read_frames(tmp_path / "nowhere.xyz")
