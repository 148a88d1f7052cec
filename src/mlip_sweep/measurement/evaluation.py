"""How measurements evaluate a model: in evaluation mode for a while, on the device where the model is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.models.interface import Prediction


class ForceField(Protocol):
    """What molecular dynamics asks of a model; every `Potential` keeps it, and so does a wrapped ASE calculator."""

    @property
    def cutoff(self) -> float:
        """Radius of an atom's neighbourhood, Å."""
        ...

    def __call__(self, batch: GraphBatch) -> Prediction:
        """Energies (S,) eV and forces (N, 3) eV/Å of a batch."""
        ...


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Put a model into evaluation mode; afterwards each of its modules is in the mode it was in.

    Restored one by one, because `model.train()` would also wake modules that were frozen in evaluation mode.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@contextmanager
def without_gradients(model: nn.Module) -> Iterator[None]:
    """Parameters ask for no gradient inside, so that only forces are derived; afterwards each is as it was."""
    before = [p.requires_grad for p in model.parameters()]
    try:
        model.requires_grad_(False)
        yield
    finally:
        for parameter, gradient in zip(model.parameters(), before, strict=True):
            parameter.requires_grad_(gradient)


def predict_in_parts(model: ForceField, batch: GraphBatch, max_atoms: int) -> Prediction:
    """Energies and forces, of a committee their spread too, of a batch shown in parts of `max_atoms` atoms.

    So the memory that the model takes is bounded.
    """
    if len(batch.positions) <= max_atoms:
        return model(batch)
    parts = [model(part) for part in batch.split(max_atoms)]
    spreads = [part.forces_spread for part in parts if part.forces_spread is not None]
    return Prediction(
        torch.cat([part.energy for part in parts]),
        torch.cat([part.forces for part in parts]),
        forces_spread=torch.cat(spreads) if spreads else None,
    )


def device_of(model: object) -> torch.device:
    """The device of a model's parameters and buffers; the CPU for a model that has none."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")
