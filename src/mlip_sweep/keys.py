"""Names of the metrics that a run records. Where a number leaves the program, its name carries the unit.

| symbol      | meaning                          | unit inside the program |
| ----------- | -------------------------------- | ----------------------- |
| E, energy   | total energy of a system, (S,)   | eV                      |
| F, forces   | minus its gradient, (N, 3)       | eV/Å                    |
| t           | displacement along a direction   | norm of the parameters  |
| S, entropy  | flatness of the loss landscape   | nat                     |
| T           | temperature of a data set or MD  | K                       |
"""

from typing import Final

# Training, one value an epoch.
TRAIN_LOSS: Final = "train/loss"
VALIDATION_LOSS: Final = "validation/loss"
VALIDATION_ENERGY: Final = "validation/rmse_energy_meV_atom"
VALIDATION_FORCES: Final = "validation/rmse_forces_meV_A"
LEARNING_RATE: Final = "train/learning_rate"
KEPT_EPOCH: Final = "kept/epoch"  # whose weights are kept and measured
VALIDATION_LOSS_KEPT: Final = "kept/validation_loss"

# Loss landscape, PROTOCOL "Loss entropy".
LOSS_ENTROPY: Final = "loss_entropy"
LOSS_ENTROPY_INTERMEDIATE: Final = "intermediate/loss_entropy"  # during training, from few directions
LOSS_ENTROPY_ENERGY: Final = "loss_entropy_energy"
LOSS_ENTROPY_FORCES: Final = "loss_entropy_forces"
LOSS_ENTROPY_STDERR: Final = "loss_entropy_stderr"
LOSS_ENTROPY_ENERGY_STDERR: Final = "loss_entropy_energy_stderr"
LOSS_ENTROPY_FORCES_STDERR: Final = "loss_entropy_forces_stderr"
LANDSCAPE_CURVATURE_ENERGY: Final = "landscape_curvature_energy"
LANDSCAPE_CURVATURE_FORCES: Final = "landscape_curvature_forces"
LANDSCAPE_SATURATION_ENERGY: Final = "landscape_saturation_energy"
LANDSCAPE_SATURATION_FORCES: Final = "landscape_saturation_forces"
LANDSCAPE_MAX_COSINE: Final = "landscape_max_cosine"
LANDSCAPE_DIRECTIONS: Final = "landscape_directions"
LANDSCAPE_EVALUATIONS: Final = "landscape_evaluations"  # of the whole data set; that of a plane not counted
LANDSCAPE_INTERPOLATION_ERROR: Final = "landscape_interpolation_error"  # estimate, in S; 0 where all was evaluated

# Accuracy. `dataset_label` is a test set's label ("1200K"), "high_T", "all_T", "train" or "train_clean".
RMSE_FORCES_HIGH_T: Final = "rmse_forces_high_T_meV_A"
RMSE_FORCES_ALL_T: Final = "rmse_forces_all_T_meV_A"
EXTRAPOLATION_SLOPE: Final = "extrapolation_slope_forces_meV_A_K"


def rmse_energy(dataset_label: str) -> str:
    """Name of the energy RMSE on one set, in meV/atom."""
    return f"rmse_energy_{dataset_label}_meV_atom"


def rmse_forces(dataset_label: str) -> str:
    """Name of the forces RMSE on one set, in meV/Å."""
    return f"rmse_forces_{dataset_label}_meV_A"


def mae_energy(dataset_label: str) -> str:
    """Name of the mean absolute energy error on one set, in meV/atom."""
    return f"mae_energy_{dataset_label}_meV_atom"


def mae_forces(dataset_label: str) -> str:
    """Name of the mean absolute forces error on one set, in meV/Å."""
    return f"mae_forces_{dataset_label}_meV_A"


# Molecular dynamics, PROTOCOL "MD time-to-failure".
MD_TIME_TO_FAILURE: Final = "md_time_to_failure_ps"  # restricted mean survival time
MD_TIME_TO_FAILURE_LOW: Final = "md_time_to_failure_ci95_low_ps"
MD_TIME_TO_FAILURE_HIGH: Final = "md_time_to_failure_ci95_high_ps"
MD_TIME_TO_FAILURE_PAPER: Final = "md_time_to_failure_paper_mean_ps"  # survivors count as duration + 1 fs
MD_SURVIVAL_FRACTION: Final = "md_survival_fraction"
MD_DURATION: Final = "md_duration_ps"
MD_TEMPERATURE: Final = "md_mean_temperature_K"  # over the second half of the duration
MD_CONTROL_SURVIVAL: Final = "md_control_survival_fraction"  # of the labelling method itself


def md_failures(reason: str) -> str:
    """Name of the number of replicas that failed for one reason, one of `dynamics.failure.REASONS`.

    Recorded for the reasons that were looked for: "position", "energy" and "forces" (not finite) always, the others
    where the protocol asks for them.
    """
    return f"md_failures_{reason}"


# Cost.
PARAMETERS: Final = "parameters"
INFERENCE_TIME: Final = "inference_time_us_atom"  # energy and forces, neighbours given
INFERENCE_TIME_STDERR: Final = "inference_time_us_atom_stderr"


def wall_time(phase: str) -> str:
    """Name of the wall time of one phase of a run, in seconds."""
    return f"wall_time/{phase}_s"


def objective(name: str) -> str:
    """Name of the value of a metric that a run returned to a search; a metric with a history may end with another."""
    return f"objective/{name}"


def more_is_better(name: str) -> bool:
    """Whether of two runs the one with more of a metric is the better."""
    better = (LOSS_ENTROPY, LOSS_ENTROPY_INTERMEDIATE, "md_time_to_failure", MD_SURVIVAL_FRACTION)
    return name.startswith(better) and not name.endswith("stderr")
