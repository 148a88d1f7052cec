"""NequIP's own packages (`.nequip.zip`) and checkpoints (`.ckpt`), which its programs read and write."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from ase.io import write as write_atoms
from torch import Tensor, nn

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.errors import InputError, in_a_line
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.checkpoint import create
from mlip_sweep.models.e3nn_options import eager_e3nn
from mlip_sweep.models.interface import Cutoff, Potential
from mlip_sweep.models.nequip import NequIP, NequIPNetwork
from mlip_sweep.models.rescaling import Rescaling

ARCHITECTURE = NequIP  # of what is written
SCALE_SHIFT = "per_type_energy_scale_shift"  # the library's module of scales and shifts
BUILDERS = ("NequIPGNNModel", "PresetNequIPGNNModel", "FullNequIPGNNModel")  # functions that make such a model
OURS = ("_target_", "cutoff", "atomic_numbers", "dtype", "seed")  # hyperparameters that the library calls otherwise


class NequIPOfFile(NequIPNetwork):
    """A model that the library's own training has made. Its scales and shifts stay in the network, in float64.

    What a package holds is code of its own, so that such a potential can be measured, but not made again.

    Args:
        network: the library's `GraphModel`; it is left without its derivatives, which are taken here.

    Raises:
        InputError: its types of atoms are not elements.
    """

    def __init__(self, network: nn.Module) -> None:
        described: dict[str, str] = dict(network.metadata)  # type: ignore[arg-type]
        names = described["type_names"].split()
        unknown = [name for name in names if name not in atomic_numbers]
        if unknown:
            raise InputError(f"its types {', '.join(names)} are not all chemical symbols; {unknown[0]} is none")
        numbers = [atomic_numbers[name] for name in names]
        super().__init__(
            cutoff=float(described["r_max"]),
            atomic_numbers=numbers,
            rescaling=Rescaling(1.0, [0.0] * len(numbers)),
            dtype=described["model_dtype"],
        )
        network.model = getattr(network.model, "func", network.model)
        self.network = network
        self.hyperparameters = {**described, "network": str(network)}
        order = torch.tensor([numbers.index(z) for z in self.atomic_numbers])
        self.register_buffer("type_of_element", order, persistent=False)

    def types(self, geometry: Geometry) -> Tensor:
        """The library's type of each atom, (N,) int64."""
        return self.type_of_element[self.elements(geometry)]  # type: ignore[index]


class NequIPOfCheckpoint(NequIPOfFile):
    """A model that the library's own training has made of known parts, or that a training here has begun with.

    Args:
        cutoff: Å.
        builder: the library's function that makes it, one of `BUILDERS`.
        constructor: the arguments of that function.
        atomic_numbers: elements that it knows, the types of the library.
        rescaling: a scale of 1, and whatever a training here has added to the energies.
        dtype: "float32" or "float64".
    """

    weights_belong_to_e3nn = True
    held_by_states = frozenset()

    def __init__(
        self,
        *,
        cutoff: Cutoff,
        builder: str,
        constructor: Mapping[str, Any],
        atomic_numbers: Sequence[int],
        rescaling: Rescaling,
        dtype: str = "float32",
    ) -> None:
        if builder not in BUILDERS:
            raise InputError(f"builder={builder}: none of {', '.join(BUILDERS)}")
        with build_context(0, dtype), eager_e3nn():
            from nequip import model
            from nequip.utils.global_state import set_global_state

            set_global_state()
            network = getattr(model, builder)(
                **constructor, seed=0, r_max=cutoff, model_dtype=dtype, do_derivatives=False
            )
        super().__init__(network)
        if tuple(sorted(atomic_numbers)) != self.atomic_numbers:
            raise InputError(f"its types {constructor['type_names']} are not its elements {atomic_numbers}")
        self.rescaling = rescaling


def read(path: Path) -> Potential:
    """The potential of a package or a checkpoint, in evaluation mode, in the precision of the file.

    Opening the file runs what code it holds.

    Raises:
        InputError: the file holds something else, or several models.
    """
    with build_context(0, "float32"), without_log_handlers():
        from nequip.model.saved_models import load_saved_model
        from nequip.utils.global_state import set_global_state

        set_global_state()
        try:
            models = load_saved_model(path, model_key=None)
        except Exception as error:  # whatever the file's own code raises
            line = in_a_line(error)[:300]
            raise InputError(f"{path}: no package or checkpoint of nequip ({type(error).__name__}: {line})") from error
        if len(models) != 1:
            raise InputError(f"{path}: holds the models {', '.join(models)}; give a file of one")
        (network,) = models.values()
        described = _description(path) if path.suffix == ".ckpt" else None
    try:
        model = NequIPOfFile(network)
        if described is None:
            return model.eval()
        return _made_again(model, *described).eval()
    except (RuntimeError, TypeError, InputError) as error:
        raise InputError(f"{path}: {in_a_line(error)[:300]}") from error


def _description(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of the library's function that made the model of a checkpoint; None for one of other parts."""
    config = torch.load(path, map_location="cpu", weights_only=False)["hyper_parameters"].get("model")
    place, _, builder = str(dict(config or {}).get("_target_")).rpartition(".")
    if place != "nequip.model" or builder not in BUILDERS:
        return None
    own = ("_target_", "seed", "r_max", "model_dtype", "do_derivatives")
    return builder, {str(name): _plain(value) for name, value in config.items() if name not in own}


def _made_again(model: NequIPOfFile, builder: str, constructor: Mapping[str, Any]) -> Potential:
    """A potential of the same numbers, of which a training can begin."""
    hyperparameters = {
        "_target_": f"{NequIPOfCheckpoint.__module__}.{NequIPOfCheckpoint.__name__}",
        "cutoff": model.cutoff,
        "builder": builder,
        "constructor": dict(constructor),
        "atomic_numbers": list(model.atomic_numbers),
        "dtype": model.precision,
    }
    again = create(hyperparameters, model.rescaling)
    again.load_state_dict(model.state_dict())
    return again


def _plain(value: Any) -> Any:
    """A value of a config as YAML has it.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is not None and not isinstance(value, bool | int | float | str):
        raise InputError(f"its config holds a {type(value).__name__}")
    return value


def write(model: NequIP, path: Path) -> None:
    """Write a potential as a package, by the library's own `nequip-package`, which packages checkpoints."""
    with tempfile.TemporaryDirectory() as temporary, build_context(0, "float32"), without_log_handlers():
        from nequip.scripts.package import main

        frames, checkpoint = Path(temporary) / "example.xyz", Path(temporary) / "model.ckpt"
        write_atoms(frames, example([chemical_symbols[z] for z in model.atomic_numbers]))
        write_checkpoint(model, checkpoint, frames)
        main(["build", str(checkpoint), str(path)])


def write_checkpoint(model: NequIP, path: Path, frames: Path) -> None:
    """Write a potential as a checkpoint of the library's own training.

    Its model is the potential's, with the scale and the shift of each element in the library's own module.

    Args:
        model: on the CPU.
        path: of the checkpoint.
        frames: a file of frames that the checkpoint names as its data.
    """
    symbols = [chemical_symbols[z] for z in model.atomic_numbers]
    given = model.hyperparameters
    config = {
        "_target_": "nequip.model.NequIPGNNModel",
        "seed": 0,
        "model_dtype": model.precision,
        "type_names": symbols,
        "r_max": model.cutoff,
        **{name: value for name, value in given.items() if name not in OURS},
        "per_type_energy_scales": model.rescaling.scale.item(),
        "per_type_energy_shifts": dict(zip(symbols, model.rescaling.shift.tolist(), strict=True)),
    }
    with build_context(0, "float32"), without_log_handlers():
        from nequip.train import NequIPLightningModule
        from nequip.utils.global_state import set_global_state

        set_global_state()
        described = {"versions": {}, "data": data_config(frames, symbols, model.cutoff)}
        described["training_module"] = {"_target_": "nequip.train.NequIPLightningModule"}
        datasets = {"train": 1, "val": 0, "test": 0, "predict": 0}
        module = NequIPLightningModule(model=config, num_datasets=datasets, info_dict=described)
        (network,) = module.model.values()
        weights = {name: value for name, value in model.network.state_dict().items() if SCALE_SHIFT not in name}
        network.load_state_dict({**network.state_dict(), **weights})
        torch.save(
            {
                "state_dict": module.state_dict(),
                "hyper_parameters": dict(module.hparams),
                "pytorch-lightning_version": metadata.version("lightning"),
            },
            path,
        )


def example(symbols: list[str]) -> Atoms:
    """Atoms of some elements in a periodic cell: a package holds some, by which `nequip-compile` traces its model."""
    corners = 2.0 * np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3)  # Å
    atoms = Atoms((symbols * 8)[:8], corners, cell=[5.0, 5.0, 5.0], pbc=True)
    atoms.rattle(0.1, seed=0)
    return atoms


def data_config(frames: Path, symbols: list[str], cutoff: float) -> dict[str, Any]:
    """How the library reads a file of frames."""
    place = "nequip.data.transforms"
    return {
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": 0,
        "train_file_path": str(frames),
        "val_file_path": str(frames),
        "transforms": [
            {"_target_": f"{place}.ChemicalSpeciesToAtomTypeMapper", "model_type_names": symbols},
            {"_target_": f"{place}.NeighborListTransform", "r_max": cutoff},
        ],
    }


@contextmanager
def without_log_handlers() -> Iterator[None]:
    """The library's programs give the root logger a handler and a level when they are imported: both are put back."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
