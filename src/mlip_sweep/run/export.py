"""Take the potential of a run to the field's own programs."""

from pathlib import Path

from mlip_sweep.models import checkpoint
from mlip_sweep.models.library_files import ENDINGS, HOW_TO_USE, write
from mlip_sweep.tracking.models import local_path
from mlip_sweep.tracking.store import existing


def export(run: str, library: str, output: Path | None, *, uri: str, dtype: str) -> str:
    """Write the potential of a run as what a library's own programs take.

    Args:
        run: MLflow's id of a run or its beginning, a `models:/` or `runs:/` URI, or the folder of a run or of a model.
        library: "mace" or "nequip".
        output: the file; None names it after the run.
        uri: MLflow store.
        dtype: "float32" or "float64", of the network in the file.

    Returns:
        What was written, and how it is used.

    Raises:
        InputError: no such run or model, or it cannot be written so.
    """
    is_folder = Path(run).exists()
    address = run if is_folder or ":" in run else f"runs:/{run}"
    folder = local_path(address, None if is_folder else existing(uri))
    name = Path(run).resolve().name if is_folder else run.rpartition("/")[2]
    file = output or Path(f"{name}{ENDINGS[library]}")
    write(checkpoint.load(folder, dtype=dtype), library, file)
    stem = file.name.removesuffix(ENDINGS[library])
    return (
        f"wrote {file}, in {dtype}; it is used so:\n\n{HOW_TO_USE[library].format(file=file, stem=stem, dtype=dtype)}"
    )
