"""Potentials through `torch.compile`: the same numbers within rounding, from few large kernels instead of many small.

What is compiled is the graph that `mlip_sweep.models.mapped` writes out: one for evaluation and one for training, for
any number of atoms and edges. Neither holds a weight: potentials of one architecture share them within a process,
whatever states they are shown, and torch keeps the compiled kernels on disk for the next process.
"""

import time
from typing import Any

import torch

from mlip_sweep.data.graphs import Geometry, GraphBatch
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Derived, Potential, States
from mlip_sweep.models.mapped import Evaluation, derive_together

BACKEND = "inductor"  # of torch.compile


class Compiled:
    """Computes in the place of `Potential.derive`; compiles when it is first called.

    Args:
        model: The potential whose `compiled` this becomes.
        backend: The backend of torch.compile.
    """

    def __init__(self, model: Potential, backend: str = BACKEND) -> None:
        self._model = model
        self._backend = backend

    def __call__(self, states: States, geometry: Geometry, virials: bool = False) -> Derived:
        """As `Potential.derive`."""
        derived = derive_together([Evaluation(self._model, states, geometry, virials)], self._backend)
        return tuple(output[0] for output in derived)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of the model, in this process or another, compiles for itself."""
        return Compiled, (self._model, self._backend)


def compile_potential(model: Potential, batch: GraphBatch, *, training: bool, backend: str = BACKEND) -> float:
    """Have a potential compiled, on the device of its parameters.

    Args:
        model: The potential. It is left in the mode it was in; its numbers change within rounding.
        batch: Any structures; what is compiled serves for others too.
        training: Whether to compile for training besides evaluation.
        backend: The backend of torch.compile.

    Returns:
        How long it took, s.

    Raises:
        InputError: torch.compile does not work here, as a rule because there is no C++ compiler.
    """
    start = time.perf_counter()
    batch = batch.to(next(model.parameters()).device)
    before = model.training
    model.compiled = Compiled(model, backend)
    parameters = [p for p in model.parameters() if p.requires_grad]
    try:
        model.eval()(batch)
        if training and parameters:
            prediction = model.train()(batch)
            scalar = prediction.energy.sum() + prediction.forces.square().sum()
            torch.autograd.grad(scalar, parameters, allow_unused=True)
    except InputError:
        model.compiled = None
        raise
    finally:
        model.train(before)
    return time.perf_counter() - start
