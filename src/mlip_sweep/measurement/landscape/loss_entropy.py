"""The measurement of the loss entropy: directions, landscape, entropy, report."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlip_sweep import keys
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.frames import Dataset, Frame
from mlip_sweep.data.graphs import GraphBatch, batches
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.evaluation import device_of
from mlip_sweep.measurement.interface import Report, checked_by
from mlip_sweep.measurement.landscape.adaptive import Sampled, sampled_lines
from mlip_sweep.measurement.landscape.directions import Directions
from mlip_sweep.measurement.landscape.entropy import EntropySettings, curvature, entropy_of, saturation
from mlip_sweep.measurement.landscape.figures import lines_figure, plane_figure
from mlip_sweep.measurement.landscape.grid import Lines, Plane, grid, lines, plane
from mlip_sweep.measurement.landscape.interpolation import to_arrays
from mlip_sweep.measurement.landscape.sensitivity import sensitivity, sensitivity_figure
from mlip_sweep.measurement.landscape.weights import weight_figure, weight_table
from mlip_sweep.models.filters import NORMALIZATIONS
from mlip_sweep.models.interface import Potential

METHODS = ("adaptive", "full")
FULL_WINDOW = 0.9  # share of points that count from which on the window is called saturated


def check_settings(
    dataset: Dataset,
    *,
    method: str = "adaptive",
    directions: int = 20,
    target_stderr: float | None = None,
    tolerance: float = 0.01,
    points: int = 81,
    window: float = 0.25,
    normalization: str = "filter",
    plane_points: int = 0,
    split: str = "train",
    **_: object,
) -> None:
    """Refuse settings that cannot work; arguments as `loss_entropy`.

    Raises:
        InputError: naming the setting.
    """
    place = "measurement.landscape"
    if directions < 1 or points < 3 or window <= 0 or (plane_points and directions < 2):
        raise InputError(
            f"{place}: directions={directions}, points={points}, window={window}, plane_points={plane_points}; give at "
            "least 1 direction (2 for a plane), 3 points and a positive window"
        )
    if method not in METHODS:
        raise InputError(f"{place}.method={method}: choose one of {', '.join(METHODS)}")
    if normalization not in NORMALIZATIONS:
        raise InputError(f"{place}.normalization={normalization}: choose one of {', '.join(NORMALIZATIONS)}")
    if not tolerance > 0:
        raise InputError(f"{place}.tolerance={tolerance}: give a positive number, such as 0.01")
    if target_stderr is not None and not (target_stderr > 0 and method == "adaptive"):
        raise InputError(
            f"{place}.target_stderr={target_stderr}: give a positive number with method=adaptive, or null to take all "
            "directions"
        )
    frames_of(dataset, split)


@checked_by(check_settings)
def loss_entropy(
    model: Potential,
    dataset: Dataset,
    *,
    method: str = "adaptive",
    directions: int = 20,
    target_stderr: float | None = None,
    tolerance: float = 0.01,
    points: int = 81,
    window: float = 0.25,
    temperature_energy: float = 0.004,
    temperature_forces: float = 0.040,
    alpha: float = 0.2,
    normalization: str = "filter",
    split: str = "train",
    frozen: Sequence[str] = (),
    plane_points: int = 0,
    n_bootstrap: int = 1000,
    max_atoms: int = 4096,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Loss entropy of a model.

    Args:
        model: left as it was found.
        dataset: gives the frames of `split`.
        method: "adaptive" evaluates as few points as S allows (`landscape.adaptive`), "full" all of them.
        directions: N random directions, or the most of them where there is a `target_stderr`.
        target_stderr: standard error of S, nat, at which no more directions are added; None takes all.
        tolerance: of S, nat, for what the adaptive method leaves out.
        points: G points of each; part of the metric's identity, as is the window.
        window: largest |t|.
        temperature_energy: T_E, eV/atom.
        temperature_forces: T_F, eV/Å.
        alpha: weight of the energy entropy.
        normalization: of the directions, a key of `mlip_sweep.models.filters.NORMALIZATIONS`.
        split: "train" (the paper's), "train_clean", "validation", or the label of a test set.
        frozen: regular expressions of parameters that stay where they are.
        plane_points: points along either side of a plane of the first two directions, all evaluated; 0 for none.
        n_bootstrap: resamples for the standard errors.
        max_atoms: of one batch.
        seed: of the directions and of the bootstrap.
        progress: whether to show a bar.

    Raises:
        InputError: a setting is out of range, or there is no such split.
    """
    check_settings(
        dataset,
        method=method,
        directions=directions,
        target_stderr=target_stderr,
        tolerance=tolerance,
        points=points,
        window=window,
        normalization=normalization,
        plane_points=plane_points,
        split=split,
    )
    settings = EntropySettings(temperature_energy, temperature_forces, alpha)
    device = device_of(model)
    data = [b.to(device) for b in batches(graphs_of(frames_of(dataset, split), model.cutoff), max_atoms)]
    drawn = Directions(model, seed=seed, frozen=frozen, normalization=normalization)
    t = grid(points, window)
    if method == "full":
        curves = lines(model, data, drawn, directions, t, progress=progress)
        found = Sampled([], curves, evaluations=curves.energy.size, error=0.0)
    else:
        found = sampled_lines(
            model,
            data,
            drawn,
            directions,
            t,
            settings,
            tolerance=tolerance,
            target_stderr=target_stderr,
            progress=progress,
        )
    surface = plane(model, data, drawn, grid(plane_points, window), progress=progress) if plane_points else None
    told = report(found, settings, surface=surface, max_cosine=drawn.max_cosine, n_bootstrap=n_bootstrap, seed=seed)
    told.tables["weights"] = weight_table(model)
    told.figures["weights"] = weight_figure(model, told.tables["weights"])
    return told


def quick_entropy(
    model: Potential,
    batches: Sequence[GraphBatch],
    *,
    directions: int = 3,
    tolerance: float = 0.03,
    points: int = 81,
    window: float = 0.25,
    temperature_energy: float = 0.004,
    temperature_forces: float = 0.040,
    alpha: float = 0.2,
    normalization: str = "filter",
    seed: int = 0,
) -> float:
    """S alone, from few directions: cheap enough to be followed while a model trains.

    Arguments as `loss_entropy`; the batches are on the model's device. The same seed gives the same directions relative
    to the weights, so that the values of one training compare well; models compare by the full measurement.
    """
    settings = EntropySettings(temperature_energy, temperature_forces, alpha)
    drawn = Directions(model, seed=seed, normalization=normalization)
    found = sampled_lines(
        model, batches, drawn, directions, grid(points, window), settings, tolerance=tolerance, progress=False
    )
    return entropy_of(found.curves.energy, found.curves.forces, settings, n_bootstrap=0).total


def frames_of(dataset: Dataset, split: str) -> list[Frame]:
    """The frames of a split.

    Raises:
        InputError: there is no such split.
    """
    splits = {"train": dataset.train, "train_clean": dataset.train_clean, "validation": dataset.validation}
    splits |= dataset.tests
    if split not in splits:
        raise InputError(f"measurement.landscape.split={split}: dataset {dataset.name} has {', '.join(splits)}")
    return splits[split]


def report(
    sampled: Sampled,
    settings: EntropySettings,
    *,
    surface: Plane | None = None,
    max_cosine: float = float("nan"),
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Report:
    """What follows from what was evaluated; nothing is evaluated again."""
    curves = sampled.curves
    found = entropy_of(curves.energy, curves.forces, settings, n_bootstrap=n_bootstrap, seed=seed)
    mean_energy, mean_forces = curves.energy.mean(axis=0), curves.forces.mean(axis=0)
    full_energy = saturation(mean_energy, settings.temperature_energy)
    full_forces = saturation(mean_forces, settings.temperature_forces)
    metrics = {
        keys.LOSS_ENTROPY: found.total,
        keys.LOSS_ENTROPY_STDERR: found.total_stderr,
        keys.LOSS_ENTROPY_ENERGY: found.energy,
        keys.LOSS_ENTROPY_ENERGY_STDERR: found.energy_stderr,
        keys.LOSS_ENTROPY_FORCES: found.forces,
        keys.LOSS_ENTROPY_FORCES_STDERR: found.forces_stderr,
        keys.LANDSCAPE_CURVATURE_ENERGY: curvature(curves.t, mean_energy),
        keys.LANDSCAPE_CURVATURE_FORCES: curvature(curves.t, mean_forces),
        keys.LANDSCAPE_SATURATION_ENERGY: full_energy,
        keys.LANDSCAPE_SATURATION_FORCES: full_forces,
        keys.LANDSCAPE_MAX_COSINE: max_cosine,
        keys.LANDSCAPE_DIRECTIONS: len(curves.energy),
        keys.LANDSCAPE_EVALUATIONS: sampled.evaluations,
        keys.LANDSCAPE_INTERPOLATION_ERROR: sampled.error,
    }
    arrays = {"t": curves.t, "energy": curves.energy, "forces": curves.forces, **to_arrays(sampled.lines)}
    figures = {"landscape": lines_figure(sampled, settings, found)}
    notes = [
        *_saturation_note("energy", full_energy, found.energy, curves),
        *_saturation_note("forces", full_forces, found.forces, curves),
    ]
    lost = int((~np.isfinite(curves.energy) | ~np.isfinite(curves.forces)).sum())
    if lost:
        notes.append(f"{lost} of {curves.energy.size} points have no finite loss; they count for nothing in S")
    if surface is not None:
        arrays |= {"plane_t": surface.t, "plane_energy": surface.energy, "plane_forces": surface.forces}
        figures["plane"] = plane_figure(surface)
    tables = {
        "mean_curve": pd.DataFrame({"t": curves.t, "energy_eV_atom": mean_energy, "forces_eV_A": mean_forces}),
        "sensitivity": sensitivity(arrays, settings, seed=seed),
    }
    figures["sensitivity"] = sensitivity_figure(tables["sensitivity"], settings)
    return Report(metrics=metrics, arrays=arrays, tables=tables, figures=figures, notes=notes)


def _saturation_note(name: str, share: float, entropy: float, curves: Lines) -> list[str]:
    """What to say where nearly every point of the window counts; nothing elsewhere."""
    if share < FULL_WINDOW:
        return []
    seen = f"{name}: {share:.0%} of the {len(curves.t)} points count in the window |t| <= {curves.t.max():g}"
    if entropy > np.log(len(curves.t)) - 1.0:
        return [f"{seen}: S is close to its ceiling, where flatter models hardly differ; widen the window"]
    return [f"{seen}, all at a high loss: S says how high it is, not how flat; the model is hardly trained"]
