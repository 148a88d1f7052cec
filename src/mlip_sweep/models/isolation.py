"""Building networks: what the libraries change globally is put back, so that one build never colours the next."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch


@contextmanager
def isolated_build(seed: int, dtype: str) -> Iterator[None]:
    """Build a network under a seed and a default dtype; afterwards generator, dtype and environment are as before.

    NequIP and MACE both draw their weights from torch's global generator at the default dtype, nequip sets the default
    dtype and an environment variable when it first wakes, and importing mace switches off PyTorch's safe loading
    (TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD).

    Args:
        seed: of the weights.
        dtype: "float32" or "float64".
    """
    import e3nn

    environment = dict(os.environ)
    default_dtype = torch.get_default_dtype()
    e3nn_defaults = e3nn.get_optimization_defaults()
    with (
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),  # mace prints which accelerators it has not found
    ):
        # Both libraries warn of choices that this project makes on purpose, such as rescaling outside the network.
        warnings.simplefilter("ignore")
        try:
            # Eager code on every torch: TorchScript is deprecated from 2.10 on, and state_dicts must not depend on it.
            eager = {"jit_mode": "eager"} if "jit_mode" in e3nn_defaults else {"jit_script_fx": False}  # e3nn 0.4
            e3nn.set_optimization_defaults(specialized_code=True, optimize_einsums=True, **eager)
            torch.set_default_dtype(getattr(torch, dtype))
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_default_dtype(default_dtype)
            e3nn.set_optimization_defaults(**e3nn_defaults)
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update(environment)
