"""Members that share a program have the numbers that each has alone."""

import shutil

import numpy as np
import pytest
import torch
from samples import TINY, architectures, copper_frame, ethanol_dataset, ethanol_frames, small_model
from toys import LennardJones

from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.errors import InputError
from mlip_sweep.models.mapped import MappedPotential, Room
from mlip_sweep.models.rescaling import Rescaling

RESCALING = [(1.3, [-4.0, 2.0, 0.5]), (0.7, [1.0, -3.0, 0.25]), (2.0, [0.0, 0.0, 8.0])]


def small_members(architecture, count=3, **changes):
    """Members that differ in their weights, their rescaling and the number of neighbours that they count on."""
    members = []
    for k, (scale, shift) in enumerate(RESCALING[:count]):
        # Fewer and fewer frames to train on, so that the average number of neighbours is another.
        member = small_model(architecture, ethanol_dataset(), seed=k, **changes)
        member.rescaling = Rescaling(scale, shift)
        members.append(member)
    return members


def tiny_members(architecture, count=3, **changes):
    return small_members(architecture, count, **TINY[architecture], **changes)


def batch_of(n: int, seed: int = 0):
    return collate([graph(frame, 5.0) for frame in ethanol_frames(n, seed=seed)])


def scalar_of(energy, forces, batch):
    """A loss of energies and of forces."""
    return (energy - batch.energy).square().mean() + 10.0 * (forces - batch.forces).square().mean()


def gradients(prediction_of_member, member, k, batch):
    """Gradients of one member's loss with respect to its own parameters, zeros where it does not depend on one."""
    parameters = list(member.parameters())
    scalar = scalar_of(*prediction_of_member, batch)
    found = torch.autograd.grad(scalar, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def assert_as_alone(mapped, batch, *, rtol, atol):
    """Energies, forces and gradients of every member are what it gives by itself."""
    for member in mapped.members:
        member.eval()
    together = mapped(batch)
    assert together.energy.shape == (len(mapped.members), batch.n_systems)
    assert together.forces.shape == (len(mapped.members), *batch.positions.shape)
    assert together.energy.dtype == together.forces.dtype == torch.float64
    assert not together.energy.requires_grad
    assert not together.forces.requires_grad
    close = {"rtol": rtol, "atol": atol}
    for member, energy, forces in zip(mapped.members, together.energy, together.forces, strict=True):
        alone = member(batch)
        torch.testing.assert_close(energy, alone.energy, **close)
        torch.testing.assert_close(forces, alone.forces, **close)
    for member in mapped.members:
        member.train()
    together = mapped(batch)
    losses = [scalar_of(e, f, batch) for e, f in zip(together.energy, together.forces, strict=True)]
    torch.stack(losses).sum().backward()
    for member in mapped.members:
        found = [p.grad for p in member.parameters()]
        member.zero_grad()
        alone = member(batch)
        scalar_of(alone.energy, alone.forces, batch).backward()
        for gradient, parameter in zip(found, member.parameters(), strict=True):
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            scale = max(1.0, float(expected.abs().max()))  # rounding is relative to the largest
            torch.testing.assert_close(gradient / scale, expected / scale, **close)
        member.zero_grad()
        member.eval()


@pytest.mark.parametrize("architecture", architectures())
def test_every_member_has_the_numbers_that_it_has_alone(architecture):
    mapped = MappedPotential(small_members(architecture))
    for batch in (batch_of(3), batch_of(1), batch_of(5, seed=4)):
        assert_as_alone(mapped, batch, rtol=1e-10, atol=1e-10)
