"""A committee: potentials that answer together by their mean, and show by their spread where they disagree."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mlip_sweep.data.graphs import GraphBatch
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint
from mlip_sweep.models.compiled import Compiled
from mlip_sweep.models.interface import Potential, Prediction, check_elements, prediction_of
from mlip_sweep.models.mapped import Evaluation, check_alike, derive_together

MEMBERS = "members"  # in the folder of a committee: the folders of its members


class Committee(nn.Module):
    """Several potentials as one force field.

    Energy, forces and stress are means over the M members; the spreads are standard deviations over them:

        energy_spread_s = √(1/M Σ_m (E_ms − Ē_s)²),   forces_spread_i = √(1/M Σ_m |F_mi − F̄_i|²)

    The largest of the latter over atoms is what DP-GEN calls the model deviation (Zhang et al., Comput. Phys. Commun.
    253, 107206 (2020), https://doi.org/10.1016/j.cpc.2020.107206).

    Members that can share a program (`mapped.check_alike`) are evaluated in one, others one after the other.

    Args:
        members: The potentials, on one device; they are put into evaluation mode.
        backend: The backend of torch.compile, which works at the first evaluation; None for none.

    Attributes:
        cutoff: The largest of the members', Å; for the others, edges beyond their own change nothing.
        atomic_numbers: The elements that all members know, sorted.
    """

    def __init__(self, members: Sequence[Potential], backend: str | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members).eval()
        self.cutoff = max(member.cutoff for member in members)
        self.atomic_numbers = tuple(sorted(set.intersection(*(set(member.atomic_numbers) for member in members))))
        self._alike = _are_alike(members)
        self._backend = backend
        if backend is not None and not self._alike:
            for member in members:
                member.compiled = Compiled(member, backend)

    def forward(self, batch: GraphBatch, *, stress: bool | None = None) -> Prediction:
        """Mean and spread of the members on a batch; not differentiable.

        Args:
            batch: Any structures.
            stress: Whether to derive the stress too; None where the batch has a label of it.
        """
        with torch.no_grad():
            return _summary(self._predictions(batch, stress))

    def check_elements(self, atomic_numbers: Sequence[int], place: str) -> None:
        """Refuse elements that not all members know, as `Potential.check_elements`."""
        check_elements(self.atomic_numbers, atomic_numbers, place)

    def _predictions(self, batch: GraphBatch, stress: bool | None) -> list[Prediction]:
        """What each member says."""
        members: list[Potential] = list(self.members)  # type: ignore[arg-type]
        if not self._alike:
            return [member(batch, stress=stress) for member in members]
        virials = batch.stress is not None if stress is None else stress
        geometry = batch.geometry()
        derived = derive_together(
            [Evaluation(member, member.states(), geometry, virials) for member in members], self._backend
        )
        return [prediction_of(tuple(output[m] for output in derived), batch) for m in range(len(members))]


def load(folder: Path, *, device: str = "cpu", dtype: str | None = None, backend: str | None = None) -> Committee:
    """Read a committee from its folder; further arguments as of `checkpoint.load` and `Committee`.

    Raises:
        InputError: A member cannot be read, or the folder holds none.
    """
    folders = member_folders(folder)
    if not folders:
        raise InputError(f"{folder / MEMBERS}: no folder of a member; give the folder of a committee")
    return Committee([checkpoint.load(one, device=device, dtype=dtype) for one in folders], backend)


def member_folders(folder: Path) -> list[Path]:
    """The folders of a committee's members, in the order of their names; none where a folder is of no committee."""
    return sorted(path for path in (folder / MEMBERS).glob("*") if path.is_dir())


def _are_alike(members: Sequence[Potential]) -> bool:
    try:
        for other in members[1:]:
            check_alike(members[0], other)
    except InputError:
        return False
    return len(members) > 1


def _summary(predictions: Sequence[Prediction]) -> Prediction:
    """Mean and spread of several predictions of one batch."""
    energies = torch.stack([one.energy for one in predictions])  # (M, S)
    forces = torch.stack([one.forces for one in predictions])  # (M, N, 3)
    stresses = [one.stress for one in predictions if one.stress is not None]
    energy, mean_forces = energies.mean(0), forces.mean(0)
    return Prediction(
        energy,
        mean_forces,
        torch.stack(stresses).mean(0) if stresses else None,
        energy_spread=(energies - energy).square().mean(0).sqrt(),
        forces_spread=(forces - mean_forces).square().sum(-1).mean(0).sqrt(),
    )
