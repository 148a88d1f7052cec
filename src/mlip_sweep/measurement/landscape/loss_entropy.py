"""The measurement of the loss entropy: directions, landscape, entropy, report."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import GraphBatch, batches
from mlip_sweep.errors import SettingError
from mlip_sweep.measurement.evaluation import device_of
from mlip_sweep.measurement.interface import Measurement, Report
from mlip_sweep.measurement.landscape.adaptive import SampledLandscape, sample_lines
from mlip_sweep.measurement.landscape.directions import Directions
from mlip_sweep.measurement.landscape.entropy import EntropySettings, curvature, entropy_of, saturation
from mlip_sweep.measurement.landscape.figures import lines_figure, plane_figure
from mlip_sweep.measurement.landscape.grid import LineLosses, PlaneLosses, evaluate_lines, evaluate_plane, grid
from mlip_sweep.measurement.landscape.interpolation import to_arrays
from mlip_sweep.measurement.landscape.learnt import AtMinimum, at_minimum
from mlip_sweep.measurement.landscape.sensitivity import sensitivity, sensitivity_figure
from mlip_sweep.measurement.landscape.weights import weight_figure, weight_table
from mlip_sweep.metrics import Column, Metric
from mlip_sweep.models.filters import NORMALIZATIONS
from mlip_sweep.models.interface import Potential
from mlip_sweep.settings import Seed, Words, settings

LOSS_ENTROPY: Final = "loss_entropy"
LOSS_ENTROPY_STDERR: Final = "loss_entropy_stderr"
LOSS_ENTROPY_ENERGY: Final = "loss_entropy_energy"
LOSS_ENTROPY_ENERGY_STDERR: Final = "loss_entropy_energy_stderr"
LOSS_ENTROPY_FORCES: Final = "loss_entropy_forces"
LOSS_ENTROPY_FORCES_STDERR: Final = "loss_entropy_forces_stderr"
CURVATURE_ENERGY: Final = "landscape_curvature_energy"
CURVATURE_FORCES: Final = "landscape_curvature_forces"
SATURATION_ENERGY: Final = "landscape_saturation_energy"
SATURATION_FORCES: Final = "landscape_saturation_forces"
MAX_COSINE: Final = "landscape_max_cosine"
DIRECTIONS: Final = "landscape_directions"
EVALUATIONS: Final = "landscape_evaluations"  # of the whole data set; those of a plane are not counted
HEIGHT_ENERGY: Final = "landscape_height_energy_T"  # loss at t = 0 over the thermal error: S falls with it
HEIGHT_FORCES: Final = "landscape_height_forces_T"
UNEXPLAINED_ENERGY: Final = "landscape_unexplained_energy"  # loss at t = 0 over the spread of the labels
UNEXPLAINED_FORCES: Final = "landscape_unexplained_forces"
INTERPOLATION_ERROR: Final = "landscape_interpolation_error"  # estimate, in S; 0 where all was evaluated

HIGH: Final = 3.0  # thermal errors at t = 0 from which on a reader is told
FULL_WINDOW = 0.9  # share of points that count from which on the window is called saturated


@settings
class LossEntropy(Measurement):
    """Loss entropy S of a model, with its landscape (DOI 10.1088/2632-2153/acf115, eqs 3–8).

    Args:
        method: "adaptive" evaluates as few points as S allows (`landscape.adaptive`), "full" all of them.
        tolerance: of S, nat, for what the adaptive method leaves out.
        directions: N random directions, or the most of them where there is a `target_stderr`.
        target_stderr: standard error of S, nat, at which no more directions are added; None takes all.
        normalization: of the directions, a key of `mlip_sweep.models.filters.NORMALIZATIONS`.
        points: G points along each direction; part of the metric's identity, as is the window.
        window: largest |t|, in units of the norm of the parameters.
        temperature_energy: T_E, eV/atom.
        temperature_forces: T_F, eV/Å.
        alpha: weight of the energy entropy.
        split: "train" (the paper's), "train_clean", "validation", or the label of a test set.
        frozen: regular expressions of parameters that stay where they are.
        plane_points: points along either side of a plane of the first two directions, all evaluated; 0 for none.
        n_bootstrap: resamples for the standard errors; 0 for none.
        max_atoms: of one batch.
        seed: of the directions and of the bootstrap.
        progress: whether to show a bar.
    """

    method: Literal["adaptive", "full"] = "adaptive"
    tolerance: PositiveFloat = 0.01
    directions: PositiveInt = 20
    target_stderr: PositiveFloat | None = None
    normalization: str = "filter"
    points: Annotated[int, Field(ge=3)] = 81
    window: PositiveFloat = 0.25
    temperature_energy: PositiveFloat = 0.004
    temperature_forces: PositiveFloat = 0.040
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.2
    split: str = "train"
    frozen: Words = ()
    plane_points: NonNegativeInt = 21
    n_bootstrap: NonNegativeInt = 1000
    max_atoms: PositiveInt = 1024
    seed: Seed = 0
    progress: bool = True

    metrics = (
        Metric(
            LOSS_ENTROPY,
            "nat",
            better="higher",
            column=Column("S\nnat", form="{:.2f}", priority=6, error=LOSS_ENTROPY_STDERR),
            headline="loss entropy S = {:.2f} ± {:.2f}",
            headline_with=(LOSS_ENTROPY_STDERR,),
        ),
        Metric(LOSS_ENTROPY_STDERR, "nat"),
        Metric(LOSS_ENTROPY_ENERGY, "nat", better="higher"),
        Metric(LOSS_ENTROPY_ENERGY_STDERR, "nat"),
        Metric(LOSS_ENTROPY_FORCES, "nat", better="higher"),
        Metric(LOSS_ENTROPY_FORCES_STDERR, "nat"),
        Metric(CURVATURE_ENERGY, "eV/atom", better="lower"),
        Metric(CURVATURE_FORCES, "eV/Å", better="lower"),
        Metric(SATURATION_ENERGY),
        Metric(SATURATION_FORCES),
        Metric(HEIGHT_ENERGY, "T_E", better="lower"),
        Metric(HEIGHT_FORCES, "T_F", better="lower"),
        Metric(UNEXPLAINED_ENERGY, better="lower"),
        Metric(UNEXPLAINED_FORCES, better="lower"),
        Metric(MAX_COSINE),
        Metric(DIRECTIONS),
        Metric(EVALUATIONS),
        Metric(INTERPOLATION_ERROR, "nat"),
    )

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise SettingError(f"normalization={self.normalization!r}: choose one of {', '.join(NORMALIZATIONS)}")
        if self.plane_points and self.directions < 2:
            raise SettingError(
                f"plane_points={self.plane_points}: a plane needs 2 directions, and directions={self.directions}; set "
                "it to 0, or take more directions"
            )
        if self.plane_points in (1, 2):
            raise SettingError(f"plane_points={self.plane_points}: give 0 for no plane, or at least 3")
        if self.target_stderr is not None and self.method != "adaptive":
            raise SettingError(
                f"target_stderr={self.target_stderr}: method={self.method} takes all directions; set it to null, or "
                "method=adaptive"
            )

    @property
    def entropy_settings(self) -> EntropySettings:
        """T_E, T_F and α."""
        return EntropySettings(self.temperature_energy, self.temperature_forces, self.alpha)

    def check(self, dataset: Dataset) -> None:
        """Refuse a split that the data set does not have."""
        dataset.frames(self.split)

    def __call__(self, model: Potential, dataset: Dataset) -> Report:
        """Measure a model, which is left as it was found.

        Raises:
            SettingError: there is no such split, or a pattern of `frozen` matches no parameter.
        """
        self.check(dataset)
        device = device_of(model)
        data = batches(dataset.graphs(self.split, model.cutoff), self.max_atoms, device)
        directions = Directions(model, seed=self.seed, frozen=self.frozen, normalization=self.normalization)
        landscape = self._landscape(model, data, directions)
        surface = (
            evaluate_plane(model, data, directions, grid(self.plane_points, self.window), progress=self.progress)
            if self.plane_points
            else None
        )
        report = report_of(
            landscape,
            self.entropy_settings,
            at_minimum(model, data),
            surface=surface,
            max_cosine=directions.max_cosine,
            n_bootstrap=self.n_bootstrap,
            seed=self.seed,
        )
        report.tables["weights"] = weight_table(model)
        report.figures["weights"] = weight_figure(model, report.tables["weights"])
        return report

    def entropy(self, model: Potential, batches: Sequence[GraphBatch]) -> float:
        """S alone, without a report: cheap enough, from few directions, to be followed while a model trains.

        The same seed gives the same directions relative to the weights, so that the values of one training compare
        well; models compare by the full measurement.

        Args:
            model: left as it was found.
            batches: on the model's device.
        """
        directions = Directions(model, seed=self.seed, frozen=self.frozen, normalization=self.normalization)
        curves = self._landscape(model, batches, directions).curves
        return entropy_of(curves.energy, curves.forces, self.entropy_settings, n_bootstrap=0).total

    def _landscape(self, model: Potential, batches: Sequence[GraphBatch], directions: Directions) -> SampledLandscape:
        """Losses on the grid, by the method that was chosen."""
        t = grid(self.points, self.window)
        if self.method == "full":
            curves = evaluate_lines(model, batches, directions, self.directions, t, progress=self.progress)
            return SampledLandscape([], curves, evaluations=curves.energy.size, error=0.0)
        return sample_lines(
            model,
            batches,
            directions,
            self.directions,
            t,
            self.entropy_settings,
            tolerance=self.tolerance,
            target_stderr=self.target_stderr,
            progress=self.progress,
        )


def report_of(
    landscape: SampledLandscape,
    settings: EntropySettings,
    minimum: AtMinimum,
    *,
    surface: PlaneLosses | None = None,
    max_cosine: float = float("nan"),
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Report:
    """The report that follows from what was evaluated; nothing is evaluated again."""
    curves = landscape.curves
    entropy = entropy_of(curves.energy, curves.forces, settings, n_bootstrap=n_bootstrap, seed=seed)
    mean_energy, mean_forces = curves.energy.mean(axis=0), curves.forces.mean(axis=0)
    full_energy = saturation(mean_energy, settings.temperature_energy)
    full_forces = saturation(mean_forces, settings.temperature_forces)
    metrics = {
        LOSS_ENTROPY: entropy.total,
        LOSS_ENTROPY_STDERR: entropy.total_stderr,
        LOSS_ENTROPY_ENERGY: entropy.energy,
        LOSS_ENTROPY_ENERGY_STDERR: entropy.energy_stderr,
        LOSS_ENTROPY_FORCES: entropy.forces,
        LOSS_ENTROPY_FORCES_STDERR: entropy.forces_stderr,
        CURVATURE_ENERGY: curvature(curves.t, mean_energy),
        CURVATURE_FORCES: curvature(curves.t, mean_forces),
        SATURATION_ENERGY: full_energy,
        SATURATION_FORCES: full_forces,
        HEIGHT_ENERGY: minimum.energy / settings.temperature_energy,
        HEIGHT_FORCES: minimum.forces / settings.temperature_forces,
        UNEXPLAINED_ENERGY: minimum.unexplained_energy,
        UNEXPLAINED_FORCES: minimum.unexplained_forces,
        MAX_COSINE: max_cosine,
        DIRECTIONS: len(curves.energy),
        EVALUATIONS: landscape.evaluations,
        INTERPOLATION_ERROR: landscape.error,
    }
    arrays: dict[str, Any] = {
        "t": curves.t,
        "energy": curves.energy,
        "forces": curves.forces,
        **({} if curves.stress is None else {"stress": curves.stress}),
        **to_arrays(landscape.lines),
    }
    figures = {"landscape": lines_figure(landscape, settings, entropy)}
    notes = [
        *_learning_notes(minimum, metrics),
        *_saturation_note("energy", full_energy, entropy.energy, curves),
        *_saturation_note("forces", full_forces, entropy.forces, curves),
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


def _learning_notes(minimum: AtMinimum, metrics: Mapping[str, float]) -> list[str]:
    """What to say of a model that has not learnt, or whose losses are far above the thermal errors; else nothing."""
    if not minimum.learnt:
        return [
            f"the model has not learnt: its forces RMSE on the frames of the landscape, {1000 * minimum.forces:.0f} "
            f"meV/Å, is {minimum.unexplained_forces:.0%} of the forces themselves; S says nothing of a minimum yet: "
            "train longer"
        ]
    heights = {"energy": (metrics[HEIGHT_ENERGY], "T_E"), "forces": (metrics[HEIGHT_FORCES], "T_F")}
    return [
        f"{name}: the loss at t = 0 is {height:.1f} {unit}, and takes {height:.1f} from S_{unit[-1]}: S says how high "
        "the minimum is rather than how flat"
        for name, (height, unit) in heights.items()
        if height > HIGH
    ]


def _saturation_note(name: str, share: float, entropy: float, curves: LineLosses) -> list[str]:
    """What to say where nearly every point of the window counts; nothing elsewhere."""
    if share < FULL_WINDOW:
        return []
    seen = f"{name}: {share:.0%} of the {len(curves.t)} points count in the window |t| <= {curves.t.max():g}"
    if entropy > np.log(len(curves.t)) - 1.0:
        return [f"{seen}: S is close to its ceiling, where flatter models hardly differ; widen the window"]
    return [f"{seen}, all at a high loss: S says how high it is, not how flat; the model is hardly trained"]
