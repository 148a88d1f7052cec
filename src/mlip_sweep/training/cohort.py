"""Members of a cohort: trainings that go in step and share forward and backward, while each keeps all else its own.

Every member is a whole run, with its own weights, optimiser, loss, averaging, checkpoints, records and fate, in a thread
of its own. Only one of them has the turn at a time, and keeps it until it asks for something that can be shared: the
energies and forces of a batch, or the gradients of its loss. It then waits. Once all members wait, what they ask for is
done: those that ask about the same batch through one program over all their weights (`models.mapped`), the others one
after the other; and the turns go round again. So the members run as if they were alone, one after the other, but for the
numbers that they share; nothing of them needs to be safe for threads, and their order is always the same.

A member that ends, fails or is given up leaves, and the others get faster.
"""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Potential, States
from mlip_sweep.models.mapped import MappedPotential, check_alike

_membership: contextvars.ContextVar["Member | None"] = contextvars.ContextVar("membership", default=None)


def membership() -> "Member | None":
    """The member of a cohort that runs in this thread; None in any other."""
    return _membership.get()


class Member:
    """One run of a cohort, in a thread of its own.

    Args:
        cohort: that it belongs to.
        work: the run.
    """

    def __init__(self, cohort: "Cohort", work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.cohort = cohort
        self._work = work
        self._turn = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def share(self, model: Potential, *, compiled: bool = False) -> None:
        """Have a model's energies, forces and gradients computed together with those of the other members.

        Args:
            model: of this member.
            compiled: whether the shared program goes through torch.compile.
        """
        model.compiled = Shared(self, model, "inductor" if compiled else None)

    def ask(self, request: "Forward | Backward") -> Any:
        """Wait until all members wait, and answer what was done for this one."""
        return self.cohort.exchange(self, request)

    def _run(self) -> None:
        _membership.set(self)
        self._turn.acquire()
        try:
            self.result = self._work()
        except BaseException as error:  # this member's own affair
            self.error = error
        finally:
            self.cohort.leave(self)


class Cohort:
    """Runs works in step.

    Args:
        works: one for each member, which call `membership().share(model)` on the model that they train.
        surroundings: answers what puts the process back into the state that a member has left it in, such as the
            config that a library keeps for the whole process; asked before a member gives its turn away.
    """

    def __init__(
        self, works: Sequence[Callable[[], Any]], surroundings: Callable[[], Callable[[], None]] = lambda: lambda: None
    ) -> None:
        self.members = [Member(self, work) for work in works]
        self.stopped = False
        self._surroundings = surroundings
        self._kinds: list[Potential] = []
        self._programs: dict[tuple[int, ...], MappedPotential] = {}
        self._runnable: deque[Member] = deque(self.members)
        self._waiting: dict[Member, Forward | Backward] = {}
        self._answers: dict[Member, Any] = {}
        self._ended = threading.Event()

    def run(self) -> list[Member]:
        """Run all members to their ends; afterwards each has its result or its error.

        Raises:
            KeyboardInterrupt: the user has pressed Ctrl-C: every member has ended by it.
        """
        for member in self.members:
            member._thread.start()
        self._pass_on()
        try:
            self._ended.wait()
        except BaseException:
            self.stopped = True
            self._ended.wait()
            raise
        return self.members

    def kind_of(self, model: Potential) -> int:
        """A number that is the same for potentials that can share a program."""
        for kind, other in enumerate(self._kinds):
            try:
                check_alike([other, model])
            except InputError:
                continue
            return kind
        self._kinds.append(model)
        return len(self._kinds) - 1

    def program_of(self, models: Sequence[Potential], backend: str | None) -> MappedPotential:
        """The program of some members, which is kept as long as they stay together."""
        key = tuple(map(id, models))
        if key not in self._programs:
            self._programs[key] = MappedPotential(models, backend=backend)
        return self._programs[key]

    def exchange(self, member: Member, request: "Forward | Backward") -> Any:
        """Give the turn away, and take it again with the answer to a request."""
        self._waiting[member] = request
        restore = self._surroundings()
        self._pass_on()
        member._turn.acquire()
        restore()
        if self.stopped:
            raise KeyboardInterrupt
        answer = self._answers.pop(member)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def leave(self, member: Member) -> None:
        """A member has ended."""
        self._waiting.pop(member, None)
        self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn to the next member; where all wait, serve them first."""
        if not self._runnable:
            if not self._waiting:
                self._ended.set()
                return
            if not self.stopped:
                self._serve()
            self._runnable.extend(member for member in self.members if member in self._waiting)
            self._waiting.clear()
        self._runnable.popleft()._turn.release()

    def _serve(self) -> None:
        groups: list[list[tuple[Member, Forward | Backward]]] = []
        for member in self.members:
            if (request := self._waiting.get(member)) is None:
                continue
            same = next((group for group in groups if group[0][1].goes_with(request)), None)
            if same is None:
                groups.append(same := [])
            same.append((member, request))
        for group in groups:
            try:
                answers = type(group[0][1]).serve([request for _, request in group])
            except Exception as error:  # each member hears of it, and fails by itself
                answers = [error] * len(group)
            self._answers |= dict(zip((member for member, _ in group), answers, strict=True))


@dataclass
class Forward:
    """A member asks for the energies of atoms and the forces of a batch."""

    cohort: Cohort
    kind: int
    model: Potential
    states: States
    geometry: Geometry
    backend: str | None

    def goes_with(self, other: Any) -> bool:
        """Whether one program serves both."""
        return (
            isinstance(other, Forward)
            and (self.kind, self.backend, self.model.training) == (other.kind, other.backend, other.model.training)
            and _equal(self.geometry, other.geometry)
        )

    @staticmethod
    def serve(requests: Sequence["Forward"]) -> list["Answer"]:
        """Energies and forces of all."""
        models = [request.model for request in requests]
        states = [request.states for request in requests]
        together = _Together(len(requests))
        training = models[0].training
        with torch.set_grad_enabled(training):  # whatever the thread is doing that serves
            if len(requests) == 1 and requests[0].backend is None:
                energies, forces = (one[None] for one in models[0].derive(states[0], requests[0].geometry))
            else:
                # A program is made for a number of members. As members leave, few numbers occur: those that are missing
                # to the next power of two are computed twice, which costs less than a new program.
                missing = (1 << (len(models) - 1).bit_length()) - len(models)
                program = requests[0].cohort.program_of(models + models[-1:] * missing, requests[0].backend)
                energies, forces = program.derive(states + states[-1:] * missing, requests[0].geometry)
        if training:
            together.outputs = (energies, forces)
            together.parameters = [[p for p in model.parameters() if p.requires_grad] for model in models]
        return [Answer(energies[k].detach(), forces[k].detach(), together, k) for k in range(len(requests))]


@dataclass
class _Together:
    """What was computed together, until its gradients have been."""

    members: int
    outputs: tuple[Tensor, Tensor] | None = None
    parameters: list[list[Tensor]] = field(default_factory=list)


@dataclass
class Answer:
    """Energies of atoms (N,) eV and forces (N, 3) eV/Å of one member, and its place among what was computed together."""

    energies: Tensor
    forces: Tensor
    together: _Together
    place: int


@dataclass
class Backward:
    """A member asks for the gradients of its loss, whose derivatives by its energies and forces are known."""

    answer: Answer
    by_energies: Tensor
    by_forces: Tensor

    def goes_with(self, other: Any) -> bool:
        """Whether both come from the same energies and forces."""
        return isinstance(other, Backward) and self.answer.together is other.answer.together

    @staticmethod
    def serve(requests: Sequence["Backward"]) -> list[list[Tensor | None]]:
        """Gradients by the parameters of each."""
        together = requests[0].answer.together
        if together.outputs is None:
            raise RuntimeError("the gradients of this batch have been computed")
        energies, forces = together.outputs
        by_energies, by_forces = torch.zeros_like(energies), torch.zeros_like(forces)
        for request in requests:
            by_energies[request.answer.place] = request.by_energies
            by_forces[request.answer.place] = request.by_forces
        wanted = [parameter for request in requests for parameter in together.parameters[request.answer.place]]
        gradients = iter(torch.autograd.grad([energies, forces], wanted, [by_energies, by_forces], allow_unused=True))
        together.outputs = None
        return [[next(gradients) for _ in together.parameters[request.answer.place]] for request in requests]


class Shared:
    """Derives in the place of `Potential.derive`, together with the other members.

    Args:
        member: whose model it is.
        model: the model.
        backend: of torch.compile, or None.
    """

    def __init__(self, member: Member, model: Potential, backend: str | None) -> None:
        self._member = member
        self._model = model
        self._backend = backend
        self._kind = member.cohort.kind_of(model)
        self._last: tuple[Answer, Tensor, Tensor] | None = None

    def __call__(self, states: States, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """As `Potential.derive`; in training, the loss of what it gives is to be derived by `backward`."""
        answer: Answer = self._member.ask(
            Forward(self._member.cohort, self._kind, self._model, states, geometry, self._backend)
        )
        if not self._model.training:
            return answer.energies, answer.forces
        energies, forces = answer.energies.requires_grad_(), answer.forces.requires_grad_()
        self._last = answer, energies, forces
        return energies, forces

    def backward(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        """Gradients of a loss of the last energies and forces, added to those of the parameters."""
        if self._last is None:
            raise RuntimeError("there is no batch whose gradients could be computed")
        (answer, *outputs), self._last = self._last, None
        by = torch.autograd.grad(loss, outputs, allow_unused=True)
        filled = [torch.zeros_like(o) if one is None else one for one, o in zip(by, outputs, strict=True)]
        gradients = self._member.ask(Backward(answer, *filled))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:  # laid out as the parameter is: fused optimisers go through both as they lie
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            else:
                parameter.grad += gradient


def _equal(a: Geometry, b: Geometry) -> bool:
    return all(
        x.shape == y.shape and torch.equal(x, y)
        for x, y in (
            (a.positions, b.positions),
            (a.atomic_numbers, b.atomic_numbers),
            (a.edge_index, b.edge_index),
            (a.edge_shift_vectors, b.edge_shift_vectors),
        )
    )
