"""Potentials of one architecture in one program: every operation is done for all of them at once.

A batch of small graphs keeps a processor busy for less time than the hundreds of calls that it takes. Potentials that
share an architecture can share the calls: their weights are stacked along a leading axis of K, their geometries too,
and each operation runs over that axis.

Forces are a derivative, training derives them once more, and neither `torch.vmap` nor `torch.compile` can follow a
derivative inside what they are given. So `Potential.derive`, a function of (states, geometry), is first written out as
a graph of plain operations, forces among them. That graph is freed of operations in place, mapped over the axis by
`torch.vmap`, and then runs as it is or through torch.compile, for any number of potentials, atoms and edges.

Tracing with symbols in the place of sizes does not get through `torch.vmap`, some of whose rules ask for numbers. So
sizes are large primes while the graph is written out, on tensors that have a shape and no content, and each number in
it that is a multiple of a prime becomes a multiple of the size that it stands for.
"""

import json
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.errors import InputError
from mlip_sweep.models.cleanup import clean
from mlip_sweep.models.interface import Derived, Potential, States

KEPT = 16  # programs that a process keeps for later potentials

SMALLEST = 2  # an axis of length 0 or 1 is a case of its own to the compiler: geometries are filled up to two

# Sizes while a graph is written out: primes that no number of an architecture is a multiple of.
MEMBERS, ATOMS, EDGES = 10007, 20011, 40009


@dataclass(frozen=True)
class Evaluation:
    """What is to be derived: a potential at a geometry.

    Attributes:
        model: The potential.
        states: Tensors in the place of its own parameters and buffers, by name.
        geometry: Atoms and edges, on the device of the potential.
        virials: Whether to derive the virials of atoms too.
    """

    model: Potential
    states: States
    geometry: Geometry
    virials: bool = False


@dataclass(frozen=True)
class Program:
    """A graph of energies and their derivatives.

    Attributes:
        run: Takes states and the four tensors of a geometry.
        states: Names of the states that it takes, in order.
        own: Those of them that stand once for each potential; the others are the same for all.
    """

    run: Callable[..., Derived]
    states: tuple[str, ...]
    own: frozenset[str]


_programs: dict[str, Program] = {}  # of this process


def derive_together(evaluations: Sequence[Evaluation], backend: str | None = None) -> Derived:
    """What `Potential.derive` gives for each of K evaluations, within rounding.

    None depends on the others: one whose weights are no longer finite spoils nothing. Geometries may differ in size;
    N is the largest number of atoms, and what lies beyond the atoms of an evaluation means nothing.

    Args:
        evaluations: Of potentials that can share a program (`check_alike`), all in the same mode, all with virials or
            none. A potential may occur in several of them.
        backend: The backend of torch.compile, such as "inductor"; None runs the graph as it is.

    Returns:
        Energies (K, N) eV, forces (K, N, 3) eV/Å, and virials (K, N, 3, 3) eV where they were asked for, all float64;
        differentiable in the states only while the potentials are in training mode.

    Raises:
        KeyError: A state is of no parameter, and of no buffer that each potential has of its own.
        ValueError: Some potentials are in training mode and some are not, or some virials are asked for and some not.
        InputError: There is no compiler.
    """
    first = evaluations[0].model
    if any(one.model.training is not first.training for one in evaluations):
        raise ValueError("some potentials are in training mode and some are not; call train() or eval() on all")
    virials = evaluations[0].virials
    if any(one.virials is not virials for one in evaluations):
        raise ValueError("the virials of some are asked for and of some not; ask for all or none")
    geometry = _stacked_geometries(evaluations)
    program = _program(first, geometry[0].device, backend, virials)
    inputs = [*_stacked_states(evaluations, program), *geometry]
    if backend is not None:
        for tensor, name in zip(inputs, program.states, strict=False):
            if name in program.own:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        for tensor, axis in zip(geometry, (1, 1, 2, 1), strict=True):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
            torch._dynamo.maybe_mark_dynamic(tensor, axis)
    with torch.set_grad_enabled(first.training and torch.is_grad_enabled()), compiler_needed():
        derived = program.run(*inputs)
    n_atoms = max(len(one.geometry.positions) for one in evaluations)
    return tuple(output[:, :n_atoms] for output in derived)


def check_alike(first: Potential, other: Potential) -> None:
    """Refuse a potential that cannot share a program with another.

    Raises:
        InputError: Names what is different.
    """
    remedy = "potentials of one program differ in weights and constants alone; run this one by itself"
    if type(other) is not type(first):
        raise InputError(f"a {type(other).__name__} beside a {type(first).__name__}: {remedy}")
    if not other.architecture:
        raise InputError(f"a {type(other).__name__} without hyperparameters, by which it could be known: {remedy}")
    for name in sorted(first.architecture.keys() | other.architecture.keys()):
        its, ours = (model.architecture.get(name) for model in (other, first))
        if its != ours:
            raise InputError(f"{name}={its} beside {name}={ours}: {remedy}")
    own = own_states(first)
    for name in sorted(first.states().keys() | other.states().keys()):
        its, ours = (model.states().get(name) for model in (other, first))
        if _described(its) != _described(ours):
            raise InputError(f"{name}: {_described(its)} beside {_described(ours)}: {remedy}")
        if name not in own and not torch.equal(its, ours):  # type: ignore[arg-type]  # the same, so neither is missing
            raise InputError(f"{name} has other values: {remedy}")


def own_states(model: Potential) -> frozenset[str]:
    """Names of the states that each potential has of its own: parameters, rescaling, and constants of one number.

    The average number of neighbours is such a constant. Other buffers, such as the coupling coefficients of an
    equivariant network, belong to the architecture and stand once.
    """
    names = {name for name, _ in model.named_parameters()}
    names |= {f"rescaling.{name}" for name, _ in model.rescaling.named_buffers()}
    return frozenset(names | {n for n, s in model.states().items() if s.numel() == 1 and s.is_floating_point()})


@contextmanager
def compiler_needed() -> Iterator[None]:
    """What is done inside may compile.

    Raises:
        InputError: torch.compile does not work here, as a rule because there is no C++ compiler.
    """
    try:
        yield
    except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.CppCompileError, OSError) as error:
        reason = " ".join(str(error).partition("\n\n")[0].split())  # what follows is advice for torch's developers
        raise InputError(
            f"trainer.compile=true: torch.compile does not work here ({type(error).__name__}: {reason}); install a C++ "
            "compiler such as g++, or set trainer.compile=false"
        ) from error


def _described(tensor: Tensor | None) -> str:
    """Shape, precision and device of a tensor."""
    return "missing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"


def _stacked_states(evaluations: Sequence[Evaluation], program: Program) -> list[Tensor]:
    """The states that a program takes: stacked where each potential has its own, else the first one's."""
    own = [one.model.states() for one in evaluations]
    for one, states in zip(evaluations, own, strict=True):
        for name, state in one.states.items():
            if name not in program.own and state is not states.get(name):
                raise KeyError(f"{name} is no parameter, nor a buffer that each potential has of its own")
    training = evaluations[0].model.training
    inputs = []
    for name in program.states:
        if name in program.own:
            tensor = torch.stack(
                [one.states.get(name, states[name]) for one, states in zip(evaluations, own, strict=True)]
            )
        else:
            tensor = own[0][name]
        # In evaluation, what asks for gradients would be another case to compile.
        inputs.append(tensor if training else tensor.detach())
    return inputs


def _stacked_geometries(evaluations: Sequence[Evaluation]) -> list[Tensor]:
    """Geometries as the inputs of a program, filled up to the size of the largest.

    With atoms that have no neighbours, and with edges from the first atom to itself, as if to a periodic image well
    beyond the cutoff, where every architecture's interaction and its derivatives are zero.
    """
    model, parts = evaluations[0].model, [one.geometry for one in evaluations]
    atoms = max(SMALLEST, *(len(part.positions) for part in parts))
    edges = max(SMALLEST, *(part.edge_index.shape[1] for part in parts))
    every = []
    for part in parts:
        tensors = geometry_tensors(part)
        more_atoms, more_edges = atoms - len(part.positions), edges - part.edge_index.shape[1]
        if more_atoms or more_edges:
            pad = torch.nn.functional.pad
            positions, atomic_numbers, edge_index, shift_vectors = tensors
            tensors = (
                pad(positions, (0, 0, 0, more_atoms)),
                pad(atomic_numbers, (0, more_atoms), value=model.atomic_numbers[0]),
                pad(edge_index, (0, more_edges)),
                pad(shift_vectors, (0, 0, 0, more_edges), value=2.0 * model.cutoff),
            )
        every.append(tensors)
    return [torch.stack(same) for same in zip(*every, strict=True)]


def geometry_tensors(geometry: Geometry) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A geometry as a program takes it."""
    return (
        geometry.positions.detach(),
        geometry.atomic_numbers,
        geometry.edge_index,
        geometry.edge_shift_vectors,
    )


def _program(model: Potential, device: torch.device, backend: str | None, virials: bool) -> Program:
    """The program of an architecture and mode, made where there is none yet."""
    if not model.architecture:
        raise InputError(f"a {type(model).__name__} without hyperparameters, by which its program could be known again")
    key = json.dumps([model.architecture, model.training, virials, str(device), backend], sort_keys=True, default=repr)
    program = _programs.get(key)
    if program is None:
        own = own_states(model)
        graph, states = written_out(model, own, device, virials)
        run = graph if backend is None else torch.compile(graph, backend=backend)
        program = _programs[key] = Program(run, states, own)
        if len(_programs) > KEPT:
            del _programs[next(iter(_programs))]
    return program


def written_out(
    model: Potential, own: frozenset[str], device: torch.device, virials: bool
) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """A potential's `derive`, in the mode that it is in, as a graph of plain operations over stacked inputs.

    Args:
        model: The potential.
        own: Names of the states that are stacked.
        device: Of its tensors.
        virials: Whether to derive the virials of atoms too.

    Returns:
        The graph, for any numbers of potentials, atoms and edges, and the names of the states that it takes before the
        geometry.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    states = model.states()

    def derive(*inputs: Tensor) -> Derived:
        given = dict(zip(states, inputs, strict=False))
        return model.derive(given, Geometry(*inputs[len(states) :]), virials)

    shapes = FakeTensorMode(allow_non_fake_inputs=True)
    with shapes:
        geometry = (
            torch.empty(ATOMS, 3, dtype=torch.float64, device=device),
            torch.empty(ATOMS, dtype=torch.int64, device=device),
            torch.empty(2, EDGES, dtype=torch.int64, device=device),
            torch.empty(EDGES, 3, dtype=torch.float64, device=device),
        )
    fake = {name: shapes.from_tensor(state.detach()) for name, state in states.items()}
    with shapes:
        graph = make_fx(derive)(*fake.values(), *geometry)
        _keep_dependence(graph.graph)
        names = _without_unused(graph, tuple(states))
        alone = [fake[name] for name in names]
        # In two steps: operations in place have no rule to be mapped by, and neither have two that they turn into.
        functional = make_fx(torch.func.functionalize(graph), decomposition_table=_WITHOUT_RULE)(*alone, *geometry)
        axes = [0 if name in own else None for name in names] + [0] * len(geometry)
        together = [
            x if axis is None else x.new_empty(MEMBERS, *x.shape)
            for x, axis in zip((*alone, *geometry), axes, strict=True)
        ]
        mapped = make_fx(torch.vmap(functional, in_dims=tuple(axes)))(*together)
        clean(mapped.graph)
    _free_sizes(mapped.graph)
    mapped.recompile()
    return mapped, names


def _keep_dependence(graph: fx.Graph) -> None:
    """Take `detach` from a graph, so that its outputs have all derivatives by the weights.

    A derivative that reuses the result of its own operation, such as that of a square root, is written out with that
    result detached, and would not be derived again by what the result depends on. The other ones are of geometries,
    which do not depend on weights.
    """
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)


def _without_unused(graph: fx.GraphModule, names: tuple[str, ...]) -> tuple[str, ...]:
    """Take the states from a graph that it does not look at; the names of those that are left."""
    graph.graph.eliminate_dead_code()
    used = []
    for name, node in zip(names, graph.graph.find_nodes(op="placeholder"), strict=False):
        if node.users:
            used.append(name)
        else:
            graph.graph.erase_node(node)
    graph.recompile()
    return tuple(used)


def _free_sizes(graph: fx.Graph) -> None:
    """Put sizes of the inputs in the place of every multiple of the primes that stood for them."""
    positions, _, _, shift_vectors = graph.find_nodes(op="placeholder")[-4:]
    start = shift_vectors.next
    nodes = [node for node in graph.nodes if node.op in ("call_function", "output")]
    with graph.inserting_before(start):
        size = torch.ops.aten.sym_size.int
        sizes = [
            (MEMBERS, graph.call_function(size, (positions, 0))),
            (ATOMS, graph.call_function(size, (positions, 1))),
            (EDGES, graph.call_function(size, (shift_vectors, 1))),
        ]
    products: dict[int, Any] = {}

    def freed(value: Any) -> Any:
        if type(value) is not int or value == 0 or abs(value) > 2**60:  # beyond are ends of slices that mean "all"
            return value
        if value not in products:
            factors: list[Any] = []
            rest = value
            for prime, node in sizes:
                while rest % prime == 0:
                    rest //= prime
                    factors.append(node)
            if rest != 1 or not factors:
                factors.append(rest)
            with graph.inserting_before(start):
                products[value] = reduce(lambda a, b: graph.call_function(operator.mul, (a, b)), factors)
        return products[value]

    for node in nodes:
        node.args = fx.node.map_aggregate(node.args, freed)
        node.kwargs = fx.node.map_aggregate(node.kwargs, freed)


def _copy(tensor: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """`aten::copy`, which has neither a derivative nor a rule to be mapped by."""
    return source.to(tensor.dtype).expand(tensor.shape)


def _fill(tensor: Tensor, value: float) -> Tensor:
    """`aten::fill`, which has no rule to be mapped by."""
    return torch.full_like(tensor, value)


def _index_add(tensor: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """`aten::index_add`, whose rule to be mapped by takes the potentials one by one."""
    along = index.reshape([-1 if axis == dim % source.dim() else 1 for axis in range(source.dim())])
    return tensor.scatter_add(dim, along.expand(source.shape), source if alpha == 1 else alpha * source)


_WITHOUT_RULE: dict[torch._ops.OpOverload, Callable[..., Tensor]] = {
    torch.ops.aten.copy.default: _copy,
    torch.ops.aten.fill.Scalar: _fill,
    torch.ops.aten.index_add.default: _index_add,
}
