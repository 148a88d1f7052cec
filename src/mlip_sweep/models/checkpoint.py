"""Build a potential from its config, save it, and load it again."""

import inspect
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.rescaling import Rescaling

FORMAT = 1
PACKAGES = {"nequip": "nequip", "mace": "mace-torch"}  # library, and extra of that name, -> distribution


def build(
    model: Mapping[str, Any],
    dataset: Dataset,
    graphs: Sequence[GraphBatch],
    rescaling: Rescaling,
    *,
    dtype: str,
    seed: int,
) -> Potential:
    """A fresh potential for a data set.

    Args:
        model: `_target_` and hyperparameters, one entry of `conf/model`.
        dataset: gives the elements to know.
        graphs: of the training frames; give the average number of neighbours.
        rescaling: from `mlip_sweep.models.rescaling`.
        dtype: "float32" or "float64".
        seed: of the initial weights.

    Raises:
        InputError: the architecture is not installed, or does not take these values.
    """
    edges = sum(g.edge_index.shape[1] for g in graphs)
    atoms = sum(g.positions.shape[0] for g in graphs)
    if edges == 0:
        raise InputError(f"model.cutoff={model['cutoff']} Å: no training frame has two atoms that near; enlarge it")
    return _create(
        {
            **model,
            "atomic_numbers": list(dataset.atomic_numbers),
            "avg_num_neighbors": edges / atoms,
            "dtype": dtype,
            "seed": seed,
        },
        rescaling,
    )


def check_installed(target: str) -> None:
    """Refuse an architecture whose library is missing.

    Raises:
        InputError: naming the extra that brings it.
    """
    library = target.split(".")[-2]
    if library in PACKAGES:
        try:
            metadata.version(PACKAGES[library])
        except metadata.PackageNotFoundError:
            raise InputError(
                f"model={library}: its library is not installed; pip install 'mlip-sweep[{library}]'"
            ) from None


def check_hyperparameters(model: Mapping[str, Any]) -> None:
    """Refuse a model config whose class, library or types are wrong, before anything heavy.

    Raises:
        InputError: naming the entry.
    """
    check_installed(model["_target_"])
    parameters = inspect.signature(_class_of(model["_target_"])).parameters
    for name, value in model.items():
        if name == "_target_":
            continue
        if name not in parameters:
            raise InputError(f"model.{name}={value}: {model['_target_']} takes {', '.join(parameters)}")
        wanted = parameters[name].annotation
        if wanted is float and type(value) is int:
            continue
        if wanted in (bool, int, float, str) and type(value) is not wanted:
            raise InputError(f"model.{name}={value!r}: give a value of type {wanted.__name__}")
        if wanted in (int, float) and not value >= 0:
            raise InputError(f"model.{name}={value}: give a number that is not negative")


def save(model: Potential, path: Path) -> Path:
    """Write weights and hyperparameters to one file, readable with `weights_only=True`."""
    torch.save(
        {
            "format": FORMAT,
            "hyperparameters": model.hyperparameters,
            "state_dict": {name: value.detach().cpu() for name, value in model.state_dict().items()},
            "versions": {name: metadata.version(name) for name in ("e3nn", "mlip-sweep", "torch")},
        },
        path,
    )
    return path


def load(path: Path, *, device: str = "cpu", dtype: str | None = None) -> Potential:
    """Read a potential from a file that `save` wrote, in evaluation mode.

    Args:
        path: the file, the folder that holds it as `checkpoint.pt`, or the folder of a run.
        device: where to put it.
        dtype: another precision than the one it was trained in.

    Raises:
        InputError: no such file; not a checkpoint of this program; or written under another e3nn version, whose
            Wigner-3j signs differ.
    """
    places = (path / "checkpoint.pt", path / "model" / "checkpoint.pt") if path.is_dir() else (path,)
    file = next((place for place in places if place.is_file()), places[0])
    if not file.is_file():
        raise InputError(
            f"{file}: no such checkpoint; give the folder of a run, its checkpoint.pt, or an MLflow model URI"
        )
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        hyperparameters, versions = dict(content["hyperparameters"]), content["versions"]
    except Exception as error:
        raise InputError(
            f"{file}: not a checkpoint of mlip-sweep ({type(error).__name__}); give a checkpoint.pt"
        ) from error
    if versions["e3nn"] != metadata.version("e3nn"):
        raise InputError(
            f"{file}: written under e3nn {versions['e3nn']}, but {metadata.version('e3nn')} is installed, and the two "
            f"differ in the signs of Wigner-3j tensors; pip install e3nn=={versions['e3nn']}, or train again"
        )
    if dtype is not None:
        hyperparameters["dtype"] = dtype
    blank = Rescaling(1.0, [0.0] * len(hyperparameters["atomic_numbers"]))
    model = _create(hyperparameters, blank)
    model.load_state_dict(content["state_dict"])
    return model.to(device).eval()


def _create(hyperparameters: Mapping[str, Any], rescaling: Rescaling) -> Potential:
    """Call the class that `_target_` names with the other entries."""
    values = dict(hyperparameters)
    target = values.pop("_target_")
    check_installed(target)
    cls = _class_of(target)
    try:
        model = cls(rescaling=rescaling, **values)
    except InputError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InputError(f"model {target}: {error} (given {given})") from error
    model.hyperparameters = dict(hyperparameters)
    return model


def _class_of(target: str) -> type[Potential]:
    try:
        cls = get_class(target)
    except Exception as error:
        raise InputError(f"model._target_={target}: {' '.join(str(error).split())}") from error
    if not issubclass(cls, Potential):
        raise InputError(f"model._target_={target}: not a {Potential.__module__}.Potential; name a class that is one")
    return cls
