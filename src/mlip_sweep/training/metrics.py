"""What a training records, whatever is measured of the potential afterwards."""

from typing import Final

from mlip_sweep.metrics import SET, Column, Metric, wall_time
from mlip_sweep.models.targets import QUANTITIES

# One value an epoch.
TRAIN_LOSS: Final = "train/loss"
LEARNING_RATE: Final = "train/learning_rate"
VALIDATION_LOSS: Final = "validation/loss"


def validation_rmse(quantity: str) -> str:
    """Name of the validation RMSE of a quantity, such as "validation/rmse_forces_meV_A"."""
    return f"validation/rmse_{quantity}_{QUANTITIES[quantity].suffix}"


VALIDATION_FORCES: Final = validation_rmse("forces")

# One value a run.
KEPT_EPOCH: Final = "kept/epoch"  # whose weights are kept and measured
VALIDATION_LOSS_KEPT: Final = "kept/validation_loss"
ENERGY_OFFSET_FITTED: Final = "kept/energy_offset_fitted_meV_atom"  # that the fitted shift has taken away
PARAMETERS: Final = "parameters"

METRICS: Final = (
    Metric(TRAIN_LOSS, better="lower"),
    Metric(LEARNING_RATE),
    Metric(VALIDATION_LOSS, better="lower"),
    Metric(validation_rmse("energy"), "meV/atom", better="lower"),
    Metric(VALIDATION_FORCES, "meV/Å", better="lower", column=Column("F validation\nmeV/Å", form="{:.1f}", priority=5)),
    Metric(validation_rmse("stress"), "meV/Å³", better="lower"),
    Metric(KEPT_EPOCH, "epochs"),
    Metric(VALIDATION_LOSS_KEPT, better="lower"),
    Metric(ENERGY_OFFSET_FITTED, "meV/atom"),
    Metric(PARAMETERS, better="lower"),
    Metric(wall_time(SET), "s", better="lower"),
)
