"""Errors of energies and forces on every set, pooled over temperatures, and their growth with temperature."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mlip_sweep import keys
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.frames import Dataset, Frame
from mlip_sweep.data.graphs import batches
from mlip_sweep.measurement.accuracy_figures import parity_figure
from mlip_sweep.measurement.evaluation import ForceField, device_of, evaluating
from mlip_sweep.measurement.interface import Report

TEMPERATURE = re.compile(r"(\d+(?:\.\d+)?) ?K")


@dataclass(frozen=True)
class Errors:
    """Predicted minus labelled: energy (S,) eV/atom, one a frame; forces (M,) eV/Å, one a component."""

    energy: NDArray[np.float64]
    forces: NDArray[np.float64]


def predict(
    model: ForceField, frames: Sequence[Frame], max_atoms: int = 4096
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energies (S,) eV and forces (N, 3) eV/Å of all frames, one after the other.

    Args:
        model: runs on the device where its parameters are, and is left in the mode it was in.
        frames: S structures of N atoms in all.
        max_atoms: of one batch.
    """
    device = device_of(model)
    energies, forces = [torch.zeros(0)], [torch.zeros(0, 3)]
    with evaluating(model), torch.no_grad():
        for batch in batches(graphs_of(frames, model.cutoff), max_atoms):
            prediction = model(batch.to(device))
            energies.append(prediction.energy.cpu())
            forces.append(prediction.forces.cpu())
    return torch.cat(energies).double().numpy(), torch.cat(forces).double().numpy()


def accuracy(model: ForceField, dataset: Dataset, *, max_atoms: int = 4096) -> Report:
    """Errors on the training frames and on every test set.

    Energy errors are per atom, root mean square or mean absolute over frames; forces errors over all 3N components.
    Pooled errors are taken over everything in the sets together, sqrt(Σ_T n_T F_T² / Σ_T n_T), n_T the number of frames
    (energy) or components (forces); "high_T" leaves the set of the training temperature out. The extrapolation slope is
    that of a straight line through forces RMSE against T, over test sets with a label like "300K", where there are two.

    Args:
        model: left in the mode it was in.
        dataset: its training frames are measured against the labels that were trained on, "train", and, where these are
            noisy, against the original ones as well, "train_clean".
        max_atoms: of one batch.
    """
    predicted = {label: predict(model, frames, max_atoms) for label, frames in dataset.tests.items()}
    predicted["train"] = predict(model, dataset.train, max_atoms)
    sets = dict(dataset.tests) | {"train": dataset.train}
    if dataset.noisy:
        predicted["train_clean"], sets["train_clean"] = predicted["train"], dataset.train_clean
    errors = {label: errors_of(sets[label], *predicted[label]) for label in sets}
    hot = [label for label in dataset.tests if label != dataset.training_test]
    pools = {"all_T": list(dataset.tests), "high_T": hot}
    errors |= {pool: pooled([errors[label] for label in labels]) for pool, labels in pools.items() if labels}

    rows = {label: _row(error) for label, error in errors.items()}
    metrics = {name(label): row[column] for label, row in rows.items() for name, column in _COLUMNS}
    slope = extrapolation_slope({label: metrics[keys.rmse_forces(label)] for label in dataset.tests})
    if slope is not None:
        metrics[keys.EXTRAPOLATION_SLOPE] = slope
    table = pd.DataFrame([{"set": label, "frames": len(errors[label].energy), **row} for label, row in rows.items()])
    shown = [*(["train"] if "train" not in dataset.tests else []), *dataset.tests]
    broken = [
        label for label, error in errors.items() if not np.isfinite([error.energy.sum(), error.forces.sum()]).all()
    ]
    return Report(
        metrics=metrics,
        tables={"errors": table},
        figures={"parity": parity_figure({label: (sets[label], *predicted[label]) for label in shown})},
        notes=[f"predictions on {label} are not all finite" for label in broken],
    )


def errors_of(frames: Sequence[Frame], energies: NDArray[np.float64], forces: NDArray[np.float64]) -> Errors:
    """Errors of predictions, as `predict` returns them, against the frames' labels."""
    atoms = np.array([len(frame) for frame in frames])
    labels = np.array([frame.energy for frame in frames])
    return Errors(
        energy=(energies - labels) / atoms,
        forces=(forces - np.concatenate([frame.forces for frame in frames])).ravel(),
    )


def pooled(errors: Sequence[Errors]) -> Errors:
    """Several sets as one."""
    return Errors(np.concatenate([e.energy for e in errors]), np.concatenate([e.forces for e in errors]))


def extrapolation_slope(rmse_by_label: dict[str, float]) -> float | None:
    """Least-squares slope of an error against T, per K, over labels like "300K"; None below two temperatures."""
    matches = {label: TEMPERATURE.fullmatch(label) for label in rmse_by_label}
    points = [(float(match[1]), rmse_by_label[label]) for label, match in matches.items() if match]
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
    value = 1000.0 * float(np.mean(np.abs(errors)))
    return value if np.isfinite(value) else float("nan")


def _row(error: Errors) -> dict[str, float]:
    return {
        "rmse_energy_meV_atom": _rmse(error.energy),
        "mae_energy_meV_atom": _mae(error.energy),
        "rmse_forces_meV_A": _rmse(error.forces),
        "mae_forces_meV_A": _mae(error.forces),
    }


_COLUMNS = (
    (keys.rmse_energy, "rmse_energy_meV_atom"),
    (keys.mae_energy, "mae_energy_meV_atom"),
    (keys.rmse_forces, "rmse_forces_meV_A"),
    (keys.mae_forces, "mae_forces_meV_A"),
)
