"""Batched molecular dynamics: all replicas of one structure advance as one graph.

The steps are ASE's (`measurement.dynamics.integrators` has the equations), so that trajectories from the same start are
the same. The loop waits for the device only where the host must know how many neighbours there are: a failure is marked
there and then on the device (`measurement.dynamics.failure`), and every few steps the replicas that failed leave the
batch.
"""

from typing import Final

import numpy as np
import torch
from ase import units
from ase.data import atomic_masses
from numpy.typing import NDArray
from torch import Tensor

from mlip_sweep.bars import bar
from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.failure import SURVIVED, FailureMonitor, Limits
from mlip_sweep.measurement.dynamics.integrators import Integrator, Thermostat, kinetic_temperature
from mlip_sweep.measurement.dynamics.neighbours import VerletList
from mlip_sweep.measurement.dynamics.trajectories import Snapshot, Trajectories
from mlip_sweep.measurement.evaluation import ForceField, device_of, evaluating, predict_in_parts

# Steps between two looks for failures. Off the CPU a look waits for all that is under way; on it a look is free.
CHECK_EVERY: Final = 25


@torch.no_grad()
def molecular_dynamics(
    model: ForceField,
    start: Frame,
    momenta: NDArray[np.float64],
    *,
    n_steps: int,
    timestep_fs: float = 1.0,
    thermostat: Thermostat | None = None,
    limits: Limits = Limits(),  # noqa: B008 (it cannot change)
    skin_A: float = 2.0,
    max_atoms: int = 4096,
    sample_every: int = 10,
    trajectory_every: int | None = None,
    check_every: int | None = None,
    progress: bool = True,
    label: str = "dynamics",
) -> Trajectories:
    """Run every replica from the same positions with its own momenta, until it fails or `n_steps` are done.

    A replica fails when a position, its energy or a force is not finite, or beyond a limit; it then leaves the batch.
    An exception raised by the model is not a failure and passes through. The model is left in the mode it was in.

    Args:
        model: what gives energies and forces; it runs on the device where its parameters are.
        start: A atoms; its labels are not used.
        momenta: (R, A, 3), ASE units.
        n_steps: number of timesteps.
        timestep_fs: Δt, fs.
        thermostat: None for constant energy.
        limits: what counts as a failure.
        skin_A: Å; it changes the speed, never the result.
        max_atoms: that the model is shown at once; more are shown in parts.
        sample_every: steps between samples of the traces.
        trajectory_every: steps between snapshots of every replica; None for none.
        check_every: steps between two looks for failures, which are dated exactly all the same; None chooses by device.
        progress: show a progress bar.
        label: what the bar calls the simulation.

    Raises:
        InputError: a setting that cannot work.
    """
    for name, value in (("n_steps", n_steps), ("timestep_fs", timestep_fs), ("skin_A", skin_A)):
        if not value > 0:
            raise InputError(f"{name}={value}: molecular dynamics needs a value above zero")
    with evaluating(model):
        engine = _Engine(model, start, momenta, thermostat, timestep_fs, limits, skin_A, max_atoms)
        if check_every is None:
            check_every = 1 if engine.positions.device.type == "cpu" else CHECK_EVERY
        with bar(n_steps, label, "steps", shown=progress) as shown:
            for step in range(n_steps + 1):
                if step == 0:
                    engine.evaluate(0)
                else:
                    engine.step(step)
                    shown.update()
                if step % sample_every == 0:
                    engine.sample(step)
                if trajectory_every is not None and step % trajectory_every == 0:
                    engine.snapshot(step)
                if step % check_every == 0:
                    engine.drop_failed()
                    shown.say(f"{len(engine.alive)} of {len(momenta)} replicas whole")
                    if not len(engine.alive):
                        break
    return engine.result(n_steps, timestep_fs)


class _Engine:
    """The replicas still in the batch (their tensors have shape (R', A, 3)) and the records of all R of them.

    A replica that has failed keeps the state in which it did, and the model is shown the start in its place, until
    `drop_failed` takes it out.
    """

    def __init__(
        self,
        model: ForceField,
        start: Frame,
        momenta: NDArray[np.float64],
        thermostat: Thermostat | None,
        timestep_fs: float,
        limits: Limits,
        skin_A: float,
        max_atoms: int,
    ) -> None:
        replicas = len(momenta)
        device = device_of(model)
        self.model = model
        self.max_atoms = max_atoms
        self.alive = np.arange(replicas)
        self.start = torch.as_tensor(start.positions, dtype=torch.float64, device=device)
        self.positions = self.start.repeat(replicas, 1, 1)
        self.momenta = torch.as_tensor(momenta, dtype=torch.float64, device=device).clone()
        self.forces = torch.zeros_like(self.positions)
        self.energy = torch.zeros(replicas, dtype=torch.float64, device=device)
        self.forces_spread: Tensor | None = None  # of a committee, at the atom where it is largest, (R',) eV/Å
        self.masses = torch.as_tensor(atomic_masses[start.atomic_numbers], dtype=torch.float64, device=device)[:, None]
        self.integrator = Integrator(thermostat, timestep_fs, self.masses, replicas)
        self.monitor = FailureMonitor(start, replicas, limits, device)
        self.list = VerletList(start, replicas, cutoff=float(model.cutoff), skin=skin_A, device=device)

        self.last_step = np.full(replicas, -1, dtype=np.int64)
        self.reason = [SURVIVED] * replicas
        self.last_positions = np.tile(start.positions, (replicas, 1, 1))
        self.last_momenta = momenta.copy()
        self.sampled_steps: list[int] = []
        self.samples: list[Tensor] = []  # (2, R) each: temperature, potential energy; (3, R) with the spread of forces
        self.snapshots: list[list[Snapshot]] = [[] for _ in range(replicas)]

    def step(self, step: int) -> None:
        """One timestep."""
        positions, momenta = self.integrator.move(self.positions, self.momenta, self.forces)
        self.positions = self.monitor.unless_failed(positions, self.positions)
        self.momenta = self.monitor.unless_failed(momenta, self.momenta)
        self.monitor.positions(step, self.positions)
        self.evaluate(step)
        kicked = self.integrator.kick(self.momenta, self.forces)
        self.momenta = self.monitor.unless_failed(kicked, self.momenta)
        self.check_motion(step)

    def evaluate(self, step: int) -> None:
        """Energies and forces at the present positions."""
        graph = self.list.graph(self.monitor.unless_failed(self.positions, self.start))
        self.monitor.pairs(step, graph, self.list.squared_lengths)
        prediction = predict_in_parts(self.model, graph, self.max_atoms)
        self.energy = prediction.energy.double()
        self.forces = prediction.forces.double().reshape(self.positions.shape)
        if prediction.forces_spread is not None:
            self.forces_spread = prediction.forces_spread.reshape(self.positions.shape[:2]).amax(dim=1)
        self.monitor.prediction(step, self.energy, self.forces)
        if step == 0:
            self.check_motion(step)

    def check_motion(self, step: int) -> None:
        """Look at temperature and total energy, where a limit asks for it."""
        if self.monitor.watches_motion:
            temperature = self.temperature()
            kinetic = 1.5 * len(self.masses) * units.kB * temperature
            self.monitor.motion(step, temperature, self.energy + kinetic)

    def temperature(self) -> Tensor:
        """Kinetic temperature of each replica, (R',) K."""
        return kinetic_temperature(self.momenta, self.masses).flatten()

    def sample(self, step: int) -> None:
        """Add temperature, potential energy and, of a committee, the spread of forces to the traces."""
        spread = [] if self.forces_spread is None else [self.forces_spread]
        now = torch.stack([self.temperature(), self.energy, *spread])
        values = now.new_full((len(now), len(self.reason)), torch.nan)
        values[:, torch.as_tensor(self.alive, device=values.device)] = now.where(~self.monitor.failed, torch.nan)
        self.sampled_steps.append(step)
        self.samples.append(values)

    def snapshot(self, step: int) -> None:
        """Add the whole state to the trajectories of those that have not failed."""
        state = (self.positions, self.momenta, self.energy, self.forces)
        arrays = [values[~self.monitor.failed].cpu().numpy() for values in state]
        intact = self.alive[~self.monitor.failed.cpu().numpy()]
        for replica, position, momentum, energy, forces in zip(intact, *arrays, strict=True):
            self.snapshots[replica].append(Snapshot(step, position, momentum, float(energy), forces))

    def drop_failed(self) -> None:
        """Take the replicas that have failed out of the batch, and keep the state in which they did."""
        failures = self.monitor.failures()
        gone = [index for index, failure in enumerate(failures) if failure]
        if not gone:
            return
        for replica, failure in zip(self.alive, failures, strict=True):
            if failure:
                self.last_step[replica], self.reason[replica] = failure
        self._keep_state(gone)
        kept = ~self.monitor.failed
        self.alive = np.delete(self.alive, gone)
        self.positions, self.momenta = self.positions[kept], self.momenta[kept]
        self.forces, self.energy = self.forces[kept], self.energy[kept]
        self.monitor.keep(kept)
        self.integrator.keep(kept)
        self.list.keep(kept)

    def result(self, n_steps: int, timestep_fs: float) -> Trajectories:
        """Close the records: who is still alive has survived to `n_steps`."""
        self.drop_failed()
        self.last_step[self.alive] = n_steps
        self._keep_state(list(range(len(self.alive))))
        traces = torch.stack(self.samples).cpu().numpy()  # (K, 2 or 3, R)
        return Trajectories(
            last_step=self.last_step,
            reason=self.reason,
            time_fs=np.array(self.sampled_steps) * timestep_fs,
            temperature=traces[:, 0],
            potential_energy=traces[:, 1],
            positions=self.last_positions,
            momenta=self.last_momenta,
            snapshots=self.snapshots,
            forces_spread=None if self.forces_spread is None else traces[:, 2],
        )

    def _keep_state(self, indices: list[int]) -> None:
        """Copy the state of some of the batch to the records."""
        replicas = self.alive[indices]
        self.last_positions[replicas] = self.positions[indices].cpu().numpy()
        self.last_momenta[replicas] = self.momenta[indices].cpu().numpy()
