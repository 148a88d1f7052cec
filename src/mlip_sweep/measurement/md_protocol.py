"""The time-to-failure protocol: its settings, where replicas start and how fast, and its run on any force field."""

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import units
from ase.data import atomic_masses
from numpy.typing import NDArray

from mlip_sweep.data.frames import Dataset, Frame
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics import Berendsen, Trajectories, molecular_dynamics
from mlip_sweep.measurement.evaluation import ForceField

VELOCITIES = ("maxwell", "paper")
STREAM: Final = zlib.crc32(b"velocities")  # so that no other use of the same seed draws the same numbers


@dataclass(frozen=True)
class MDProtocol:
    """Settings that determine an experiment of molecular dynamics; units are in the names.

    `velocities`: "maxwell" draws independent velocities at the target temperature; "paper" lets every replica start at
    rest, so that replicas differ by rounding only.

    Raises:
        InputError: a value that cannot work.
    """

    temperature_K: float = 1600.0  # noqa: N815 (the unit)
    duration_ps: float = 6.0
    timestep_fs: float = 1.0
    thermostat_fs: float = 250.0
    replicas: int = 30
    max_bond_A: float = 2.0  # noqa: N815
    velocities: str = "maxwell"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("temperature_K", "duration_ps", "timestep_fs", "thermostat_fs", "replicas", "max_bond_A"):
            if not getattr(self, name) > 0:
                raise InputError(f"measurement.stability.{name}={getattr(self, name)}: give a number above 0")
        if self.velocities not in VELOCITIES:
            raise InputError(
                f"measurement.stability.velocities={self.velocities!r}: choose one of {', '.join(VELOCITIES)}"
            )
        if self.n_steps < 1:
            raise InputError(
                f"measurement.stability.duration_ps={self.duration_ps}: shorter than one timestep of "
                f"{self.timestep_fs} fs; raise it"
            )

    @property
    def n_steps(self) -> int:
        """Number of timesteps."""
        return round(1000.0 * self.duration_ps / self.timestep_fs)


def starting_geometry(dataset: Dataset) -> Frame:
    """The training geometry of the lowest energy per atom, by the original labels.

    For one molecule this is the lowest energy. Between compositions it is a choice, and a report says so.
    """
    return min(dataset.train_clean, key=lambda frame: frame.energy / len(frame))


def initial_momenta(start: Frame, protocol: MDProtocol) -> NDArray[np.float64]:
    """Momenta of every replica, (R, A, 3), ASE units.

    "maxwell": Maxwell–Boltzmann at the target temperature, then what `ase.md.velocitydistribution.Stationary` does: the
    velocity of the centre of mass is taken away and the temperature restored to what it was; rotation stays. Replica k
    is drawn from (seed, k), so it is the same however many replicas there are.

    "paper": zeros. The thermostat bears a temperature of zero (its factor is cut at 1.1), and forces set atoms moving.
    """
    shape = (len(start), 3)
    if protocol.velocities == "paper":
        return np.zeros((protocol.replicas, *shape))
    masses = atomic_masses[start.atomic_numbers][:, None]  # (A, 1) u
    width = np.sqrt(masses * units.kB * protocol.temperature_K)
    streams = (np.random.default_rng([protocol.seed, STREAM, k]) for k in range(protocol.replicas))
    drawn = np.array([rng.standard_normal(shape) for rng in streams]) * width  # (R, A, 3)
    still = drawn - masses * drawn.sum(1, keepdims=True) / masses.sum()
    twice_kinetic = [(p**2 / masses).sum((1, 2), keepdims=True) for p in (drawn, still)]
    if len(start) == 1:
        return still  # one atom has no momentum but that of its centre of mass
    return still * np.sqrt(twice_kinetic[0] / twice_kinetic[1])


def simulate(
    model: ForceField, start: Frame, protocol: MDProtocol, *, skin_A: float = 2.0, progress: bool = True
) -> Trajectories:
    """Run the protocol on a force field; traces are sampled about a thousand times.

    Raises:
        InputError: the starting geometry does not go with the protocol.
    """
    return molecular_dynamics(
        model,
        start,
        initial_momenta(start, protocol),
        n_steps=protocol.n_steps,
        timestep_fs=protocol.timestep_fs,
        thermostat=Berendsen(protocol.temperature_K, protocol.thermostat_fs),
        max_bond_A=protocol.max_bond_A,
        skin_A=skin_A,
        sample_every=max(1, protocol.n_steps // 1000),
        progress=progress,
    )
