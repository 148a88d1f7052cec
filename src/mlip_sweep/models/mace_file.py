"""MACE's own `.model` files, which its calculator, its training and its converters read and write.

Such a file is a pickle of the library's module. Layers that one version of e3nn has pickled do not run under another,
so a network is made anew, by the library's constructor, and given all tensors of the file. Constants such as Wigner-3j
tensors are among them: the numbers are those of the version that wrote the file.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mlip_sweep.errors import InputError, in_a_line
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.checkpoint import create
from mlip_sweep.models.e3nn_options import eager_e3nn, pickles_of_any_e3nn
from mlip_sweep.models.interface import Cutoff, Potential
from mlip_sweep.models.mace import MACE, MACENetwork
from mlip_sweep.models.rescaling import Rescaling

ARCHITECTURE = MACE  # of what is written
E0 = "atomic_energies_fn.atomic_energies"  # names of tensors of the library's module
OWN = ("r_max", "atomic_numbers", "num_elements", "atomic_energies")  # arguments that a potential keeps by itself
CLASSES = ("interaction_cls", "interaction_cls_first", "readout_cls")  # and kinds of the others
ARRAYS = ("atomic_inter_scale", "atomic_inter_shift")
SCALE, SHIFT = "scale_shift.scale", "scale_shift.shift"


class MACEOfFile(MACENetwork):
    """A MACE that the library's own training has made, or that a training here has begun with.

    Its scale and shift stay in the network. Its energies of isolated atoms become the shift of each element, so that
    they are added in float64.

    Args:
        cutoff: Å.
        constructor: what the library's constructor takes, as `_plain` writes it.
        atomic_numbers: elements that it knows.
        rescaling: a scale of 1, and the energies of isolated atoms.
        dtype: "float32" or "float64".
    """

    weights_belong_to_e3nn = True
    held_by_states = frozenset()

    def __init__(
        self,
        *,
        cutoff: Cutoff,
        constructor: Mapping[str, Any],
        atomic_numbers: Sequence[int],
        rescaling: Rescaling,
        dtype: str = "float32",
    ) -> None:
        super().__init__(cutoff=cutoff, atomic_numbers=atomic_numbers, rescaling=rescaling, dtype=dtype)
        with build_context(0, dtype), eager_e3nn():
            from mace import modules

            self.network = modules.ScaleShiftMACE(
                r_max=cutoff,
                atomic_numbers=list(self.atomic_numbers),
                num_elements=len(self.atomic_numbers),
                atomic_energies=np.zeros(len(self.atomic_numbers)),
                **_restored(constructor),
            )


def read(path: Path) -> Potential:
    """The potential of a `.model` file, in evaluation mode, in the precision of the file.

    Opening the file runs what code it holds.

    Raises:
        InputError: the file holds something else, or a MACE that needs more than positions and elements.
    """
    with build_context(0, "float32"), pickles_of_any_e3nn():
        from mace import modules
        from mace.tools.scripts_utils import extract_config_mace_model

        try:
            network: Any = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as error:  # whatever the file's own code raises
            raise InputError(f"{path}: no pickle of mace ({type(error).__name__}: {_line(error)})") from error
        if type(network) is modules.MACE:  # the same with a scale of 1 and a shift of 0
            network.scale_shift = modules.ScaleShiftBlock(scale=1.0, shift=0.0)
            network.__class__ = modules.ScaleShiftMACE
        if type(network) is not modules.ScaleShiftMACE:
            raise InputError(
                f"{path}: holds a {type(network).__name__}; give a .model file of MACE or ScaleShiftMACE, as "
                "mace_run_train writes it"
            )
        heads = getattr(network, "heads", None) or ["Default"]
        if len(heads) > 1:
            raise InputError(
                f"{path}: has the heads {', '.join(map(str, heads))}; take one out by `mace_select_head -n HEAD {path}`"
            )
        if hasattr(network, "joint_embedding"):
            raise InputError(f"{path}: needs {', '.join(network.embedding_specs)} of each system, which no frame has")
        dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
        state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
        numbers = state["atomic_numbers"].tolist()
        config = {**extract_config_mace_model(network), "heads": heads}
    try:
        if numbers != sorted(numbers):
            raise InputError(f"its elements {numbers} are not sorted, as MACE's training leaves them")
        hyperparameters = {
            "_target_": f"{MACEOfFile.__module__}.{MACEOfFile.__name__}",
            "cutoff": float(config["r_max"]),
            "constructor": {name: _plain(name, value) for name, value in config.items() if name not in OWN},
            "atomic_numbers": numbers,
            "dtype": dtype,
        }
        energies = state[E0].double().reshape(-1).tolist()
        model: Any = create(hyperparameters, Rescaling(1.0, energies))
        model.network.load_state_dict({**state, E0: torch.zeros_like(state[E0])})
    except (RuntimeError, TypeError, InputError) as error:
        raise InputError(f"{path}: this MACE cannot be made again: {_line(error)}") from error
    made: Potential = model.eval()
    return made


def write(model: MACE, path: Path) -> None:
    """Write a potential as a `.model` file.

    The file makes a ScaleShiftMACE by the library's own constructor, whatever versions of e3nn and of torch it is
    opened under, and gives it the potential's tensors; scale and shift are among them.
    """
    with build_context(0, model.precision):
        from mace import modules

        state = {
            **model.network.state_dict(),
            E0: model.rescaling.shift.to(model.dtype),
            SCALE: model.rescaling.scale.to(model.dtype),
            SHIFT: torch.zeros((), dtype=model.dtype),
        }
        config = {**model.config, "atomic_inter_scale": 1.0, "atomic_inter_shift": 0.0}
        made = _MadeWhenOpened(
            partial(modules.ScaleShiftMACE, **config), {name: tensor.detach().cpu() for name, tensor in state.items()}
        )
        torch.save(made, path)


class _MadeWhenOpened:
    """Is pickled as: call `make`, and load `state` into the module that it gives, in the precision of the state."""

    def __init__(self, make: Callable[[], nn.Module], state: Mapping[str, torch.Tensor]) -> None:
        self._make = make
        self._state = dict(state)

    def __reduce__(self) -> tuple[Any, ...]:
        load = partial(nn.Module.load_state_dict, assign=True)
        return self._make, (), self._state, None, None, load


def _plain(name: str, value: Any) -> Any:
    """An argument of the library's constructor as YAML has it: classes and functions by name, irreps as text.

    Raises:
        InputError: it is nothing that can be made again.
    """
    from mace import modules

    if name == "gate":
        names = [key for key, function in modules.gate_dict.items() if function is value]
        if not names:
            raise InputError(f"{name}={value}: none of {', '.join(modules.gate_dict)}")
        return names[0]
    if isinstance(value, type):
        return value.__name__
    if name.endswith("irreps"):
        return None if value is None else str(value)
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain("", one) for one in value]
    if value is not None and not isinstance(value, bool | int | float | str):
        raise InputError(f"{name}={type(value).__name__}: not known here")
    return value


def _restored(constructor: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_plain`, for all arguments."""
    from mace import modules

    from e3nn import o3  # isort: skip

    made = dict(constructor)
    for name, value in constructor.items():
        if name == "gate":
            made[name] = modules.gate_dict[value]
        elif name.endswith("irreps") and value is not None:
            made[name] = o3.Irreps(value)
        elif name in CLASSES:
            made[name] = getattr(modules.blocks, value)
        elif name in ARRAYS:
            made[name] = np.array(value)
    return made


def _line(error: Exception) -> str:
    """What an error says, in one line of moderate length."""
    return in_a_line(error)[:300]
