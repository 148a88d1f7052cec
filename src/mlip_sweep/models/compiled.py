"""Potentials through `torch.compile`: the same numbers within rounding, from few large kernels instead of many small.

Forces are a derivative, and training derives them once more; torch.compile cannot follow a derivative inside what it
compiles. So `Potential.derive`, a function of (states, geometry), is first written out as one graph of plain
operations, forces among them; that graph is compiled, for any number of atoms and edges. There is one for evaluation
and one for training. Neither holds a weight: models of one architecture share them within a process, whatever states
they are shown, and torch keeps the compiled kernels on disk for the next process.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mlip_sweep.data.graphs import Geometry, GraphBatch
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Potential, States

# An axis of length 0 or 1 is a case of its own to the compiler; so small a batch is evaluated as it is.
SMALLEST = 2

KEPT = 8  # programs of earlier models that a process keeps for later ones

VARYING_AXES = (0, 0, 1, 0)  # of positions, atomic numbers, edge index and shift vectors: the axis of atoms or edges


@dataclass(frozen=True)
class Program:
    """A compiled graph, and the names of the states that it takes before the four tensors of a geometry."""

    run: Callable[..., tuple[Tensor, Tensor]]
    states: tuple[str, ...]


_programs: dict[str, Program] = {}  # of this process, by architecture, device and mode


class Compiled:
    """Derives energies of atoms and forces in the place of `Potential.derive`; compiles when it is first called.

    Args:
        model: The potential whose `compiled` this becomes.
        backend: The backend of torch.compile.
    """

    def __init__(self, model: Potential, backend: str = "inductor") -> None:
        self._model = model
        self._backend = backend
        self._programs: dict[tuple[bool, torch.device], Program] = {}

    def __call__(self, states: States, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """As `Potential.derive`."""
        model = self._model
        if min(len(geometry.positions), geometry.edge_index.shape[1]) < SMALLEST:
            return model.derive(states, geometry)
        tensors = geometry_tensors(geometry)
        key = (model.training, geometry.positions.device)
        if key not in self._programs:
            self._programs[key] = _program(model, tensors, self._backend)
        program = self._programs[key]
        for tensor, axis in zip(tensors, VARYING_AXES, strict=True):
            torch._dynamo.maybe_mark_dynamic(tensor, axis)
        own = model.states()
        if states.keys() - own.keys():
            raise KeyError(f"{sorted(states.keys() - own.keys())} are no parameters or buffers of this model")
        inputs = [states.get(name, own[name]) for name in program.states]
        if model.training:
            return program.run(*inputs, *tensors)
        with torch.no_grad():  # and without parameters that ask for gradients, which would be another case to compile
            return program.run(*(state.detach() for state in inputs), *tensors)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of the model, in this process or another, compiles for itself."""
        return Compiled, (self._model, self._backend)


def compile_potential(model: Potential, batch: GraphBatch, *, training: bool, backend: str = "inductor") -> float:
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
        with compiler_needed():
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


def _program(model: Potential, tensors: tuple[Tensor, ...], backend: str) -> Program:
    """The program of a model's architecture and mode, made where there is none yet."""
    device = str(tensors[0].device)
    key = json.dumps([model.architecture, model.training, device, backend], sort_keys=True, default=repr)
    program = _programs.get(key) if model.architecture else None
    if program is None:
        graph, states = written_out(model, tensors, VARYING_AXES)
        program = _programs[key] = Program(torch.compile(graph, backend=backend), states)
        if len(_programs) > KEPT:
            del _programs[next(iter(_programs))]
    return program


def geometry_tensors(geometry: Geometry) -> tuple[Tensor, ...]:
    """A geometry as the inputs of a program, in the order of `VARYING_AXES`."""
    return (
        geometry.positions.detach(),
        geometry.atomic_numbers,
        geometry.edge_index,
        geometry.edge_shift_vectors,
    )


def written_out(
    model: Potential, tensors: tuple[Tensor, ...], varying: Sequence[int | None]
) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """A model's `derive` as a graph of plain operations of (states, geometry).

    Args:
        model: The potential, in the mode that the graph is for.
        tensors: A geometry, as of `geometry_tensors`.
        varying: The axis of each of them that may have any length in what the graph is shown; None where none may.

    Returns:
        The graph, and the names of the states that it takes before the geometry.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    own = model.states()

    def derive(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return model.derive(dict(zip(own, inputs, strict=False)), Geometry(*inputs[len(own) :]))

    # make_fx(tracing_mode="symbolic") makes symbols of the shapes of all its inputs, those of weights too. So the
    # inputs are made beforehand, states of fixed and geometry of free shapes, and traced as they are, as AOTAutograd
    # traces what Dynamo hands it (https://github.com/pytorch/pytorch/pull/96437).
    symbols = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fake = [symbols.from_tensor(state, static_shapes=True) for state in own.values()]
    for tensor, axis in zip(tensors, varying, strict=True):
        sizes = [DimDynamic.DYNAMIC if k == axis else DimDynamic.STATIC for k in range(tensor.dim())]
        fake.append(symbols.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes)))
    with symbols:
        graph = make_fx(derive)(*fake)
    graph.graph.eliminate_dead_code()
    used = []
    for name, node in zip(own, graph.graph.find_nodes(op="placeholder"), strict=False):
        if node.users:
            used.append(name)
        else:  # a buffer that the architecture does not look at; every input is checked at every call
            graph.graph.erase_node(node)
    graph.recompile()
    return graph, tuple(used)
