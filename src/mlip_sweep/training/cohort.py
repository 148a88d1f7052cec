"""Members of a cohort: trainings that go in step and share forward and backward, while each keeps all else its own.

Every member is a whole run, with its own weights, optimiser, loss, averaging, checkpoints, records and fate, in a thread
of its own. Only one of them has the turn at a time, and keeps it until it asks for something that can be shared: the
energies and forces of a batch, or the gradients of its loss. It then waits. Once all members wait, what they ask for is
done: for all members of one architecture through one program (`models.mapped`), each with its own weights and its own
batch; and the turns go round again. So the members run as if they were alone, one after the other, but for the
numbers that they share; nothing of them needs to be safe for threads, and their order is always the same.

A member that ends, fails or is given up leaves, and the others get faster.
"""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlip_sweep.data.graphs import Geometry
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Potential, States
from mlip_sweep.models.mapped import Evaluation, check_alike, derive_together

FILLED_UP = 1.25  # geometries of members are put together where none has to be filled up by more than this factor

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
                check_alike(other, model)
            except InputError:
                continue
            return kind
        self._kinds.append(model)
        return len(self._kinds) - 1

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
        """Do what all members wait for, those of one kind together."""
        groups: list[list[Member]] = []
        for member in (member for member in self.members if member in self._waiting):
            request = self._waiting[member]
            same = next((group for group in groups if self._waiting[group[0]].goes_with(request)), None)
            if same is None:
                groups.append([member])
            else:
                same.append(member)
        for group in groups:
            requests: Any = [self._waiting[member] for member in group]
            try:
                answers = type(requests[0]).serve(requests)
            except Exception as error:  # each member hears of it, and fails by itself
                answers = [error] * len(group)
            self._answers |= dict(zip(group, answers, strict=True))


@dataclass
class Forward:
    """A member asks for the energies of atoms and the forces of some evaluations of its potential, of one size."""

    kind: int
    evaluations: Sequence[Evaluation]
    backend: str | None

    def goes_with(self, other: Any) -> bool:
        """Whether one program serves both, without filling up much."""
        if not isinstance(other, Forward):
            return False
        if (self.kind, self.backend, self._training) != (other.kind, other.backend, other._training):
            return False
        return all(max(pair) <= FILLED_UP * min(pair) for pair in zip(self._size, other._size, strict=True))

    @property
    def _training(self) -> bool:
        return self.evaluations[0].model.training

    @property
    def _size(self) -> tuple[int, int]:
        """Numbers of atoms and of edges."""
        geometry = self.evaluations[0].geometry
        return len(geometry.positions), geometry.edge_index.shape[1]

    @staticmethod
    def serve(requests: Sequence["Forward"]) -> list["Answer"]:
        """Energies and forces of all."""
        first = requests[0]
        evaluations = [one for request in requests for one in request.evaluations]
        with torch.set_grad_enabled(first._training):  # whatever the thread is doing that serves
            if len(evaluations) == 1 and first.backend is None:
                one = evaluations[0]
                energies, forces = (each[None] for each in one.model.derive(one.states, one.geometry))
            else:
                energies, forces = derive_together(evaluations, first.backend)
        together = _Together(energies, forces) if first._training else None
        answers, start = [], 0
        for request in requests:
            rows, n_atoms = slice(start, start := start + len(request.evaluations)), request._size[0]
            answers.append(
                Answer(energies[rows, :n_atoms].detach(), forces[rows, :n_atoms].detach(), together, rows.start)
            )
        return answers


@dataclass
class _Together:
    """What was computed together, until its gradients have been."""

    energies: Tensor
    forces: Tensor
    done: bool = False


@dataclass
class Answer:
    """Energies of atoms and forces of one member, and its place among what was computed together.

    Attributes:
        energies: (M, N) eV of M evaluations.
        forces: (M, N, 3) eV/Å.
        together: In training, what the gradients are taken of.
        row: Of the first evaluation there.
    """

    energies: Tensor
    forces: Tensor
    together: _Together | None
    row: int


@dataclass
class Backward:
    """A member asks for the gradients of its loss, whose derivatives by its energies and forces are known.

    Attributes:
        answer: What the loss is of.
        by_energies: (N,) derivative of the loss by the energies of atoms.
        by_forces: (N, 3) derivative by the forces.
        parameters: Of which the gradients are wanted.
    """

    answer: Answer
    by_energies: Tensor
    by_forces: Tensor
    parameters: Sequence[Tensor]

    def goes_with(self, other: Any) -> bool:
        """Whether both come from the same energies and forces."""
        return isinstance(other, Backward) and self.answer.together is other.answer.together

    @staticmethod
    def serve(requests: Sequence["Backward"]) -> list[list[Tensor | None]]:
        """Gradients by the parameters of each."""
        together = requests[0].answer.together
        if together is None or together.done:
            raise RuntimeError("the gradients of this batch have been computed")
        by_energies, by_forces = torch.zeros_like(together.energies), torch.zeros_like(together.forces)
        for request in requests:
            row, n_atoms = request.answer.row, len(request.by_energies)
            by_energies[row, :n_atoms] = request.by_energies
            by_forces[row, :n_atoms] = request.by_forces
        wanted = [parameter for request in requests for parameter in request.parameters]
        outputs, by = [together.energies, together.forces], [by_energies, by_forces]
        gradients = iter(torch.autograd.grad(outputs, wanted, by, allow_unused=True))
        together.done = True
        return [[next(gradients) for _ in request.parameters] for request in requests]


class Shared:
    """Derives in the place of `Potential.derive`, together with the other members.

    Args:
        member: Whose model it is.
        model: The model.
        backend: Of torch.compile, or None.
    """

    def __init__(self, member: Member, model: Potential, backend: str | None) -> None:
        self._member = member
        self._model = model
        self._backend = backend
        self._kind = member.cohort.kind_of(model)
        self._last: tuple[Answer, Tensor, Tensor] | None = None

    def __call__(self, states: States, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """As `Potential.derive`; in training, the loss of what it gives is to be derived by `backward`."""
        answer = self._ask([states], geometry)
        energies, forces = answer.energies[0], answer.forces[0]
        if self._model.training:
            self._last = answer, energies.requires_grad_(), forces.requires_grad_()
        return energies, forces

    def each(self, states: Sequence[States], geometry: Geometry) -> tuple[Tensor, Tensor]:
        """As `models.mapped.derive_each`, in evaluation mode."""
        answer = self._ask(states, geometry)
        return answer.energies, answer.forces

    def _ask(self, states: Sequence[States], geometry: Geometry) -> Answer:
        evaluations = [Evaluation(self._model, one, geometry) for one in states]
        answer: Answer = self._member.ask(Forward(self._kind, evaluations, self._backend))
        return answer

    def backward(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        """Gradients of a loss of the last energies and forces, added to those of the parameters."""
        if self._last is None:
            raise RuntimeError("there is no batch whose gradients could be computed")
        (answer, *outputs), self._last = self._last, None
        by = torch.autograd.grad(loss, outputs, allow_unused=True)
        filled = [torch.zeros_like(o) if one is None else one for one, o in zip(by, outputs, strict=True)]
        gradients = self._member.ask(Backward(answer, *filled, parameters))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:  # laid out as the parameter is: fused optimisers go through both as they lie
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            else:
                parameter.grad += gradient
