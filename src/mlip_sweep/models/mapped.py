"""Many members of one architecture as one program: every operation is done for all of them at once.

A batch of small graphs keeps a processor busy for less time than the hundreds of calls that it takes. Members that share
an architecture and see the same batch can share those calls: K sets of weights are stacked along a leading axis, the
geometry stands once, and each operation runs over that axis.

`Potential.derive` is written out as a graph of plain operations (`mlip_sweep.models.compiled`), forces among them, freed
of operations in place, and mapped over the axis of members by `torch.vmap`. The result is a graph again, which runs as it
is or through torch.compile. Its shapes are fixed, since `torch.vmap` has no rules for symbolic ones; so geometries are
padded to a few sizes, with atoms that have no neighbours and with edges beyond the cutoff, which change nothing.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from mlip_sweep.data.graphs import Geometry, GraphBatch
from mlip_sweep.errors import InputError
from mlip_sweep.models.compiled import compiler_needed, geometry_tensors, written_out
from mlip_sweep.models.interface import Potential, Prediction, States

KEPT = 8  # programs that a process keeps for later members

STEPS = 8  # sizes between one power of two and the next, so that rounding up adds an eighth at most


@dataclass(frozen=True, order=True)
class Room:
    """A size that geometries are padded to, so that many of them share a program.

    Attributes:
        atoms: Number of atoms.
        edges: Number of directed edges.
    """

    atoms: int
    edges: int

    @classmethod
    def of(cls, batches: Iterable[GraphBatch]) -> "Room":
        """What holds each of some batches.

        Raises:
            ValueError: There is no batch.
        """
        sizes = [(len(batch.positions), batch.edge_index.shape[1]) for batch in batches]
        return cls(max(atoms for atoms, _ in sizes), max(edges for _, edges in sizes))

    def holds(self, other: "Room") -> bool:
        """Whether the other fits in."""
        return self.atoms >= other.atoms and self.edges >= other.edges

    def rounded(self) -> "Room":
        """One of few sizes that holds this one, at most an eighth larger."""
        return Room(_rounded(self.atoms), _rounded(self.edges))


@dataclass(frozen=True)
class Program:
    """A graph that is mapped over members, and the names of the states that it takes before the geometry."""

    run: Callable[..., tuple[Tensor, Tensor]]
    states: tuple[str, ...]


_programs: dict[str, Program] = {}  # of this process


class MappedPotential:
    """Potentials of one architecture, in one program.

    Each member's numbers are those that it has alone, within rounding, whoever else is there: one whose weights are no
    longer finite spoils none of the others. The members stay what they are. Their parameters are not moved into one
    tensor but stacked anew at every call, so that each has a gradient, an optimiser and averages of its own.

    Args:
        members: K potentials that differ in their weights and buffers alone, on one device.
        rooms: Sizes that geometries are padded to: the first that holds one. A geometry that fits in none is padded by
            an eighth at most.
        backend: The backend of torch.compile, such as "inductor"; None runs the graph as it is.

    Raises:
        InputError: A member is of another architecture, shape, precision or device than the first.
    """

    def __init__(self, members: Sequence[Potential], *, rooms: Sequence[Room] = (), backend: str | None = None) -> None:
        check_alike(members)
        self.members = tuple(members)
        self._rooms = tuple(rooms)
        self._backend = backend
        self._programs: dict[tuple[bool, torch.device, Room], Program] = {}
        self._stacked = frozenset(_own_names(members))

    def __call__(self, batch: GraphBatch) -> Prediction:
        """Energies and forces under the members' own states."""
        return self.predict([{}] * len(self.members), batch)

    def predict(self, states: Sequence[States], batch: GraphBatch) -> Prediction:
        """Energies and forces of a batch, for every member.

        Args:
            states: For each member, parameters and buffers by name, as of `Potential.predict`.
            batch: Any structures, on the device of the members.

        Returns:
            Energies (K, S) eV and forces (K, N, 3) eV/Å, both float64; differentiable in the states only while the
            members are in training mode.

        Raises:
            KeyError: A name is of no parameter, and of no buffer in which members may differ.
            ValueError: Some members are in training mode and some are not.
        """
        energies, forces = self.derive(states, batch.geometry())
        total = energies.new_zeros(len(self.members), batch.n_systems)
        return Prediction(energy=total.index_add(1, batch.system, energies), forces=forces)

    def derive(self, states: Sequence[States], geometry: Geometry) -> tuple[Tensor, Tensor]:
        """As `predict`, but energies of atoms, (K, N) eV, and forces, (K, N, 3) eV/Å.

        A state that is the member's own tensor may be given whatever its name.
        """
        first = self.members[0]
        if any(member.training is not first.training for member in self.members):
            raise ValueError("some members are in training mode and some are not; call train() or eval() on all")
        size = Room(len(geometry.positions), geometry.edge_index.shape[1])
        room = next((room for room in self._rooms if room.holds(size)), size.rounded())
        tensors = _padded(geometry, room, first)
        key = (first.training, geometry.positions.device, room)
        if key not in self._programs:
            self._programs[key] = _program(self.members, self._stacked, tensors, room, self._backend)
        program = self._programs[key]
        with torch.set_grad_enabled(first.training and torch.is_grad_enabled()), compiler_needed():
            inputs = self._inputs(states, program)
            if not first.training:
                inputs = [state.detach() for state in inputs]  # what asks for gradients is another case to compile
            energies, forces = program.run(*inputs, *tensors)
        return energies[:, : size.atoms], forces[:, : size.atoms]

    def _inputs(self, states: Sequence[States], program: Program) -> list[Tensor]:
        """The states that a program takes: stacked where members have their own, else the first member's."""
        own = [member.states() for member in self.members]
        for mine, given in zip(own, states, strict=True):
            wrong = sorted(
                name for name, state in given.items() if name not in self._stacked and state is not mine.get(name)
            )
            if wrong:
                raise KeyError(f"{wrong} are no parameters, nor buffers in which members may differ")
        members = list(zip(own, states, strict=True))
        return [
            torch.stack([given.get(name, mine[name]) for mine, given in members])
            if name in self._stacked
            else own[0][name]
            for name in program.states
        ]


def check_alike(members: Sequence[Potential]) -> None:
    """Refuse potentials that cannot share a program.

    Raises:
        InputError: Names the member and what is different.
    """
    if not members:
        raise InputError("no members: give at least one potential")
    first, *others = members
    remedy = "members of one program differ in weights and buffers alone; run this one by itself"
    for k, member in enumerate(others, start=1):
        if type(member) is not type(first):
            raise InputError(f"member {k} is a {type(member).__name__}, member 0 a {type(first).__name__}: {remedy}")
        if not member.architecture:
            raise InputError(f"member {k} has no hyperparameters by which it could be known to be like member 0")
        for name in sorted(first.architecture.keys() | member.architecture.keys()):
            one, other = (model.architecture.get(name) for model in (first, member))
            if one != other:
                raise InputError(f"member {k} has {name}={other}, member 0 has {name}={one}: {remedy}")
        one_states, other_states = first.states(), member.states()
        for name in sorted(one_states.keys() | other_states.keys()):
            one, other = (_described(states.get(name)) for states in (one_states, other_states))
            if one != other:
                raise InputError(f"{name} is {other} in member {k}, but {one} in member 0: {remedy}")


def _described(tensor: Tensor | None) -> str:
    """Shape, precision and device of a tensor."""
    return "missing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"


def _own_names(members: Sequence[Potential]) -> set[str]:
    """Names of the states that each member has its own of: parameters, the rescaling, and buffers that differ.

    What is left is the same for all, such as the coupling coefficients of an equivariant network, and stands once.
    """
    first, *others = members
    names = {name for name, _ in first.named_parameters()}
    names |= {f"rescaling.{name}" for name, _ in first.rescaling.named_buffers()}
    states = [member.states() for member in others]
    return names | {name for name, own in first.states().items() if any(not torch.equal(own, s[name]) for s in states)}


def _rounded(size: int) -> int:
    """The next size of which there are `STEPS` between one power of two and the next."""
    step = max(1, 2 ** (max(size, 1) - 1).bit_length() // (2 * STEPS))
    return max(1, -(-size // step)) * step


def _padded(geometry: Geometry, room: Room, model: Potential) -> tuple[Tensor, ...]:
    """A geometry as the inputs of a program, with atoms and edges up to the size of a room.

    The atoms have no neighbours. The edges run from the first atom to itself, as if to a periodic image well beyond the
    cutoff, where every architecture's interaction and its derivatives are zero.
    """
    positions, atomic_numbers, edge_index, shift_vectors = geometry_tensors(geometry)
    atoms, edges = room.atoms - len(positions), room.edges - edge_index.shape[1]
    pad = torch.nn.functional.pad
    return (
        pad(positions, (0, 0, 0, atoms)),
        pad(atomic_numbers, (0, atoms), value=model.atomic_numbers[0]),
        pad(edge_index, (0, edges)),
        pad(shift_vectors, (0, 0, 0, edges), value=2.0 * model.cutoff),
    )


def _program(
    members: Sequence[Potential], stacked: frozenset[str], tensors: tuple[Tensor, ...], room: Room, backend: str | None
) -> Program:
    """The program of the members' architecture, mode, number and room, made where there is none yet."""
    model = members[0]
    kind = [model.architecture, sorted(stacked), len(members), room.atoms, room.edges]
    key = json.dumps([*kind, model.training, str(tensors[0].device), backend], sort_keys=True, default=repr)
    program = _programs.get(key) if model.architecture else None
    if program is None:
        graph, states = _mapped(model, stacked, len(members), tensors)
        run = graph if backend is None else torch.compile(graph, backend=backend, dynamic=False)
        program = _programs[key] = Program(run, states)
        if len(_programs) > KEPT:
            del _programs[next(iter(_programs))]
    return program


def _mapped(
    model: Potential, stacked: frozenset[str], members: int, tensors: tuple[Tensor, ...]
) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """A model's `derive` as a graph over stacked states, and the names of the states that it takes."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    graph, names = written_out(model, tensors, [None] * len(tensors))
    states = [model.states()[name] for name in names]
    shapes = FakeTensorMode(allow_non_fake_inputs=True)  # tracing needs shapes, not numbers
    alone = [shapes.from_tensor(tensor.detach()) for tensor in (*states, *tensors)]
    with shapes:
        # In two steps: operations in place have no rule to be mapped by, and neither have two that they turn into.
        functional = make_fx(torch.func.functionalize(graph), decomposition_table=_WITHOUT_RULE)(*alone)
        axes = tuple(0 if name in stacked else None for name in names) + (None,) * len(tensors)
        together = [x if axis is None else torch.stack([x] * members) for x, axis in zip(alone, axes, strict=True)]
        mapped = make_fx(torch.vmap(functional, in_dims=axes))(*together)
    mapped.graph.eliminate_dead_code()
    mapped.recompile()
    return mapped, names


def _copy(tensor: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """`aten::copy`, which has neither a derivative nor a rule to be mapped by."""
    return source.to(tensor.dtype).expand(tensor.shape)


def _fill(tensor: Tensor, value: float) -> Tensor:
    """`aten::fill`, which has no rule to be mapped by."""
    return torch.full_like(tensor, value)


_WITHOUT_RULE = {torch.ops.aten.copy.default: _copy, torch.ops.aten.fill.Scalar: _fill}
