"""Batched molecular dynamics: all replicas of one structure advance as one graph.

The step is ASE's, so that trajectories from the same start are the same (`ase.md.nvtberendsen.NVTBerendsen` with its
default `fixcm=True`; without a thermostat `ase.md.verlet.VelocityVerlet`). Berendsen et al., J. Chem. Phys. 81, 3684
(1984), https://doi.org/10.1063/1.448118:

    p  <- λ p,  λ² = 1 + (T₀/T − 1) Δt/τ,  0.9 ≤ λ ≤ 1.1     thermostat
    p  <- p + Δt/2 F;   p <- p − Σp/A                        half-step; the sum is taken away with the thermostat only
    r  <- r + Δt p/m;   p <- p + Δt/2 F(r)

| symbol | name        | unit inside this file                         |
| ------ | ----------- | --------------------------------------------- |
| r      | positions   | Å, (R, A, 3), never wrapped into the cell     |
| p      | momenta     | ASE's: u · Å / (Å √(u/eV)), (R, A, 3)         |
| m      | masses      | u, (A, 1)                                     |
| F      | forces      | eV/Å, (R, A, 3)                               |
| Δt, τ  | timestep, … | ASE's unit of time, Å √(u/eV)                 |
| T      | temperature | K, = 2 E_kin / (3 A k_B), as ASE counts it    |
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from ase import Atoms, units
from ase.data import atomic_masses
from ase.geometry.analysis import Analysis
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.evaluation import ForceField, device_of, evaluating
from mlip_sweep.measurement.verlet import VerletList

SURVIVED: Final = ""
REASONS: Final = ("position", "bond", "energy", "forces")  # in the order in which a step looks for them


@dataclass(frozen=True)
class Berendsen:
    """Weak coupling to a bath at `temperature_K` with time constant `time_fs`."""

    temperature_K: float  # noqa: N815 (the unit)
    time_fs: float


@dataclass(frozen=True)
class Trajectories:
    """What became of R replicas of A atoms.

    | field            | shape     | unit                                                              |
    | ---------------- | --------- | ----------------------------------------------------------------- |
    | last_step        | (R,)      | step at which it failed, or the last of the simulation            |
    | reason           | (R,)      | one of `REASONS`, or "" for a replica that survived               |
    | time_fs          | (K,)      | fs, when the traces were sampled                                  |
    | temperature      | (K, R)    | K, NaN from a replica's failure on                                |
    | potential_energy | (K, R)    | eV, likewise                                                      |
    | positions        | (R, A, 3) | Å, at the last step                                               |
    | momenta          | (R, A, 3) | ASE units, at the last step (before its second half if it failed) |
    """

    last_step: NDArray[np.int64]
    reason: list[str]
    time_fs: NDArray[np.float64]
    temperature: NDArray[np.float64]
    potential_energy: NDArray[np.float64]
    positions: NDArray[np.float64]
    momenta: NDArray[np.float64]

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which replicas failed, (R,)."""
        return np.array([reason != SURVIVED for reason in self.reason])

    def last_time_ps(self, timestep_fs: float) -> NDArray[np.float64]:
        """Time of the last step, (R,) ps."""
        return self.last_step.astype(np.float64) * (timestep_fs / 1000.0)


@dataclass(frozen=True)
class Bonds:
    """Bonds of a starting geometry: `pairs` (2, B), and `shift` (B, 3) Å from the second atom to its image nearby."""

    pairs: NDArray[np.int64]
    shift: NDArray[np.float64]

    def __len__(self) -> int:
        return self.pairs.shape[1]


def bonds_of(start: Frame, max_bond_A: float) -> Bonds:
    """Bonds as `ase.geometry.analysis.Analysis` finds them (natural cutoffs), each to its nearest periodic image.

    A bond is followed with the image that it has at the start, so that an atom that leaves does not become bonded again
    to the next copy of its partner.

    Raises:
        InputError: a bond is longer than `max_bond_A` from the outset, so that every replica would fail at once.
    """
    atoms = Atoms(numbers=start.atomic_numbers, positions=start.positions, cell=start.cell, pbc=start.pbc)
    (unique,) = Analysis(atoms).unique_bonds
    pairs = np.array([(i, j) for i, partners in enumerate(unique) for j in partners if i != j], dtype=np.int64)
    pairs = pairs.reshape(-1, 2).T
    nearest = np.array([atoms.get_distance(i, j, mic=True, vector=True) for i, j in pairs.T]).reshape(-1, 3)
    lengths = np.linalg.norm(nearest, axis=1)
    if len(lengths) and lengths.max() >= max_bond_A:
        i, j = pairs[:, lengths.argmax()]
        raise InputError(
            f"max_bond_A={max_bond_A}: bond {atoms.symbols[i]}{i}-{atoms.symbols[j]}{j} of the starting geometry "
            f"({start.origin or 'a frame'}) is already {lengths.max():.2f} Å long; choose a larger max_bond_A"
        )
    return Bonds(pairs, nearest - (start.positions[pairs[1]] - start.positions[pairs[0]]))


@torch.no_grad()
def molecular_dynamics(
    model: ForceField,
    start: Frame,
    momenta: NDArray[np.float64],
    *,
    n_steps: int,
    timestep_fs: float = 1.0,
    thermostat: Berendsen | None = None,
    max_bond_A: float | None = 2.0,
    skin_A: float = 2.0,
    sample_every: int = 10,
    progress: bool = True,
) -> Trajectories:
    """Run every replica from the same positions with its own momenta, until it fails or `n_steps` are done.

    A replica fails when a position is not finite, when a bond of the starting geometry is longer than `max_bond_A`
    (None: bonds are not looked at), or when its energy or a force is not finite; it then leaves the batch. An exception
    raised by the model is not a failure and passes through. The model is left in the mode it was in.

    Args:
        model: what gives energies and forces; it runs on the device where its parameters are.
        start: A atoms; its labels are not used.
        momenta: (R, A, 3), ASE units.
        n_steps: number of timesteps.
        timestep_fs: Δt, fs.
        thermostat: None for constant energy.
        max_bond_A: Å.
        skin_A: Å; it changes the speed, never the result.
        sample_every: steps between samples of the traces.
        progress: show a progress bar with the time left.

    Raises:
        InputError: a setting that cannot work.
    """
    for name, value in (("n_steps", n_steps), ("timestep_fs", timestep_fs), ("skin_A", skin_A)):
        if not value > 0:
            raise InputError(f"{name}={value}: molecular dynamics needs a value above zero")
    if thermostat is not None and thermostat.time_fs < timestep_fs:
        raise InputError(
            f"thermostat_fs={thermostat.time_fs}: shorter than the timestep of {timestep_fs} fs; raise it, to 250 say"
        )
    with evaluating(model):
        engine = _Engine(model, start, momenta, max_bond_A=max_bond_A, skin_A=skin_A)
        engine.evaluate(step=0)
        engine.sample(step=0)
        with tqdm(total=n_steps, desc="MD", unit="step", leave=False, disable=not progress) as bar:
            for step in range(1, n_steps + 1):
                if not len(engine.alive):
                    break
                engine.step(step, timestep_fs * units.fs, thermostat)
                if step % sample_every == 0:
                    engine.sample(step)
                bar.set_postfix(alive=len(engine.alive), refresh=False)
                bar.update()
    return engine.result(n_steps, timestep_fs)


class _Engine:
    """The replicas still alive (their tensors have shape (R', A, 3)) and the records of all R of them."""

    def __init__(
        self, model: ForceField, start: Frame, momenta: NDArray[np.float64], *, max_bond_A: float | None, skin_A: float
    ) -> None:
        replicas = len(momenta)
        device = device_of(model)
        self.model = model
        self.alive = np.arange(replicas)
        self.positions = torch.as_tensor(start.positions, dtype=torch.float64, device=device).repeat(replicas, 1, 1)
        self.momenta = torch.as_tensor(momenta, dtype=torch.float64, device=device).clone()
        self.forces = torch.zeros_like(self.positions)
        self.energy = torch.zeros(replicas, dtype=torch.float64, device=device)
        self.masses = torch.as_tensor(atomic_masses[start.atomic_numbers], dtype=torch.float64, device=device)[:, None]
        self.list = VerletList(start, replicas, cutoff=float(model.cutoff), skin=skin_A, device=device)
        self.max_bond_A = max_bond_A
        if max_bond_A is not None:
            bonds = bonds_of(start, max_bond_A)
            self.bonded = torch.as_tensor(bonds.pairs, device=device)  # (2, B)
            self.bond_shift = torch.as_tensor(bonds.shift, device=device)  # (B, 3)

        self.last_step = np.full(replicas, -1, dtype=np.int64)
        self.reason = [SURVIVED] * replicas
        self.last_positions = self.positions.cpu().numpy().copy()
        self.last_momenta = self.momenta.cpu().numpy().copy()
        self.sampled_steps: list[int] = []
        self.samples: list[NDArray[np.float64]] = []  # (2, R) each: temperature, potential energy

    def temperature(self) -> Tensor:
        """Kinetic temperature of each replica, (R', 1, 1) K, over 3 A degrees of freedom as in ASE."""
        twice_kinetic = (self.momenta.square() / self.masses).sum((1, 2), keepdim=True)
        return twice_kinetic / (3 * len(self.masses) * units.kB)

    def step(self, step: int, dt: float, thermostat: Berendsen | None) -> None:
        """One timestep of the scheme at the head of this file; `dt` in ASE's unit of time."""
        if thermostat is not None:
            # At rest T₀/T is infinite and λ is 1.1, as in ASE: the momenta stay zero until forces act.
            ratio = thermostat.temperature_K / self.temperature() - 1.0
            squared = 1.0 + ratio * (dt / (thermostat.time_fs * units.fs))
            self.momenta = self.momenta * squared.sqrt().clamp(0.9, 1.1)
        self.momenta = self.momenta + 0.5 * dt * self.forces
        if thermostat is not None:
            self.momenta = self.momenta - self.momenta.mean(dim=1, keepdim=True)
        self.positions = self.positions + dt * self.momenta / self.masses
        # Looked at before the model sees them: no model has to make sense of a molecule that has come apart.
        self._drop(step, "position", ~self.positions.isfinite().flatten(1).all(dim=1))
        if self.max_bond_A is not None:
            first, second = self.bonded
            vectors = self.positions[:, second] - self.positions[:, first] + self.bond_shift  # (R', B, 3)
            self._drop(step, "bond", (vectors.square().sum(-1) > self.max_bond_A**2).any(dim=1))
        self.evaluate(step)
        self.momenta = self.momenta + 0.5 * dt * self.forces

    def evaluate(self, step: int) -> None:
        """Energies and forces at the present positions; replicas whose numbers are not finite leave."""
        if not len(self.alive):
            return
        prediction = self.model(self.list.graph(self.positions))
        self.energy = prediction.energy.double()
        self.forces = prediction.forces.double().reshape(self.positions.shape)
        self._drop(step, "energy", ~self.energy.isfinite())
        self._drop(step, "forces", ~self.forces.isfinite().flatten(1).all(dim=1))

    def sample(self, step: int) -> None:
        """Add temperature and potential energy to the traces."""
        values = np.full((2, len(self.reason)), np.nan)
        values[:, self.alive] = torch.stack([self.temperature().flatten(), self.energy]).cpu().numpy()
        self.sampled_steps.append(step)
        self.samples.append(values)

    def result(self, n_steps: int, timestep_fs: float) -> Trajectories:
        """Close the records: who is still alive has survived to `n_steps`."""
        self._record(self.alive, n_steps, torch.ones(len(self.alive), dtype=torch.bool, device=self.positions.device))
        traces = np.array(self.samples)  # (K, 2, R)
        return Trajectories(
            last_step=self.last_step,
            reason=self.reason,
            time_fs=np.array(self.sampled_steps) * timestep_fs,
            temperature=traces[:, 0],
            potential_energy=traces[:, 1],
            positions=self.last_positions,
            momenta=self.last_momenta,
        )

    def _drop(self, step: int, reason: str, failed: Tensor) -> None:
        """Take the replicas that are True in `failed`, (R',), out of the batch."""
        if not failed.any():
            return
        gone = self.alive[failed.cpu().numpy()]
        self._record(gone, step, failed)
        for replica in gone:
            self.reason[replica] = reason
        kept = ~failed
        self.alive = self.alive[kept.cpu().numpy()]
        self.positions, self.momenta = self.positions[kept], self.momenta[kept]
        self.forces, self.energy = self.forces[kept], self.energy[kept]
        self.list.keep(kept)

    def _record(self, replicas: NDArray[np.int64], step: int, chosen: Tensor) -> None:
        """Keep the last state of `replicas`, which are those that are True in `chosen`, (R',)."""
        self.last_step[replicas] = step
        self.last_positions[replicas] = self.positions[chosen].cpu().numpy()
        self.last_momenta[replicas] = self.momenta[chosen].cpu().numpy()
