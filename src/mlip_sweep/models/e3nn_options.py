"""How e3nn writes and keeps the code of its layers, for the architectures that are made of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def eager_e3nn() -> Iterator[None]:
    """Layers that are built inside run as eager code; afterwards e3nn's options are as before.

    TorchScript is deprecated from torch 2.10 on, and state_dicts must not depend on it.
    """
    import e3nn

    defaults = e3nn.get_optimization_defaults()
    eager = {"jit_mode": "eager"} if "jit_mode" in defaults else {"jit_script_fx": False}  # the latter is e3nn 0.4's
    try:
        e3nn.set_optimization_defaults(specialized_code=True, optimize_einsums=True, **eager)
        yield
    finally:
        e3nn.set_optimization_defaults(**defaults)


@contextmanager
def pickles_of_any_e3nn() -> Iterator[None]:
    """Layers that e3nn 0.4 pickled can be unpickled inside; afterwards e3nn reads as before.

    Since 0.5, e3nn keeps the kind of each layer's code beside it. Before, all of it was TorchScript. What is read so
    has its weights and constants, but need not run: the layers have other attributes now.
    """
    from e3nn.util.codegen import CodeGenMixin

    read = CodeGenMixin.__setstate__

    def read_any(layer: Any, state: dict[str, Any]) -> None:
        code = state.get("__codegen__") or {}
        kept = {name: entry if isinstance(entry, tuple) else ("torchscript", entry) for name, entry in code.items()}
        read(layer, {**state, "__codegen__": kept} if code else state)

    try:
        CodeGenMixin.__setstate__ = read_any
        yield
    finally:
        CodeGenMixin.__setstate__ = read
