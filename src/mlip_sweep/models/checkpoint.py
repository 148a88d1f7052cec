"""Build a potential from its config, save it, and load it again."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mlip_sweep.config import located
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.errors import InputError, SettingError
from mlip_sweep.models.interface import SUPPLIED, Potential
from mlip_sweep.models.rescaling import Rescaling
from mlip_sweep.settings import check_arguments

FORMAT = 1


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
        dataset: The data set, which gives the elements to know.
        graphs: The graphs of the training frames, which give the average number of neighbours.
        rescaling: One of `mlip_sweep.models.rescaling`.
        dtype: "float32" or "float64".
        seed: The seed of the initial weights.

    Raises:
        InputError: The architecture is not installed, or does not take these values.
    """
    edges, atoms = map(sum, zip(*((g.edge_index.shape[1], len(g.positions)) for g in graphs), strict=True))
    if edges == 0:
        raise InputError(f"model.cutoff={model['cutoff']} Å: no training frame has two atoms that near; enlarge it")
    return create(
        {
            **model,
            "atomic_numbers": list(dataset.atomic_numbers),
            "avg_num_neighbors": edges / atoms,
            "dtype": dtype,
            "seed": seed,
        },
        rescaling,
    )


def is_installed(architecture: type[Potential]) -> bool:
    """Whether the library of an architecture is there."""
    return architecture.library is None or _version(architecture.library.distribution) is not None


def check_installed(architecture: type[Potential]) -> None:
    """Refuse an architecture whose library is missing.

    Raises:
        InputError: Names the extra that brings it.
    """
    if architecture.library is not None and not is_installed(architecture):
        library = architecture.library
        raise InputError(
            f"model: {architecture.__name__} needs {library.distribution}, which is not installed; "
            f"pip install 'mlip-sweep[{library.extra}]'"
        )


def architecture_of(target: str) -> type[Potential]:
    """The class that a config's `_target_` names, which need not have its library.

    Raises:
        InputError: There is no such class, or it is no potential.
    """
    architecture = located(target, "model._target_")
    if not (isinstance(architecture, type) and issubclass(architecture, Potential)):
        raise InputError(f"model._target_={target}: not a {Potential.__module__}.Potential; name a class that is one")
    return architecture


def check_hyperparameters(model: Mapping[str, Any]) -> None:
    """Refuse a model config whose class, library or values are wrong, before anything heavy.

    Raises:
        InputError: Names the entry.
    """
    if "_target_" not in model:
        raise InputError("model: names nothing to make; choose one of conf/model")
    architecture = architecture_of(model["_target_"])
    check_installed(architecture)
    own = {name: value for name, value in model.items() if name != "_target_"}
    try:
        check_arguments(architecture, own, SUPPLIED)
        architecture.check(own)
    except SettingError as error:
        raise error.at("model") from None


def save(model: Potential, path: Path) -> Path:
    """Write weights and hyperparameters to one file, readable with `weights_only=True`.

    Versions of this project, torch and e3nn, where it is installed, are kept with them.
    """
    versions = {name: _version(name) for name in ("e3nn", "mlip-sweep", "torch")}
    torch.save(
        {
            "format": FORMAT,
            "hyperparameters": model.hyperparameters,
            "state_dict": {name: value.detach().cpu() for name, value in model.state_dict().items()},
            "versions": {name: version for name, version in versions.items() if version is not None},
        },
        path,
    )
    return path


def load(path: Path, *, device: str = "cpu", dtype: str | None = None) -> Potential:
    """Read a potential from a file that `save` wrote, in evaluation mode.

    Args:
        path: The file, the folder that holds it as `checkpoint.pt`, or the folder of a run.
        device: Where to put it.
        dtype: Another precision than the one it was trained in.

    Raises:
        InputError: There is no such file; it is no checkpoint of this program; its library is missing; or its weights
            belong to another e3nn version, whose Wigner-3j signs differ.
    """
    file = file_in(path)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        hyperparameters, versions = dict(content["hyperparameters"]), content["versions"]
    except Exception as error:
        raise InputError(
            f"{file}: not a checkpoint of mlip-sweep ({type(error).__name__}); give a checkpoint.pt"
        ) from error
    architecture = architecture_of(hyperparameters["_target_"])
    check_installed(architecture)
    written, here = versions.get("e3nn"), _version("e3nn")
    if architecture.weights_belong_to_e3nn and written != here:
        raise InputError(
            f"{file}: written under e3nn {written}, but {here} is installed, and the two differ in the signs of "
            f"Wigner-3j tensors; pip install e3nn=={written}, or train again"
        )
    if dtype is not None:
        hyperparameters["dtype"] = dtype
    return _filled(hyperparameters, content["state_dict"]).to(device)


def in_precision(model: Potential, dtype: str) -> Potential:
    """The same potential made anew in another precision, in evaluation mode on the CPU.

    Args:
        model: With the hyperparameters to make it again.
        dtype: "float32" or "float64".
    """
    return _filled({**model.hyperparameters, "dtype": dtype}, model.state_dict())


def file_in(path: Path) -> Path:
    """The checkpoint that `load` reads.

    Raises:
        InputError: There is no such file.
    """
    places = (path / "checkpoint.pt", path / "model" / "checkpoint.pt") if path.is_dir() else (path,)
    file = next((place for place in places if place.is_file()), places[0])
    if not file.is_file():
        raise InputError(
            f"{file}: no such checkpoint; give the folder of a run, its checkpoint.pt, or an MLflow model URI"
        )
    return file


def create(hyperparameters: Mapping[str, Any], rescaling: Rescaling) -> Potential:
    """Call the class that `_target_` names with the other entries.

    Raises:
        InputError: There is no such class, it is not installed, or it does not take these values.
    """
    values = dict(hyperparameters)
    target = values.pop("_target_")
    architecture = architecture_of(target)
    check_installed(architecture)
    try:
        model = architecture(rescaling=rescaling, **values)
    except InputError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InputError(f"model {target}: {error} (given {given})") from error
    model.hyperparameters = dict(hyperparameters)
    return model


def _filled(hyperparameters: Mapping[str, Any], state: Mapping[str, Any]) -> Potential:
    """A potential made by its hyperparameters and given its parameters and buffers, in evaluation mode on the CPU."""
    model = create(hyperparameters, Rescaling(1.0, [0.0] * len(hyperparameters["atomic_numbers"])))
    model.load_state_dict(state)
    return model.eval()


def _version(distribution: str) -> str | None:
    """The version of an installed distribution; None where it is missing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
