"""The contract that every interatomic potential keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from mlip_sweep.data.graphs import Geometry, GraphBatch
from mlip_sweep.errors import InputError
from mlip_sweep.models.filters import layer_layout
from mlip_sweep.models.rescaling import Rescaling

DTYPES = {"float32": torch.float32, "float64": torch.float64}

Cutoff = Annotated[float, Field(gt=0, le=100)]
"""The radius of an atom's neighbourhood, Å; a hundred would be a thousand times the neighbours of ten."""

SUPPLIED: Final = ("atomic_numbers", "avg_num_neighbors", "rescaling", "dtype", "seed")
"""Arguments of an architecture that come from the data and from other groups of a config."""

States = Mapping[str, Tensor]
"""Parameters and buffers of a model by name. Where a name is missing, the model's own tensor stands for it."""


@dataclass(frozen=True)
class Prediction:
    """What a potential says of a batch, all float64: energy (S,) eV, forces (N, 3) eV/Å, and stress (S, 3, 3) eV/Å³.

    The stress is there where it was asked for; it is NaN for a system that has no cell. A committee also says how far
    its members are apart (`mlip_sweep.models.committee`): energy_spread (S,) eV and forces_spread (N,) eV/Å.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor | None = None
    energy_spread: Tensor | None = None
    forces_spread: Tensor | None = None


Derived = tuple[Tensor, ...]
"""Of N atoms, all float64: energies (N,) eV, forces (N, 3) eV/Å, and virials (N, 3, 3) eV where they were asked for.

The virial of an atom is Σ ∂E/∂r ⊗ r over the edges to it, r their vectors.
"""


@dataclass(frozen=True)
class Library:
    """The library that an architecture is computed by.

    Attributes:
        distribution: Its name on PyPI.
        extra: The extra of this project that brings it.
    """

    distribution: str
    extra: str


class Potential(nn.Module, ABC):
    """A machine-learned interatomic potential, as a function of its states (parameters and buffers) and of a geometry.

    A subclass gives the energies of atoms in the network's own units (`atomic_energies`); this class turns them into
    total energies and forces, the same way for every architecture:

        E_s = Σ_{i in s} (scale · e_i + shift_{z_i}),   F_i = −∂E/∂r_i,   σ_s = 1/V_s Σ_{edges ij in s} ∂E/∂r_ij ⊗ r_ij

    The last is the derivative of the energy by a strain over the volume, since a strain moves every vector between two
    atoms in proportion to itself, and energies depend on nothing else.

    The sum over atoms and the shift are taken in float64: at -17,660 eV (3BPA) float32 has a spacing of 2 meV.

    | method                    | what it is                                                                         |
    | ------------------------- | ---------------------------------------------------------------------------------- |
    | `states()`                | the model's own parameters and buffers                                             |
    | `derive(states, geometry)`| energies of atoms and their derivatives under any states; `compiled` is made from it |
    | `predict(states, batch)`  | a `Prediction` under any states, compiled where the model is                       |
    | `forward(batch)`          | `predict` under the model's own states                                             |

    So other weights can be looked at without changing the model. Two limits of the functional form:

    - Modules look their tensors up by name, so states are a mapping, never one flat vector, as for
      `torch.func.functional_call` (https://docs.pytorch.org/docs/stable/generated/torch.func.functional_call.html).
    - It does not run under `torch.vmap` over states, which refuses the libraries' `scatter_add_` into a tensor that
      they made themselves, and MACE's `requires_grad_`
      (https://docs.pytorch.org/docs/stable/func.ux_limitations.html). Written out as plain operations, it does
      (`mlip_sweep.models.mapped`).

    A subclass also says what there is to know of its architecture, so that nothing else has to. It can be imported
    where its library is missing: the library is imported in the constructor. The types in the constructor's signature,
    with pydantic's constraints, are what a config is checked by, and `check` refuses what does not go together.

    Attributes:
        library: What it is computed by; None where nothing else is needed.
        weights_belong_to_e3nn: Whether the weights mean something only under the version of e3nn that they were trained
            under, since versions differ in the signs of Wigner-3j tensors.
        held_by_states: Hyperparameters whose whole effect is on the states, so that models which differ in nothing else
            can share a program.
        small: Hyperparameters that make any config narrow enough for tests, at the config's depth and orders.
        smallest: Hyperparameters that leave as little to compile as the architecture allows.
        cutoff: The radius of an atom's neighbourhood, Å.
        atomic_numbers: The elements that the model knows, sorted.
        dtype: The precision of the network.
        compiled: Derives in the place of `derive`, once the model is compiled, or shares a program with others.
        hyperparameters: What `checkpoint.load` needs to make the same network again.
    """

    library: ClassVar[Library | None] = None
    weights_belong_to_e3nn: ClassVar[bool] = False
    held_by_states: ClassVar[frozenset[str]] = frozenset({"seed"})
    small: ClassVar[Mapping[str, int]] = {}
    smallest: ClassVar[Mapping[str, int]] = {}

    def __init__(
        self, *, cutoff: float, atomic_numbers: Sequence[int], rescaling: Rescaling, dtype: str = "float32"
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise InputError(f"trainer.dtype={dtype!r}: choose one of {', '.join(DTYPES)}")
        self.cutoff = float(cutoff)
        self.atomic_numbers = tuple(sorted(int(z) for z in atomic_numbers))
        self.dtype = DTYPES[dtype]
        self.rescaling = rescaling
        self.compiled: Callable[[States, Geometry, bool], Derived] | None = None
        self.hyperparameters: dict[str, Any] = {}
        self._owners: dict[str, list[tuple[nn.Module, str, str]]] = {}  # name -> where the tensor is kept
        index = torch.full((max(self.atomic_numbers) + 1,), -1, dtype=torch.int64)
        index[list(self.atomic_numbers)] = torch.arange(len(self.atomic_numbers))
        self.register_buffer("element_index", index, persistent=False)  # atomic number -> 0, 1, 2 …

    @classmethod
    def check(cls, hyperparameters: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that do not go together; each by itself has the type that the signature says.

        Raises:
            SettingError: naming them.
        """

    @abstractmethod
    def atomic_energies(self, geometry: Geometry) -> Tensor:
        """Energies of atoms in the network's units, (N,), differentiable in `geometry.positions`."""

    def filter_layout(self, parameter: Tensor, module: nn.Module, key: str) -> Tensor:
        """Which filter each weight of a parameter belongs to, for random directions normalised by `irreps`.

        Args:
            parameter: The parameter.
            module: The module that owns it.
            key: Its name in that module.

        Returns:
            Numbers of filters from 0, int64, in the shape of the parameter. Here as the layers of e3nn and of torch
            are laid out; an architecture that lays out others says how.
        """
        return layer_layout(parameter, module, key)

    @property
    def architecture(self) -> dict[str, Any]:
        """What decides the operations of the network: its hyperparameters without those that its states hold."""
        return {name: value for name, value in self.hyperparameters.items() if name not in self.held_by_states}

    @property
    def precision(self) -> str:
        """The precision of the network by name, "float32" or "float64"."""
        return str(self.dtype).removeprefix("torch.")

    def elements(self, geometry: Geometry) -> Tensor:
        """Index of each atom's element among `atomic_numbers`, (N,) int64."""
        return self.element_index[geometry.atomic_numbers]  # type: ignore[index]

    def states(self) -> dict[str, Tensor]:
        """The model's own parameters and buffers by name: the tensors themselves, not copies of them."""
        # Walking through the modules takes as long as a twentieth of a training step. Which module owns which name does
        # not change after the first call; the tensors may (`to` replaces buffers), so they are looked up every time.
        if not self._owners:
            names: dict[int, str] = {}  # the first name of each tensor, since layers may share one
            for path, module in self.named_modules():
                for kind in ("_parameters", "_buffers"):
                    for key, tensor in vars(module)[kind].items():
                        if tensor is not None:
                            name = names.setdefault(id(tensor), f"{path}.{key}" if path else key)
                            self._owners.setdefault(name, []).append((module, kind, key))
        return {name: vars(module)[kind][key] for name, ((module, kind, key), *_) in self._owners.items()}

    def derive(self, states: States, geometry: Geometry, virials: bool = False) -> Derived:
        """Energies of atoms and their derivatives under given states.

        Args:
            states: Parameters and buffers by name; the model itself is left as it is. In evaluation mode nothing but
                forces is derived, and states that ask for no gradient save the bookkeeping for theirs.
            geometry: Atoms and edges.
            virials: Whether to derive the virials of atoms too.

        Returns:
            Energies and derivatives, differentiable in the states only while the model is in training mode.

        Raises:
            KeyError: A name is none of the model's.
        """
        own = self.states()
        other = {name: value for name, value in states.items() if value is not own[name]}
        with torch.enable_grad(), self._replaced(other):
            positions = geometry.positions.detach().requires_grad_(True)
            shifts = geometry.edge_shift_vectors.detach().requires_grad_(virials)
            geometry = replace(geometry, positions=positions, edge_shift_vectors=shifts)
            atomic = self.atomic_energies(geometry).double()
            energies = self.rescaling(atomic, self.elements(geometry))  # (N,)
            inputs = [positions, shifts] if virials else [positions]
            gradient, *by_edge = torch.autograd.grad(energies.sum(), inputs, create_graph=self.training)
            derived = (energies if self.training else energies.detach()), -gradient
            if not virials:
                return derived
            # A shift is part of its edge's vector alone, so that the derivatives by the two are the same.
            of_edges = by_edge[0][:, :, None] * geometry.edge_vectors().detach()[:, None, :]  # (E, 3, 3)
            sums = torch.zeros(len(positions), 3, 3, dtype=of_edges.dtype, device=of_edges.device)
            return *derived, sums.index_add(0, geometry.edge_index[1], of_edges)

    def predict(self, states: States, batch: GraphBatch, *, stress: bool | None = None) -> Prediction:
        """What the potential says of a batch under given states, through the compiled program where there is one.

        Args:
            states: As of `derive`.
            batch: Any structures.
            stress: Whether to derive the stress too; None where the batch has a label of it.
        """
        wanted = batch.stress is not None if stress is None else stress
        derive = self.derive if self.compiled is None else self.compiled
        return prediction_of(derive(states, batch.geometry(), wanted), batch)

    def forward(self, batch: GraphBatch, *, stress: bool | None = None) -> Prediction:
        """As `predict` under the model's own states; differentiable in the parameters only while training."""
        return self.predict(self.states(), batch, stress=stress)

    def check_elements(self, atomic_numbers: Sequence[int], place: str) -> None:
        """Refuse elements that the model was not built for.

        Raises:
            InputError: Names the elements and `place`.
        """
        check_elements(self.atomic_numbers, atomic_numbers, place)

    @contextmanager
    def _replaced(self, states: States) -> Iterator[None]:
        """Other tensors in the place of the model's own, for a while.

        What `torch.func.functional_call` does, which looks through all modules again at every call and so takes 0.4 ms.
        """
        places = [
            (vars(module)[kind], key, state)
            for name, state in states.items()
            for module, kind, key in self._owners[name]
        ]
        own = [tensors[key] for tensors, key, _ in places]
        try:
            for tensors, key, state in places:
                tensors[key] = state
            yield
        finally:
            for (tensors, key, _), tensor in zip(places, own, strict=True):
                tensors[key] = tensor


@contextmanager
def deriving_by(model: Potential, derive: Callable[[States, Geometry, bool], Derived] | None) -> Iterator[None]:
    """Have a model evaluated by another program for a while: None is its own `derive`, eager and by itself."""
    before, model.compiled = model.compiled, derive
    try:
        yield
    finally:
        model.compiled = before


def check_elements(known: Sequence[int], atomic_numbers: Sequence[int], place: str) -> None:
    """Refuse elements that are not among the known ones.

    Raises:
        InputError: Names the elements and `place`.
    """
    unknown = sorted({int(z) for z in atomic_numbers} - set(known))
    if unknown:
        raise InputError(
            f"{place}: atomic numbers {unknown} are unknown to this model, which was trained on {list(known)}; train "
            "on data that has them"
        )


def prediction_of(derived: Derived, batch: GraphBatch) -> Prediction:
    """What was derived for the atoms of a batch, as a prediction for its systems; with stress where virials were."""
    energies, forces, *virials = derived
    total = torch.zeros(batch.n_systems, dtype=torch.float64, device=energies.device)
    energy = total.index_add(0, batch.system, energies)
    return Prediction(energy, forces, _stress(virials[0], batch) if virials else None)


def _stress(virials: Tensor, batch: GraphBatch) -> Tensor:
    """Stress of each system, (S, 3, 3) eV/Å³, from the virials of atoms (N, 3, 3) eV; NaN where there is no cell."""
    virial = torch.zeros_like(batch.cell).index_add(0, batch.system, virials)
    volumes = batch.volumes[:, None, None]
    has_cell = volumes > 0
    symmetric = (virial + virial.transpose(1, 2)) / 2  # as it is but for rounding: a rotation changes no energy
    return torch.where(has_cell, symmetric / torch.where(has_cell, volumes, 1.0), torch.nan)
