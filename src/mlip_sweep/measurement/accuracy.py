"""Errors of energies, forces and stresses on every set of frames, pooled over temperatures, and their growth with T."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from pydantic import PositiveInt

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.data.graphs import GraphBatch, batches, without_edges
from mlip_sweep.data.labels import temperature_of
from mlip_sweep.measurement.accuracy_figures import parity_figure
from mlip_sweep.measurement.evaluation import ForceField, device_of, evaluating
from mlip_sweep.measurement.interface import ForceFieldMeasurement, Report
from mlip_sweep.metrics import SET, Column, Metric
from mlip_sweep.models.interface import Prediction
from mlip_sweep.models.targets import ENERGY, FORCES, QUANTITIES, residuals_of
from mlip_sweep.settings import settings

ALL_T, HIGH_T = "all_T", "high_T"  # pools of test sets
TRAIN, TRAIN_CLEAN = "train", "train_clean"
NOT_TEST_SETS: Final = (ALL_T, HIGH_T, TRAIN, TRAIN_CLEAN)

RMSE_FORCES_HIGH_T: Final = FORCES.metric("rmse", HIGH_T)
RMSE_ENERGY_HIGH_T: Final = ENERGY.metric("rmse", HIGH_T)
RMSE_FORCES_ALL_T: Final = FORCES.metric("rmse", ALL_T)
EXTRAPOLATION_SLOPE: Final = "extrapolation_slope_forces_meV_A_K"


def rmse_forces(label: str) -> str:
    """Name of the forces RMSE on one set, in meV/Å."""
    return FORCES.metric("rmse", label)


def forces_column(label: str, priority: int = 0) -> Column:
    """How a table shows the forces RMSE on one set."""
    return Column(f"F {label}\nmeV/Å", form="{:.1f}", priority=priority)


Errors = dict[str, NDArray[np.float64]]
"""Prediction minus label by name of the quantity: energy (S,) eV/atom, one a frame; forces (3N,) eV/Å; stress (9L,)
eV/Å³, of the L frames that have a label of it, where there are any."""


@settings
class Accuracy(ForceFieldMeasurement):
    """Errors on the training frames and on every test set.

    Energy errors are per atom, root mean square or mean absolute over frames; forces errors over all 3N components.
    Pooled errors are taken over everything in the sets together, sqrt(Σ_T n_T F_T² / Σ_T n_T), n_T the number of frames
    (energy) or components (forces): "all_T" over the test sets whose label names a temperature, like "300K", and
    "high_T" over those of them that are hotter than the training frames. The extrapolation slope is that of a straight
    line through forces RMSE against T, over the sets of all_T, where there are two temperatures. A set of any other
    label has errors of its own, and is in no pool.

    The training frames are measured against the labels that were trained on, "train", and, where these are noisy,
    against the original ones as well, "train_clean".

    Tables tell the errors on the atoms of each element and on the frames of each config_type, where a set has several.

    Args:
        max_atoms: of one batch.
    """

    max_atoms: PositiveInt = 1024

    metrics = (
        Metric(
            RMSE_FORCES_HIGH_T,
            FORCES.milli_unit,
            better="lower",
            column=forces_column("high-T", priority=5),
            headline="forces RMSE, high T: {:.0f} meV/Å",
        ),
        Metric(RMSE_FORCES_ALL_T, FORCES.milli_unit, better="lower", column=forces_column("all-T", priority=5)),
        Metric(
            RMSE_ENERGY_HIGH_T,
            ENERGY.milli_unit,
            better="lower",
            column=Column("E high-T\nmeV/atom", form="{:.1f}", priority=3),
            headline="energy RMSE, high T: {:.1f} meV/atom",
        ),
        *(
            Metric(quantity.metric(kind, SET), quantity.milli_unit, better="lower")
            for quantity in QUANTITIES.values()
            for kind in ("rmse", "mae")
            if (quantity, kind) != (FORCES, "rmse")
        ),
        *(
            Metric(rmse_forces(label), FORCES.milli_unit, better="lower")
            for label in (TRAIN, TRAIN_CLEAN)  # the table of runs shows test sets
        ),
        Metric(rmse_forces(SET), FORCES.milli_unit, better="lower", column=forces_column(SET)),
        Metric(EXTRAPOLATION_SLOPE, "meV/Å/K", better="lower"),
    )

    def records(self, name: str, dataset: Dataset) -> bool:
        """Errors on the sets that there are; the slope where there are two temperatures."""
        if name == EXTRAPOLATION_SLOPE:
            return len(set(dataset.test_temperatures.values())) > 1
        pools = [pool for pool, labels in pools_of(dataset).items() if labels]
        labels = [*dataset.tests, TRAIN, *([TRAIN_CLEAN] if dataset.noisy else []), *pools]
        return any(
            name == quantity.metric(kind, label)
            for quantity in QUANTITIES.values()
            for kind in STATISTICS
            for label in labels
        )

    def __call__(self, model: ForceField, dataset: Dataset) -> Report:
        """Errors of a model, which is left in the mode it was in."""
        graphs = {label: dataset.graphs(label, model.cutoff) for label in (*dataset.tests, TRAIN)}
        predictions = {label: predict(model, graphs[label], self.max_atoms) for label in graphs}
        if dataset.noisy:
            graphs[TRAIN_CLEAN] = dataset.graphs(TRAIN_CLEAN, model.cutoff)
            predictions[TRAIN_CLEAN] = predictions[TRAIN]
        errors = {label: errors_of(predictions[label], graphs[label]) for label in graphs}
        errors |= {
            pool: pooled([errors[label] for label in labels]) for pool, labels in pools_of(dataset).items() if labels
        }

        metrics = {
            QUANTITIES[name].metric(kind, label): statistic(values)
            for label in errors
            for name, values in errors[label].items()
            for kind, statistic in STATISTICS.items()
        }
        slope = extrapolation_slope({label: metrics[rmse_forces(label)] for label in dataset.tests})
        if slope is not None:
            metrics[EXTRAPOLATION_SLOPE] = slope
        shown = [*([TRAIN] if TRAIN not in dataset.tests else []), *dataset.tests]
        parity = {
            label: (dataset.frames(label), predictions[label].energy.numpy(), predictions[label].forces.numpy())
            for label in shown
        }
        broken = [label for label, error in errors.items() if not all(np.isfinite(e).all() for e in error.values())]
        return Report(
            metrics=metrics,
            tables={
                "errors": pd.DataFrame([_row(label, error) for label, error in errors.items()]),
                **_tables_of_parts({label: (dataset.frames(label), graphs[label], errors[label]) for label in graphs}),
            },
            figures={"parity": parity_figure(parity)},
            notes=[f"predictions on {label} are not all finite" for label in broken] + _offset_notes(errors[TRAIN]),
            summary=_summary(errors),
        )


def predict(model: ForceField, graphs: Sequence[GraphBatch], max_atoms: int = 1024) -> Prediction:
    """What a model says of all graphs, one after the other, float64 on the CPU; stresses where graphs have labels.

    Args:
        model: runs on the device where its parameters are, and is left in the mode it was in.
        graphs: S structures of N atoms in all.
        max_atoms: of one batch.
    """
    device = device_of(model)
    energies, forces, stresses = [torch.zeros(0)], [torch.zeros(0, 3)], [torch.zeros(0, 3, 3)]
    with evaluating(model), torch.no_grad():
        for batch in batches(graphs, max_atoms, device):
            prediction = model(batch)
            stress = torch.full_like(batch.cell, torch.nan) if prediction.stress is None else prediction.stress
            energies.append(prediction.energy.cpu())
            forces.append(prediction.forces.cpu())
            stresses.append(stress.cpu())
    return Prediction(*(torch.cat(parts).double() for parts in (energies, forces, stresses)))


def errors_of(prediction: Prediction, graphs: Sequence[GraphBatch]) -> Errors:
    """Errors of a prediction, as `predict` returns it, against the labels of the graphs."""
    return {name: values.numpy() for name, values in residuals_of(prediction, without_edges(graphs)).items()}


def pools_of(dataset: Dataset) -> dict[str, list[str]]:
    """The test sets of each pool: of all temperatures, and of those above that of the training where it is known."""
    temperatures, training = dataset.test_temperatures, dataset.training_temperature
    hot = [label for label, kelvin in temperatures.items() if training is not None and kelvin > training]
    return {ALL_T: list(temperatures), HIGH_T: hot}


def pooled(errors: Sequence[Errors]) -> Errors:
    """Several sets as one."""
    names = dict.fromkeys(name for error in errors for name in error)
    return {name: np.concatenate([error[name] for error in errors if name in error]) for name in names}


def extrapolation_slope(rmse_by_label: dict[str, float]) -> float | None:
    """Least-squares slope of an error against T, per K, over labels like "300K"; None below two temperatures."""
    temperatures = {label: temperature_of(label) for label in rmse_by_label}
    points = [(kelvin, rmse_by_label[label]) for label, kelvin in temperatures.items() if kelvin is not None]
    if len({temperature for temperature, _ in points}) < 2:
        return None
    T, error = np.array(points).T
    if not np.isfinite(error).all():
        return float("nan")
    return float(np.polyfit(T, error, 1)[0])


def _rmse(errors: NDArray[np.float64]) -> float:
    """In thousandths of the unit; NaN where a prediction is not finite."""
    value = 1000.0 * float(np.sqrt(np.mean(errors**2)))
    return value if np.isfinite(value) else float("nan")


def _mae(errors: NDArray[np.float64]) -> float:
    """In thousandths of the unit; NaN where a prediction is not finite."""
    value = 1000.0 * float(np.mean(np.abs(errors)))
    return value if np.isfinite(value) else float("nan")


STATISTICS: Final = {"rmse": _rmse, "mae": _mae}


def _row(label: str, error: Errors) -> dict[str, Any]:
    """One row of the table of errors."""
    return {"set": label, "frames": len(error["energy"])} | _statistics(error)


def _statistics(error: Errors) -> dict[str, float]:
    """Every statistic of every quantity, with its unit in its name."""
    return {
        f"{kind}_{name}_{QUANTITIES[name].suffix}": statistic(values)
        for name, values in error.items()
        for kind, statistic in STATISTICS.items()
    }


def _tables_of_parts(
    sets: Mapping[str, tuple[Sequence[Frame], Sequence[GraphBatch], Errors]],
) -> dict[str, pd.DataFrame]:
    """Errors on parts of sets: of forces by element, and by config_type; each where a set has more than one.

    Args:
        sets: label, and the frames of the set, their graphs and the errors on them.
    """
    by_element: list[dict[str, Any]] = []
    by_type: list[dict[str, Any]] = []
    for label, (frames, graphs, errors) in sets.items():
        numbers = np.concatenate([frame.atomic_numbers for frame in frames])  # (N,)
        elements = np.unique(numbers)
        for number in elements if len(elements) > 1 else ():
            chosen = {FORCES.name: errors[FORCES.name][np.repeat(numbers == number, 3)]}
            row = {"set": label, "element": chemical_symbols[number], "atoms": int((numbers == number).sum())}
            by_element.append(row | _statistics(chosen))
        types = sorted({frame.config_type for frame in frames})
        systems = _systems_of(errors, graphs) if len(types) > 1 else {}
        for kind in types if len(types) > 1 else ():
            chosen = _of_frames(errors, systems, [frame.config_type == kind for frame in frames])
            row = {"set": label, "config_type": kind or "(none)", "frames": len(chosen[ENERGY.name])}
            by_type.append(row | _statistics(chosen))
    tables = {"errors_by_element": by_element, "errors_by_config_type": by_type}
    return {name: pd.DataFrame(rows) for name, rows in tables.items() if rows}


def _systems_of(errors: Errors, graphs: Sequence[GraphBatch]) -> dict[str, NDArray[np.int64]]:
    """Which of the graphs each error is on, by name of the quantity."""
    batch = without_edges(graphs)
    return {name: QUANTITIES[name].systems(batch).numpy() for name in errors}


def _of_frames(errors: Errors, systems: Mapping[str, NDArray[np.int64]], chosen: Sequence[bool]) -> Errors:
    """The errors on some of the frames; no stress where none of them has a label of it."""
    each = np.array(chosen)
    parts = {name: values[each[systems[name]]] for name, values in errors.items()}
    return {name: values for name, values in parts.items() if len(values)}


OFFSET_TOLD: Final = 0.004  # eV/atom, the thermal error of the loss entropy; smaller ones matter to nothing here


def _offset_notes(errors: Errors) -> list[str]:
    """What to say where most of the energy error on the training frames is one constant; nothing elsewhere."""
    energy = errors[ENERGY.name]
    offset, rmse = float(np.mean(energy)), float(np.sqrt(np.mean(energy**2)))
    if not np.isfinite(rmse) or abs(offset) < max(OFFSET_TOLD, 0.5 * rmse):
        return []
    return [
        f"energies on the training frames are off by {1000 * offset:+.1f} meV/atom on the whole, of an RMSE of "
        f"{1000 * rmse:.1f}: loss.fit_energy_shift=true takes it away"
    ]


def _summary(errors: Mapping[str, Errors]) -> pd.DataFrame:
    """RMSE and mean absolute error by set, with units in the headings."""
    return pd.DataFrame(
        [
            {"errors on": label, "frames": len(error[ENERGY.name])}
            | {
                f"{name} {kind.upper()} ({QUANTITIES[name].milli_unit})": statistic(values)
                for name, values in error.items()
                for kind, statistic in STATISTICS.items()
            }
            for label, error in errors.items()
        ]
    )
