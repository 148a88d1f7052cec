"""Members that share a program have the numbers that each has alone."""

import copy
import dataclasses
import shutil

import pytest
import torch
from samples import TINY, architectures, copper_frame, ethanol_dataset, ethanol_frames, small_model
from toys import LennardJones

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.errors import InputError
from mlip_sweep.models.mapped import MappedPotential, Room
from mlip_sweep.models.rescaling import Rescaling

RESCALING = [(1.3, [-4.0, 2.0, 0.5]), (0.7, [1.0, -3.0, 0.25]), (2.0, [0.0, 0.0, 8.0])]  # scale, shift of each element


def members_of(architecture, count=3, **changes):
    """Members that differ in their weights, in their rescaling and in the average number of neighbours."""
    dataset, members = ethanol_dataset(), []
    for k, (scale, shift) in enumerate(RESCALING[:count]):
        stretched = [dataclasses.replace(frame, positions=(1 + 0.5 * k) * frame.positions) for frame in dataset.train]
        member = small_model(architecture, dataclasses.replace(dataset, train=stretched), seed=k, **changes)
        member.rescaling = Rescaling(scale, shift)
        members.append(member)
    assert len({member.hyperparameters["avg_num_neighbors"] for member in members}) == count
    return members


def tiny_members(architecture, count=3, **changes):
    return members_of(architecture, count, **TINY[architecture], **changes)


def batch_of(n: int, seed: int = 0):
    return collate([graph(frame, 5.0) for frame in ethanol_frames(n, seed=seed)])


def loss_of(energy, forces, batch):
    return (energy - batch.energy).square().mean() + 10.0 * (forces - batch.forces).square().mean()


def gradients(member):
    """The gradients that a backward pass has left, which are taken away; zeros where it has left none."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in member.parameters()]
    member.zero_grad()
    return found


def assert_as_alone(mapped, batch, tolerance):
    """Energies, forces and gradients of every member are what it gives by itself."""
    for member in mapped.members:
        member.eval()
    together = mapped(batch)
    assert together.energy.shape == (len(mapped.members), batch.n_systems)
    assert together.forces.shape == (len(mapped.members), *batch.positions.shape)
    assert together.energy.dtype == together.forces.dtype == torch.float64
    assert not together.energy.requires_grad
    assert not together.forces.requires_grad
    for member, energy, forces in zip(mapped.members, together.energy, together.forces, strict=True):
        alone = member(batch)
        torch.testing.assert_close(energy, alone.energy, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(forces, alone.forces, rtol=tolerance, atol=tolerance)

    for member in mapped.members:
        member.train()
    together = mapped(batch)
    losses = [loss_of(e, f, batch) for e, f in zip(together.energy, together.forces, strict=True)]
    torch.stack(losses).sum().backward()
    for member in mapped.members:
        found = gradients(member)
        alone = member(batch)
        loss_of(alone.energy, alone.forces, batch).backward()
        expected = gradients(member)
        assert sum(g.abs().max() > 0 for g in expected) > 0.8 * len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(1.0, float(other.abs().max())))
        member.eval()


@pytest.mark.parametrize("architecture", architectures())
def test_every_member_has_the_numbers_that_it_has_alone(architecture):
    batches = [batch_of(3), batch_of(1), batch_of(2, seed=4)]
    mapped = MappedPotential(members_of(architecture), rooms=[Room.of(batches)])
    for batch in batches:
        assert_as_alone(mapped, batch, 1e-10)


@pytest.mark.parametrize("architecture", architectures())
def test_single_precision_agrees_to_rounding(architecture):
    assert_as_alone(MappedPotential(tiny_members(architecture, dtype="float32")), batch_of(3), 1e-5)


@pytest.mark.parametrize("architecture", architectures())
def test_one_member_and_batches_of_any_size(architecture):
    mapped = MappedPotential(tiny_members(architecture, count=1))
    (frame,) = ethanol_frames(1)
    atom = dataclasses.replace(
        frame, atomic_numbers=frame.atomic_numbers[:1], positions=frame.positions[:1], forces=frame.forces[:1]
    )
    for batch in (batch_of(5), graph(atom, 5.0)):
        energy, alone = mapped(batch).energy[0], mapped.members[0](batch).energy
        torch.testing.assert_close(energy, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", architectures())
def test_atoms_that_see_their_own_images(architecture):
    frame = copper_frame()
    dataset = Dataset("copper", [frame], [frame], {}, [frame])
    members = [small_model(architecture, dataset, seed=k, **TINY[architecture]) for k in range(2)]
    assert_as_alone(MappedPotential(members), graph(frame, 5.0), 1e-10)


@pytest.mark.parametrize("architecture", architectures())
def test_what_is_in_a_room_beside_a_batch_changes_nothing(architecture):
    members, batch = tiny_members(architecture, count=2), batch_of(2)
    exact = Room.of([batch])
    narrow, wide = (
        MappedPotential(members, rooms=[room]) for room in (exact, Room(2 * exact.atoms, exact.edges + 1000))
    )
    for one, other in zip(vars(narrow(batch)).values(), vars(wide(batch)).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", architectures())
def test_a_member_does_not_depend_on_the_others(architecture):
    members, batch = tiny_members(architecture), batch_of(2)
    for member in members:
        member.train()
    mapped = MappedPotential(members)

    def numbers_of_second():
        together = mapped(batch)
        losses = [loss_of(e, f, batch) for e, f in zip(together.energy, together.forces, strict=True)]
        torch.stack(losses).sum().backward()
        return [together.energy[1].detach(), together.forces[1].detach(), *gradients(members[1])]

    before = numbers_of_second()
    with torch.no_grad():
        for parameter in members[0].parameters():
            parameter.fill_(torch.nan)
        for parameter in members[2].parameters():
            parameter.mul_(-3.0)
    for one, other in zip(before, numbers_of_second(), strict=True):
        assert torch.equal(one, other)
    assert not torch.isfinite(mapped(batch).energy[0]).any()


@pytest.mark.parametrize("architecture", architectures())
def test_weights_are_those_of_the_moment_or_those_that_are_given(architecture):
    members, batch = tiny_members(architecture), batch_of(2)
    mapped = MappedPotential(members)
    before = mapped(batch)
    moved = [{name: 1.1 * p.detach() for name, p in member.named_parameters()} for member in members]
    moved[0] = {}  # this one's own
    moved[1]["rescaling.shift"] = members[1].rescaling.shift + 1.0
    given = mapped.predict(moved, batch)
    assert torch.equal(mapped(batch).forces, before.forces)
    assert torch.equal(given.forces[0], before.forces[0])
    with torch.no_grad():
        for member, states in zip(members, moved, strict=True):
            for name, state in states.items():
                member.states()[name].copy_(state)
    now = mapped(batch)
    assert not torch.equal(now.energy[1:], before.energy[1:])
    assert torch.equal(now.energy, given.energy)
    assert torch.equal(now.forces, given.forces)
    for name in ("no_such_weight", "element_index"):
        with pytest.raises(KeyError, match=name):
            mapped.predict([{}, {}, {name: torch.zeros(1)}], batch)
    members[2].train()
    with pytest.raises(ValueError, match="training mode"):
        mapped(batch)


def test_rooms_are_few_and_hold_what_is_put_in_them():
    sizes = range(0, 3000)
    rooms = [Room(size, size).rounded() for size in sizes]
    assert all(room.holds(Room(size, size)) and room.edges <= max(1, 1.125 * size) for room, size in zip(rooms, sizes))
    assert len(set(rooms)) < 90
    assert Room.of([batch_of(1), batch_of(3), batch_of(2)]) == Room(27, 216)
    assert not Room(27, 216).holds(Room(26, 217))


def test_members_that_cannot_share_a_program_are_refused():
    with pytest.raises(InputError, match="no members"):
        MappedPotential([])
    toys = [LennardJones(sigma=sigma, epsilon=1.0, cutoff=3.0, onset=2.0) for sigma in (1.0, 1.1)]
    with pytest.raises(InputError, match=r"member 1 .*hyperparameters"):
        MappedPotential(toys)


@pytest.mark.parametrize("architecture", architectures())
def test_what_is_unlike_is_named(architecture):
    first, second = tiny_members(architecture, count=2)
    toy = LennardJones(sigma=1.0, epsilon=1.0, cutoff=3.0, onset=2.0)
    with pytest.raises(InputError, match=rf"member 2 is a LennardJones, member 0 a {type(first).__name__}"):
        MappedPotential([first, second, toy])
    with pytest.raises(InputError, match=r"member 1 has num_bessels=4, member 0 has num_bessels=8"):
        MappedPotential([first, small_model(architecture, ethanol_dataset(), **TINY[architecture], num_bessels=4)])
    with pytest.raises(InputError, match=r"member 1 has dtype=float32, member 0 has dtype=float64"):
        MappedPotential([first, small_model(architecture, ethanol_dataset(), dtype="float32", **TINY[architecture])])
    wider = copy.deepcopy(second)
    name, parameter = next(iter(wider.named_parameters()))
    path, _, key = name.rpartition(".")
    setattr(wider.get_submodule(path), key, torch.nn.Parameter(torch.zeros(5, *parameter.shape)))
    with pytest.raises(InputError, match=rf"{name} is \(5, .*in member 1, but \({parameter.shape[0]}.*in member 0"):
        MappedPotential([first, wider])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile with")
@pytest.mark.parametrize("architecture", architectures()[:1])
def test_compiled_members_have_the_same_numbers(architecture):
    batches = [batch_of(2), batch_of(1)]
    mapped = MappedPotential(tiny_members(architecture), rooms=[Room.of(batches)], backend="inductor")
    for batch in batches:
        assert_as_alone(mapped, batch, 1e-10)


@pytest.mark.parametrize("architecture", architectures())
def test_members_of_like_kinds_share_programs(architecture):
    from torch._dynamo.testing import CompileCounterWithBackend

    counter, batches = CompileCounterWithBackend("aot_eager"), [batch_of(2), batch_of(1)]
    members, rooms = tiny_members(architecture), [Room.of(batches)]
    for part in (members[:2], members[1:]):
        mapped = MappedPotential(part, rooms=rooms, backend=counter)
        for batch in batches:
            assert_as_alone(mapped, batch, 1e-10)
    assert counter.frame_count == 2  # one for evaluation, one for training


@pytest.mark.parametrize("architecture", architectures()[:1])
def test_a_machine_that_cannot_compile_is_told_how(architecture):
    def broken(graph, inputs):
        raise OSError("no compiler")

    with pytest.raises(InputError, match=r"trainer\.compile=true.*no compiler.*g\+\+"):
        MappedPotential(tiny_members(architecture), backend=broken)(batch_of(1))
