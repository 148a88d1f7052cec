"""Potentials through `torch.compile`: the same numbers within rounding, from few large kernels instead of many small.

Forces are a derivative, and training derives them once more; torch.compile cannot follow a derivative inside what it
compiles. So the potential is first written out as one graph of plain operations, forces among them, with weights and
buffers as inputs; that graph is compiled, for any number of atoms and edges. There is one for evaluation and one for
training. Neither holds a weight: models of one architecture share them within a process, and torch keeps the
compiled kernels on disk for the next.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Potential

# An axis of length 0 or 1 is a case of its own to the compiler; so small a batch is evaluated as it is.
SMALLEST = 2

KEPT = 8  # programs of earlier models that a process keeps for later ones

DYNAMIC = (0, 0, 1, 0)  # the axis whose length varies, of each geometric input


@dataclass(frozen=True)
class Program:
    """A compiled graph and the parameters and buffers that it takes before the geometry, by name."""

    run: Callable[..., tuple[Tensor, Tensor]]
    states: tuple[str, ...]


_programs: dict[str, Program] = {}  # of this process, by architecture, device and mode


class Compiled:
    """Derives energies of atoms and forces in the place of `Potential.derive`; compiles when it is first called.

    Args:
        model: whose `compiled` this becomes.
        backend: of torch.compile.
    """

    def __init__(self, model: Potential, backend: str = "inductor") -> None:
        self._model = model
        self._backend = backend
        self._programs: dict[tuple[bool, torch.device], tuple[Program, list[tuple[dict[str, Any], str]]]] = {}

    def __call__(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """As `Potential.derive`."""
        model = self._model
        if min(len(batch.positions), batch.edge_index.shape[1]) < SMALLEST:
            return model.derive(batch)
        geometry = (batch.positions.detach(), batch.atomic_numbers, batch.edge_index, batch.shift_vectors())
        key = (model.training, batch.positions.device)
        if key not in self._programs:
            program = _program(model, geometry, self._backend)
            self._programs[key] = program, [_owner(model, name) for name in program.states]
        program, places = self._programs[key]
        for value, axis in zip(geometry, DYNAMIC, strict=True):
            torch._dynamo.maybe_mark_dynamic(value, axis)
        states = [owner[name] for owner, name in places]  # looked up at every call: they may have been replaced
        if model.training:
            return program.run(*states, *geometry)
        with torch.no_grad():  # and without the parameters' wish for gradients, which would be another case to compile
            return program.run(*(state.detach() for state in states), *geometry)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of the model, in this process or another, compiles for itself."""
        return Compiled, (self._model, self._backend)


def compile_potential(model: Potential, batch: GraphBatch, *, training: bool, backend: str = "inductor") -> float:
    """Have a potential compiled, on the device of its parameters; seconds that it took.

    Args:
        model: left in the mode it was in. Its numbers change within rounding.
        batch: any structures; what is compiled serves for others too.
        training: whether to compile for training besides evaluation.
        backend: of torch.compile.

    Raises:
        InputError: torch.compile does not work here, for want of a C++ compiler as a rule.
    """
    start = time.perf_counter()
    batch = batch.to(next(model.parameters()).device)
    before = model.training
    model.compiled = Compiled(model, backend)
    parameters = [p for p in model.parameters() if p.requires_grad]
    try:
        model.eval()(batch)
        if training and parameters:
            found = model.train()(batch)
            scalar = found.energy.sum() + found.forces.square().sum()
            torch.autograd.grad(scalar, parameters, allow_unused=True)
    except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.CppCompileError, OSError) as error:
        model.compiled = None
        reason = " ".join(str(error).partition("\n\n")[0].split())  # what follows is advice for torch's developers
        raise InputError(
            f"trainer.compile=true: torch.compile does not work here ({type(error).__name__}: {reason}); install a C++ "
            "compiler such as g++, or set trainer.compile=false"
        ) from error
    finally:
        model.train(before)
    return time.perf_counter() - start


def _program(model: Potential, geometry: tuple[Tensor, ...], backend: str) -> Program:
    """The program of a model's architecture and mode, made where there is none yet."""
    architecture = {name: value for name, value in model.hyperparameters.items() if name != "seed"}
    device = str(geometry[0].device)
    key = json.dumps([architecture, model.training, device, backend], sort_keys=True, default=repr)
    program = _programs.get(key) if architecture else None
    if program is None:
        graph, states = _written_out(model, geometry)
        program = _programs[key] = Program(torch.compile(graph, backend=backend), states)
        if len(_programs) > KEPT:
            del _programs[next(iter(_programs))]
    return program


def _written_out(model: Potential, geometry: tuple[Tensor, ...]) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """A model's `derive` as a graph of plain operations, and the names of the states that are its first inputs."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def derive(positions: Tensor, atomic_numbers: Tensor, edge_index: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        # Atoms do not care which system they belong to: one with a unit cell, so that shifts are in Å, serves for all.
        cell = torch.eye(3, dtype=positions.dtype, device=positions.device)[None]
        return model.derive(
            GraphBatch(positions, atomic_numbers, edge_index, shift, cell, torch.zeros_like(atomic_numbers))
        )

    graph = make_fx(derive, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*geometry)
    graph.graph.eliminate_dead_code()
    names = {id(value): name for name, value in (*model.named_parameters(), *model.named_buffers())}
    inputs: dict[str, fx.Node] = {}
    first = next(iter(graph.graph.nodes))
    for node in list(graph.graph.nodes):
        name = names.get(id(getattr(graph, node.target))) if node.op == "get_attr" else None
        if name is None:
            continue  # a constant of the architecture, or no constant at all
        if name not in inputs:
            with graph.graph.inserting_before(first):
                inputs[name] = graph.graph.placeholder(f"state_{len(inputs)}")
            inputs[name].meta.update(node.meta)
        node.replace_all_uses_with(inputs[name])
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return graph, tuple(inputs)


def _owner(model: Potential, name: str) -> tuple[dict[str, Any], str]:
    """Where a module keeps a parameter or a buffer."""
    path, _, key = name.rpartition(".")
    module = model.get_submodule(path)
    return (module._parameters if key in module._parameters else module._buffers), key
