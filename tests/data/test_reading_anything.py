"""Readers against files that nobody wrote by hand: they give sound frames, or one line that says why not."""

import io
import tempfile
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlip_sweep.data.isolated_atoms import isolated_atom_energies, read_apart
from mlip_sweep.data.validation import check_frame
from mlip_sweep.errors import InputError

anything = settings(
    derandomize=True, deadline=None, max_examples=350, database=None, suppress_health_check=list(HealthCheck)
)

NUMBERS = st.one_of(
    st.floats(-3.0, 3.0).map(lambda x: f"{x:.6f}"),
    st.sampled_from(
        ["nan", "inf", "-inf", "1e20", "1e400", "0", "-0", "1d0", "", "x", "T", "None", "1,5", "٣", "😀", "[]"]
    ),
)
COUNTS = st.one_of(
    st.integers(-2, 4).map(str),
    st.sampled_from(["999999999999", "1e3", "", " 2 ", "2 2", "٢", "0x2", "1.0", "9" * 5000]),
)
SYMBOLS = st.sampled_from(["H", "O", "Cu", "X", "Qq", "h", "1", "8", "é", "", "0", "-1"])
PROPERTIES = st.one_of(
    st.just("species:S:1:pos:R:3:forces:R:3"),
    st.lists(
        st.tuples(
            st.sampled_from(["species", "pos", "forces", "Z", "energy", "numbers", "é", "", "cell", "tags"]),
            st.sampled_from(["S", "R", "I", "L", "Q"]),
            st.sampled_from(["1", "3", "0", "-1", "2", "x", "999999999999"]),
        ).map(":".join),
        max_size=4,
    ).map(":".join),
)
CELLS = st.one_of(
    st.none(), st.lists(NUMBERS, min_size=9, max_size=9).map(" ".join), st.lists(NUMBERS, max_size=10).map(" ".join)
)
PBC = st.one_of(st.none(), st.sampled_from(["T T T", "F F F", "T F T", "", "T", "maybe", "1 1 1", "T T T T", "[[T]]"]))
KEYS = st.sampled_from(
    [
        "energy",
        "forces",
        "stress",
        "virials",
        "REF_energy",
        "config_weight",
        "charge",
        "config_type",
        "numbers",
        "positions",
        "pbc",
        "é",
    ]
)


@st.composite
def extended_xyz(draw) -> str:
    """A few frames, each right here and wrong there."""
    text = ""
    for _ in range(draw(st.integers(1, 2))):
        rows = draw(st.lists(st.tuples(SYMBOLS, *[NUMBERS] * 6).map(" ".join), max_size=3))
        count = draw(st.one_of(st.just(str(len(rows))), COUNTS))
        info = [f"Properties={draw(PROPERTIES)}"]
        for name, value in (("energy", draw(NUMBERS)), ("Lattice", draw(CELLS)), ("pbc", draw(PBC))):
            if value is not None:
                info.append(f'{name}="{value}"')
        info += [f"{key}={value}" for key, value in draw(st.lists(st.tuples(KEYS, NUMBERS), max_size=2))]
        text += "\n".join([count, " ".join(info), *rows]) + "\n"
    return text


def _sound(form: str) -> bytes:
    """Two labelled frames in a format of ASE."""
    frames = []
    for shift in (0.0, 0.1):
        atoms = Atoms("OH2", [[0, 0, 0], [0.97, shift, 0], [-0.2, 0.9, 0]], cell=[8, 9, 10], pbc=(True, False, True))
        atoms.calc = SinglePointCalculator(atoms, energy=-14.0 + shift, forces=0.1 * atoms.positions)
        frames.append(atoms)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound.{form}"
        ase.io.write(path, frames, format={"xyz": "extxyz"}.get(form, form))
        return path.read_bytes()


SOUND = {form: _sound(form) for form in ("xyz", "traj", "json")}


@st.composite
def damaged(draw, form: str) -> bytes:
    """A sound file with some bytes changed, left out or put in, or cut off."""
    contents = bytearray(SOUND[form])
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(contents)))
        length = draw(st.sampled_from([0, 1, 1, 3, 20, len(contents)]))
        contents[place : place + length] = draw(
            st.one_of(
                st.binary(max_size=4), st.sampled_from([b"", b" ", b"\n", b"9", b"-", b"nan", b"T", b"1e9", b'"'])
            )
        )
    return bytes(contents)


def read(contents: bytes, form: str) -> None:
    """Read a file in every way that data sets do."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"some.{form}"
        path.write_bytes(contents)
        try:
            frames = read_apart(path).frames
        except InputError as error:
            assert "\n" not in str(error)
            assert "some." in str(error)
        else:
            for frame in frames:
                check_frame(frame)
        try:
            isolated_atom_energies(path)
        except InputError as error:
            assert "\n" not in str(error)


@anything
@given(extended_xyz())
def test_extended_xyz_of_any_kind(text):
    read(text.encode(), "xyz")


@pytest.mark.parametrize("form", SOUND)
def test_files_that_are_damaged(form):
    frames = ase.io.read(io.StringIO(SOUND[form].decode()), ":", format="extxyz") if form == "xyz" else [0, 0]
    assert len(frames) == 2

    @anything
    @given(damaged(form))
    def every(contents):
        read(contents, form)

    every()
