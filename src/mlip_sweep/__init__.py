"""Train interatomic potentials over a space of choices, and measure which of them will extrapolate."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlip_sweep.models.calculator import PotentialCalculator
    from mlip_sweep.models.torch_sim_model import TorchSimModel

__all__ = ["load_calculator", "load_torch_sim_model"]


def load_calculator(
    uri: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    compiled: bool = False,
    tracking_uri: str | None = None,
) -> "PotentialCalculator":
    """The ASE calculator of a trained potential: energy in eV, forces in eV/Å, and stress in eV/Å³ of what has a cell.

    That of a committee, `models:/NAME@committee`, gives the means over its members, and their spread in its results
    (`mlip_sweep.models.calculator.CommitteeCalculator`).

    Args:
        uri: a folder that holds a `checkpoint.pt`, or an MLflow URI: `models:/ID`, `models:/NAME@ALIAS`, `runs:/ID`.
        device: "cpu" or "cuda".
        dtype: "float32" or "float64"; None keeps the precision of the training.
        compiled: by torch.compile, at the first calculation: that takes minutes, the following ones less than without.
        tracking_uri: MLflow store of the URI; MLFLOW_TRACKING_URI, or ./mlflow.db, where none is given.

    Raises:
        InputError: there is no such model, or it was written under another e3nn version.
    """
    from mlip_sweep.models.calculator import calculator  # torch and MLflow take seconds to import
    from mlip_sweep.tracking.models import local_path

    options: dict[str, Any] = {"device": device, "dtype": dtype, "compiled": compiled}
    return calculator(local_path(str(uri), tracking_uri), **options)


def load_torch_sim_model(
    uri: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    compiled: bool = False,
    compute_stress: bool = True,
    tracking_uri: str | None = None,
) -> "TorchSimModel":
    """A trained potential as a `torch_sim.models.interface.ModelInterface`, for many systems in one batch.

    Energy is in eV, forces in eV/Å, stress in eV/Å³; states are of float64. Needs torch-sim (extra `torch-sim`).

    Args:
        uri: as of `load_calculator`; no committee.
        device: "cpu" or "cuda".
        dtype: "float32" or "float64", of the network; None keeps the precision of the training.
        compiled: by torch.compile, at the first evaluation, which takes minutes.
        compute_stress: whether to derive the stress.
        tracking_uri: MLflow store of the URI; MLFLOW_TRACKING_URI, or ./mlflow.db, where none is given.

    Raises:
        InputError: torch-sim is not installed; there is no such model; or it was written under another e3nn version.
    """
    from mlip_sweep.errors import InputError
    from mlip_sweep.models import checkpoint  # torch and MLflow take seconds to import
    from mlip_sweep.models.compiled import Compiled
    from mlip_sweep.tracking.models import local_path

    try:
        from mlip_sweep.models.torch_sim_model import TorchSimModel
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; pip install 'mlip-sweep[torch-sim]'") from error
    model = checkpoint.load(local_path(str(uri), tracking_uri), device=device, dtype=dtype)
    if compiled:
        model.compiled = Compiled(model)
    return TorchSimModel(model, compute_stress=compute_stress)
