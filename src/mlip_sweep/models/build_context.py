"""Building networks: what the libraries change globally is put back, so that one build never colours the next."""

import io
import multiprocessing
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch


@contextmanager
def build_context(seed: int, dtype: str) -> Iterator[None]:
    """Build a network under a seed and a default dtype; afterwards whatever the libraries changed is as before.

    All draw their weights from torch's global generator at the default dtype, nequip sets the default dtype and an
    environment variable when it is first imported, importing mace switches off PyTorch's safe loading
    (TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD), and importing graph-pes has all later processes started by a fork.

    Args:
        seed: The seed of the weights.
        dtype: "float32" or "float64".
    """
    environment = dict(os.environ)
    default_dtype = torch.get_default_dtype()
    start_method = multiprocessing.get_start_method(allow_none=True)
    with (
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),  # mace prints which accelerators it has not found
    ):
        # The libraries warn of choices that this project makes on purpose, such as rescaling outside the network.
        warnings.simplefilter("ignore")
        try:
            torch.set_default_dtype(getattr(torch, dtype))
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_default_dtype(default_dtype)
            multiprocessing.set_start_method(start_method, force=True)
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update(environment)
