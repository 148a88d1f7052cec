"""Members of a cohort: trainings that go in step and share forward and backward, while each keeps all else its own.

Every member is a whole run, with its own weights, optimiser, loss, averaging, checkpoints, records and fate, in a
thread of its own. Only one of them has the turn at a time, and keeps it until it asks for something that can be shared:
the energies and forces of a batch, or the gradients of its loss. It then waits. Once all members wait, what they ask
for is done: for all members of one architecture through one program (`models.mapped`), each with its own weights and
its own batch. And the turns go round again. So the members run as if they were alone, one after the other, but for the
numbers that they share; nothing of them needs to be safe for threads, and their order is always the same.

A member that ends, fails or is given up leaves, and the others get faster.
"""

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlip_sweep.clock import Clock, set_clock
from mlip_sweep.data.graphs import Geometry
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Derived, Potential, States, deriving_by
from mlip_sweep.models.mapped import Evaluation, check_alike, derive_together
from optuna_async.outcome import is_out_of_memory

log = logging.getLogger(__name__)

# Geometries of one program are filled up to the largest. That pays while what is filled up is less than this share of
# the whole, or less than a program's calls cost by themselves: about as many atoms and edges, of NequIP and of MACE.
FILLED_UP = 0.25
COST_OF_CALLS = 1000

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
        self.clock = Clock()
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
        set_clock(self.clock)
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
        self._stopped: BaseException | None = None
        self._surroundings = surroundings
        self._kinds: list[Potential] = []
        self._most = len(works)  # so many at once
        self._runnable: deque[Member] = deque()
        self._waiting: dict[Member, Forward | Backward] = {}
        self._answers: dict[Member, Any] = {}
        self._turn = threading.Semaphore(0)  # of the thread that serves

    def run(self) -> list[Member]:
        """Run all members to their ends; afterwards each has its result or its error.

        Raises:
            BaseException: What a signal has raised, such as KeyboardInterrupt; every member has ended by it.
        """
        for member in self.members:
            member._thread.start()
        self._runnable.extend(self.members)
        self._pass_on()
        while self._take_turn():
            if self._stopped is None:
                try:
                    self._serve()
                except BaseException as signal:
                    self._stopped = signal
            self._runnable.extend(member for member in self.members if member in self._waiting)
            self._waiting.clear()
            self._pass_on()
        if self._stopped is not None:
            raise self._stopped
        return self.members

    def _take_turn(self) -> bool:
        """Wait until all members wait; False once there is none left."""
        while True:
            try:
                self._turn.acquire()
                return bool(self._waiting)
            except BaseException as signal:
                if self._stopped is not None:  # a second one: not even the ends of the members are waited for
                    raise
                self._stopped = signal

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
        begin = time.perf_counter()
        self._pass_on()
        member._turn.acquire()
        member.clock.waited += time.perf_counter() - begin
        restore()
        if self._stopped is not None:
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
        """Give the turn to the next member; where there is none, to the thread that serves."""
        (self._runnable.popleft() if self._runnable else self)._turn.release()

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
        for part in (part for group in groups for part in self._of_a_size(group)):
            begin = time.perf_counter()
            answers = self._served([self._waiting[member] for member in part])
            share = (time.perf_counter() - begin) / len(part)
            for member in part:
                member.clock.shared += share
            self._answers |= dict(zip(part, answers, strict=True))

    def _of_a_size(self, group: Sequence[Member]) -> list[list[Member]]:
        """Parts of a group that wait for one program, in which it pays to fill up the smaller geometries."""

        def size(member: Member) -> int:
            return self._waiting[member].size

        parts: list[list[Member]] = []
        filled = 0
        for member in sorted(group, key=size, reverse=True):
            if parts:
                largest = size(parts[-1][0])
                filled += largest - size(member)
                if filled <= max(COST_OF_CALLS, FILLED_UP * largest * (len(parts[-1]) + 1)):
                    parts[-1].append(member)
                    continue
            parts.append([member])
            filled = 0
        return parts

    def _served(self, requests: Any) -> list[Any]:
        """Answers to requests of one kind, or the error that each is to hear of, and fail by itself."""
        if len(requests) <= self._most:
            try:
                answers: list[Any] = type(requests[0]).serve(requests)
                return answers
            except Exception as error:
                if len(requests) == 1 or not is_out_of_memory(error):
                    return [error] * len(requests)
            self._most = len(requests) // 2  # told outside of the handler, which holds what has taken the memory
            log.warning("memory does not suffice for %d at once: from here on %d", len(requests), self._most)
        return [
            answer
            for start in range(0, len(requests), self._most)
            for answer in self._served(requests[start : start + self._most])
        ]


@dataclass
class Forward:
    """A member asks for the energies of atoms and their derivatives, of its potential at a geometry."""

    kind: int
    evaluation: Evaluation
    backend: str | None

    def goes_with(self, other: Any) -> bool:
        """Whether one program serves both."""
        if not isinstance(other, Forward):
            return False
        if (self.kind, self.backend, self.training) != (other.kind, other.backend, other.training):
            return False
        return self.evaluation.virials is other.evaluation.virials

    @property
    def training(self) -> bool:
        """Whether gradients will be asked for."""
        return self.evaluation.model.training

    @property
    def size(self) -> int:
        """Atoms and edges, by which the work grows."""
        geometry = self.evaluation.geometry
        return len(geometry.positions) + geometry.edge_index.shape[1]

    @staticmethod
    def serve(requests: Sequence["Forward"]) -> list["Answer"]:
        """What each asks for."""
        together = Together([request.evaluation for request in requests], requests[0].backend)
        derived = together.compute()
        if requests[0].training:
            together.outputs = derived
        answers = []
        for row, request in enumerate(requests):
            n_atoms = len(request.evaluation.geometry.positions)
            answers.append(Answer(tuple(output[row, :n_atoms].detach() for output in derived), together, row))
        return answers


@dataclass
class Together:
    """What is computed together.

    Attributes:
        evaluations: K of them.
        backend: Of torch.compile, or None.
        outputs: In training, what was derived of all K, until the gradients of it are taken.
    """

    evaluations: Sequence[Evaluation]
    backend: str | None
    outputs: Derived | None = None

    def compute(self) -> Derived:
        """As `derive_together`."""
        with torch.set_grad_enabled(self.evaluations[0].model.training):  # whatever the thread is doing that serves
            if len(self.evaluations) == 1 and self.backend is None:
                one = self.evaluations[0]
                derived = one.model.derive(one.states, one.geometry, one.virials)
                return tuple(output[None] for output in derived)
            return derive_together(self.evaluations, self.backend)


@dataclass
class Answer:
    """Energies of the atoms of one member and their derivatives, and its row in what was computed together."""

    derived: Derived
    together: Together
    row: int


@dataclass
class Backward:
    """A member asks for the gradients of its loss, whose derivatives by what was derived for it are known.

    Attributes:
        answer: What the loss is of.
        by_derived: Derivative of the loss by each tensor of the answer, in its shape.
        parameters: Of which the gradients are wanted.
    """

    answer: Answer
    by_derived: Derived
    parameters: Sequence[Tensor]
    size: int = 0  # nothing is filled up

    def goes_with(self, other: Any) -> bool:
        """Whether what both come from was computed together."""
        return isinstance(other, Backward) and self.answer.together is other.answer.together

    @staticmethod
    def serve(requests: Sequence["Backward"]) -> list[list[Tensor | None]]:
        """Gradients by the parameters of each."""
        together = requests[0].answer.together
        rows = [request.answer.row for request in requests]
        outputs, together.outputs = together.outputs, None
        if outputs is None:  # memory did not suffice for the gradients of all: in parts, from the beginning
            outputs = Together([together.evaluations[row] for row in rows], together.backend).compute()
            rows = list(range(len(rows)))
        by_outputs = [torch.zeros_like(output) for output in outputs]
        for row, request in zip(rows, requests, strict=True):
            for by_output, own in zip(by_outputs, request.by_derived, strict=True):
                by_output[row, : len(own)] = own
        wanted = [parameter for request in requests for parameter in request.parameters]
        gradients = iter(torch.autograd.grad(outputs, wanted, by_outputs, allow_unused=True))
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
        self._last: Answer | None = None

    def __call__(self, states: States, geometry: Geometry, virials: bool = False) -> Derived:
        """As `Potential.derive`; in training, the loss of what it gives is to be derived by `backward`."""
        request = Forward(self._kind, Evaluation(self._model, states, geometry, virials), self._backend)
        answer: Answer = self._member.ask(request)
        if self._model.training:
            for output in answer.derived:
                output.requires_grad_()
            self._last = answer
        return answer.derived

    def alone(self, states: States, geometry: Geometry, virials: bool = False) -> Derived:
        """As `Potential.derive`, at once and for this member alone."""
        together = Together([Evaluation(self._model, states, geometry, virials)], self._backend)
        return tuple(output[0, : len(geometry.positions)] for output in together.compute())

    def backward(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        """Gradients of a loss of what was derived last, added to those of the parameters."""
        if self._last is None:
            raise RuntimeError("there is no batch whose gradients could be computed")
        answer, self._last = self._last, None
        # Zeros where the loss does not depend on something, such as the energies at a weight of 0.
        by_derived = torch.autograd.grad(loss, answer.derived, allow_unused=True, materialize_grads=True)
        gradients = self._member.ask(Backward(answer, by_derived, parameters))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:  # laid out as the parameter is: fused optimisers go through both as they lie
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            else:
                parameter.grad += gradient


def alone(model: Potential) -> AbstractContextManager[None]:
    """Evaluate the model of a member, in evaluation mode, by itself for a while, as where its time is measured."""
    derive = model.compiled
    return deriving_by(model, derive.alone if isinstance(derive, Shared) else derive)
