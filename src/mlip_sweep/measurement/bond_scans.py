"""How smooth a potential is along every bond of a molecule, from pressed together to torn apart.

Tortuosity, energy jump and force flips: MLIP Arena, https://github.com/atomind-ai/mlip-arena. Force smoothness
deviation: https://arxiv.org/abs/2602.04861, which needs the reference method; the others need no label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from ase.data import chemical_symbols, covalent_radii
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mlip_sweep.data.cache import cached
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import graph
from mlip_sweep.errors import SettingError
from mlip_sweep.measurement.accuracy import predict
from mlip_sweep.measurement.dynamics.calculator_model import CalculatorModel
from mlip_sweep.measurement.dynamics.failure import Bonds, bonds_of
from mlip_sweep.measurement.dynamics.protocol import starting_geometry
from mlip_sweep.measurement.evaluation import ForceField
from mlip_sweep.measurement.interface import ForceFieldMeasurement, Report
from mlip_sweep.metrics import Metric
from mlip_sweep.settings import settings

TORTUOSITY: Final = "bond_scan_tortuosity"
ENERGY_JUMP: Final = "bond_scan_energy_jump_eV"
FORCE_FLIPS: Final = "bond_scan_force_flips"
ROUGHNESS: Final = "bond_scan_roughness_eV_A3"
SMOOTHNESS_DEVIATION: Final = "bond_scan_force_smoothness_deviation_1_A"

SMALLEST_STEP: Final = 0.001  # eV; smaller changes of the energy have no sign
SMALLEST_FORCE: Final = 0.010  # eV/Å; likewise
LEAST_SQUARE: Final = 1.0  # (eV/Å)²; squared changes of the forces count as no less
FORMAT: Final = 1  # of the kept forces of the reference


@dataclass(frozen=True)
class Scan:
    """One bond, stretched from short to long.

    Attributes:
        name: such as "C0-H3".
        lengths: of the bond, (G,) Å.
        positions: of all atoms, (G, A, 3) Å.
        moved: the atoms that move along, (A,) bool.
        direction: in which they move, (3,), of unit length.
    """

    name: str
    lengths: NDArray[np.float64]
    positions: NDArray[np.float64]
    moved: NDArray[np.bool_]
    direction: NDArray[np.float64]


@settings
class BondScans(ForceFieldMeasurement):
    """Scan every bond of the lowest-energy training geometry, and say how smooth energy and forces are on the way.

    The bond goes from `shortest` to `longest` times the sum of the covalent radii. What hangs on its second atom moves
    along, as a rigid body; where the bond is part of a ring, or of a crystal, the second atom moves alone. Each metric
    is the mean over bonds; there is a table of them all.

    - Tortuosity: Σ|ΔE| / (|E_far − E_min| + (E_near − E_min)); 1 for a curve with a single minimum.
    - Energy jump: Σ of |ΔE| on both sides of every change of its sign, eV.
    - Force flips: changes of sign of the force along the bond; 1 for a single minimum.
    - Roughness: max |Δ³E| / Δr³, eV/Å³.
    - Force smoothness deviation: max |d/dr ln(|ΔF|² / |ΔF_ref|²)|, 1/Å, ΔF the change of all forces since the reference
      ones at equilibrium. Where the data set has its reference method at hand.

    Args:
        shortest: of a bond, in units of the sum of the covalent radii.
        longest: likewise.
        points: of every scan.
        most_bonds: that are scanned, the first ones; a crystal has many alike.
        reference: whether the reference method is scanned too, where it is at hand; computed once and kept.
        max_atoms: of one batch.
        cache: folder where the reference's forces are kept.
    """

    shortest: PositiveFloat = 0.5
    longest: PositiveFloat = 2.0
    points: Annotated[int, Field(ge=10)] = 100
    most_bonds: PositiveInt = 24
    reference: bool = True
    max_atoms: PositiveInt = 1024
    cache: str | Path = "~/.cache/mlip-sweep"

    metrics = (
        Metric(TORTUOSITY, better="lower"),
        Metric(ENERGY_JUMP, "eV", better="lower"),
        Metric(FORCE_FLIPS, better="lower"),
        Metric(ROUGHNESS, "eV/Å³", better="lower"),
        Metric(SMOOTHNESS_DEVIATION, "1/Å", better="lower"),
    )

    def __post_init__(self) -> None:
        """Refuse a scan that goes nowhere."""
        if self.longest <= self.shortest:
            raise SettingError(f"longest={self.longest}: give more than shortest={self.shortest}")

    def __call__(self, model: ForceField, dataset: Dataset) -> Report:
        """Measure a model, which is left in the mode it was in."""
        start = starting_geometry(dataset)
        found = scans(start, self)
        if not found:
            return Report(notes=["the lowest-energy training geometry has no bond to scan"])
        evaluated = [evaluate(model, start, scan.positions, self.max_atoms) for scan in found]
        rows = [{"bond": scan.name} | smoothness(scan, *of_one) for scan, of_one in zip(found, evaluated, strict=True)]
        if self.reference and dataset.reference is not None:
            at_rest, along = reference_forces(start, found, dataset.name, dataset.reference, Path(self.cache))
            for row, scan, (_, forces), theirs in zip(rows, found, evaluated, along, strict=True):
                row[SMOOTHNESS_DEVIATION] = force_smoothness_deviation(scan.lengths, forces, theirs, at_rest)
        table = pd.DataFrame(rows)
        return Report(
            metrics={str(name): float(table[name].mean()) for name in table.columns.drop("bond")},
            arrays={
                "lengths_A": np.array([scan.lengths for scan in found]),
                "energy_eV": np.array([energy for energy, _ in evaluated]),
            },
            tables={"bonds": table},
            figures={"bond_scans": _figure(found, [energy for energy, _ in evaluated])},
        )


def scans(start: Frame, settings: BondScans) -> list[Scan]:
    """The scans of all bonds of a geometry."""
    bonds = bonds_of(start)
    found = []
    for k in range(min(len(bonds), settings.most_bonds)):
        i, j = (int(atom) for atom in bonds.pairs[:, k])
        vector = start.positions[j] - start.positions[i] + bonds.shift[k]
        direction = vector / np.linalg.norm(vector)
        radii = sum(covalent_radii[start.atomic_numbers[atom]] for atom in (i, j))
        lengths = np.linspace(settings.shortest, settings.longest, settings.points) * radii
        moved = _moving(len(start), bonds, k)
        steps = (lengths - bonds.lengths[k])[:, None, None] * direction * moved[:, None]  # (G, A, 3)
        name = "-".join(f"{chemical_symbols[start.atomic_numbers[atom]]}{atom}" for atom in (i, j))
        found.append(Scan(name, lengths, start.positions + steps, moved, direction))
    return found


def _moving(atoms: int, bonds: Bonds, k: int) -> NDArray[np.bool_]:
    """The atoms that hang on the second atom of a bond once it is cut; in a ring that atom alone."""
    rest = np.delete(bonds.pairs, k, axis=1)
    adjacency = csr_array((np.ones(rest.shape[1]), (rest[0], rest[1])), shape=(atoms, atoms))
    parts = connected_components(adjacency, directed=False)[1]
    i, j = bonds.pairs[:, k]
    moved = parts == parts[j]
    if parts[i] == parts[j]:
        moved = np.arange(atoms) == j
    return np.asarray(moved, dtype=np.bool_)


def evaluate(
    model: ForceField, start: Frame, positions: NDArray[np.float64], max_atoms: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energies (G,) eV and forces (G, A, 3) eV/Å at G sets of positions (G, A, 3) Å."""
    frames = [
        Frame(start.atomic_numbers, one, start.cell, start.pbc, energy=0.0, forces=np.zeros_like(one))
        for one in positions
    ]
    cutoff = max(float(model.cutoff), 0.01)  # a calculator in the place of a model finds its own neighbours
    found = predict(model, [graph(frame, cutoff) for frame in frames], max_atoms)
    return found.energy.numpy(), found.forces.numpy().reshape(positions.shape)


def smoothness(scan: Scan, energy: NDArray[np.float64], forces: NDArray[np.float64]) -> dict[str, float]:
    """What one scan says without a reference; NaN where a prediction is not finite."""
    along = (forces[:, scan.moved].sum(axis=1) @ scan.direction).astype(float)  # (G,) eV/Å
    names = (TORTUOSITY, ENERGY_JUMP, FORCE_FLIPS, ROUGHNESS)
    if not (np.isfinite(energy).all() and np.isfinite(along).all()):
        return dict.fromkeys(names, float("nan"))
    steps = np.diff(energy)
    lowest = energy.min()
    direct = abs(energy[-1] - lowest) + (energy[0] - lowest)
    told = steps[np.abs(steps) >= SMALLEST_STEP]
    turns = np.flatnonzero(np.diff(np.sign(told)))
    sure = along[np.abs(along) >= SMALLEST_FORCE]
    spacing = float(np.diff(scan.lengths).mean())
    values = (
        float(np.abs(steps).sum() / direct) if direct > 0 else 1.0,
        float(np.abs(told[turns]).sum() + np.abs(told[turns + 1]).sum()),
        float(np.count_nonzero(np.diff(np.sign(sure)))),
        float(np.abs(np.diff(energy, 3)).max() / spacing**3),
    )
    return dict(zip(names, values, strict=True))


def force_smoothness_deviation(
    lengths: NDArray[np.float64],
    forces: NDArray[np.float64],
    reference: NDArray[np.float64],
    at_rest: NDArray[np.float64],
) -> float:
    """The largest |d/dr ln(|F − F_0|² / |F_ref − F_0|²)|, in 1/Å, between neighbouring points (arXiv 2602.04861).

    Args:
        lengths: (G,) Å.
        forces: of the model, (G, A, 3) eV/Å.
        reference: of the reference method, likewise; points where it is NaN are left out.
        at_rest: F_0, of the reference at the starting geometry, (A, 3).
    """
    known = np.isfinite(reference).all(axis=(1, 2)) & np.isfinite(forces).all(axis=(1, 2))
    if known.sum() < 2:
        return float("nan")
    squares = [np.square(f[known] - at_rest).sum(axis=(1, 2)).clip(LEAST_SQUARE) for f in (forces, reference)]
    ratio = np.log(squares[0]) - np.log(squares[1])
    return float(np.abs(np.diff(ratio) / np.diff(lengths[known])).max())


def reference_forces(
    start: Frame, found: Sequence[Scan], name: str, reference: Mapping[str, Any], cache: Path
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Forces of the reference method at the start (A, 3) and along every scan, each (G, A, 3) eV/Å; kept once computed.

    Raises:
        InputError: The reference is not installed.
    """
    from mlip_sweep.data.reference import one_thread, reference_calculator, reference_recipe

    determined_by: dict[str, Any] = {
        "format": FORMAT,
        "scans": [[scan.name, float(scan.lengths[0]), float(scan.lengths[-1]), len(scan.lengths)] for scan in found],
        **reference_recipe(reference, start),
    }

    def make(unfinished: Path) -> None:
        with one_thread(reference):
            model = CalculatorModel(reference_calculator(reference), pbc=start.pbc.tolist())
            parts = [start.positions[None], *(scan.positions for scan in found)]
            forces = [evaluate(model, start, part, len(start))[1] for part in parts]
        with unfinished.open("wb") as file:
            np.savez(file, at_rest=forces[0][0], along=np.array(forces[1:]))

    path = cached(cache / "bond_scans", name, ".npz", determined_by, make)
    with np.load(path) as kept:
        return kept["at_rest"], list(kept["along"])


def _figure(found: Sequence[Scan], energies: Sequence[NDArray[np.float64]]) -> Figure:
    """Energy along every bond."""
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for scan, energy in zip(found, energies, strict=True):
        axes.plot(scan.lengths, energy - energy.min(), linewidth=1.0, label=scan.name)
    axes.set(xlabel="bond length (Å)", ylabel="energy above the lowest (eV)")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.legend(fontsize="small", ncols=2)
    return figure
