"""How e3nn writes the code of its layers, for the architectures that are made of them."""

from collections.abc import Iterator
from contextlib import contextmanager


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
