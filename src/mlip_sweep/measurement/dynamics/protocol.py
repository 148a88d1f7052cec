"""The time-to-failure protocol: its settings, where replicas start and how fast, and its run on any force field."""

import zlib
from typing import Final, Literal, get_args

import numpy as np
from ase import units
from ase.data import atomic_masses
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import SettingError
from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import Limits, bonds_of
from mlip_sweep.measurement.dynamics.integrators import Berendsen, Langevin, Thermostat
from mlip_sweep.measurement.dynamics.trajectories import Trajectories
from mlip_sweep.measurement.evaluation import ForceField
from mlip_sweep.settings import Seed, Words, settings

STREAM: Final = zlib.crc32(b"velocities")  # so that no other use of the same seed draws the same numbers

MOST_STEPS: Final = 1e10
Criterion = Literal["auto", "bond", "close", "temperature", "drift"]


@settings
class MDProtocol:
    """Settings that determine an experiment of molecular dynamics; units are in the names.

    Args:
        temperature_K: of the thermostat and of the velocities.
        duration_ps: where replicas are censored.
        timestep_fs: the timestep.
        thermostat: "berendsen", "langevin", or "none": constant energy.
        thermostat_fs: its time constant; of Langevin's the inverse of the friction.
        replicas: how many trajectories are run.
        criteria: what counts as a failure, beside numbers that are not finite: any of "bond", "close", "temperature"
            and "drift", and "auto" for those that suit the system (see `limits`).
        max_bond_A: "bond": longest bond of the starting geometry.
        min_distance_ratio: "close": nearest that two atoms may come, as a fraction of the sum of their covalent radii.
        max_temperature_ratio: "temperature": hottest that a replica may get, as a multiple of `temperature_K`.
        max_drift_meV_atom: "drift", at constant energy: largest change of the total energy since the start.
        velocities: "maxwell" draws independent velocities at the target temperature; "paper" lets every replica start
            at rest, so that replicas differ by rounding only.
        seed: of the velocities and of Langevin's noise.
    """

    temperature_K: PositiveFloat = 1600.0  # noqa: N815 (the unit)
    duration_ps: PositiveFloat = 6.0
    timestep_fs: PositiveFloat = 1.0
    thermostat: Literal["berendsen", "langevin", "none"] = "berendsen"
    thermostat_fs: PositiveFloat = 250.0
    replicas: PositiveInt = 30
    criteria: Words = ("auto",)
    max_bond_A: PositiveFloat = 2.0  # noqa: N815
    min_distance_ratio: PositiveFloat = 0.6
    max_temperature_ratio: PositiveFloat = 4.0
    max_drift_meV_atom: PositiveFloat = 50.0  # noqa: N815
    velocities: Literal["maxwell", "paper"] = "maxwell"
    seed: Seed = 0

    def __post_init__(self) -> None:
        for name in self.criteria:
            if name not in get_args(Criterion):
                raise SettingError(f"criteria={name!r}: choose one of {', '.join(get_args(Criterion))}")
        if "drift" in self.criteria and self.thermostat != "none":
            raise SettingError(
                f"criteria={list(self.criteria)}: a thermostat changes the energy; leave drift out, or set "
                "thermostat=none"
            )
        if self.thermostat_fs < self.timestep_fs:
            raise SettingError(
                f"thermostat_fs={self.thermostat_fs}: shorter than the timestep of {self.timestep_fs} fs; raise it, "
                "to 250 say"
            )
        if not self.criteria:
            raise SettingError(
                f"criteria=[]: nothing would count as a failure; choose {', '.join(get_args(Criterion))}"
            )
        if 1000.0 * self.duration_ps / self.timestep_fs > MOST_STEPS:
            raise SettingError(
                f"duration_ps={self.duration_ps}: more than {MOST_STEPS:.0e} timesteps of {self.timestep_fs} fs; "
                "shorten it"
            )
        if self.n_steps < 1:
            raise SettingError(
                f"duration_ps={self.duration_ps}: shorter than one timestep of {self.timestep_fs} fs; raise it"
            )

    @property
    def n_steps(self) -> int:
        """Number of timesteps."""
        return round(1000.0 * self.duration_ps / self.timestep_fs)

    def limits(self, start: Frame) -> Limits:
        """What replicas of a starting geometry must keep to.

        "auto" follows the bonds of whatever has bonds of at most `max_bond_A`: molecules, also in a periodic cell. In
        other periodic cells, as of a metal, neighbours come and go; there atoms that come too close and a runaway
        temperature are failures. At constant energy, drift is one as well.
        """
        chosen = set(self.criteria)
        if "auto" in chosen:
            bonds = bonds_of(start)
            molecular = not start.pbc.any() or (len(bonds) and bonds.lengths.max() < self.max_bond_A)
            chosen |= {"bond"} if molecular else {"close", "temperature"}
            chosen |= {"drift"} if self.thermostat == "none" else set()
        return Limits(
            bond=self.max_bond_A if "bond" in chosen else None,
            close=self.min_distance_ratio if "close" in chosen else None,
            temperature=self.max_temperature_ratio * self.temperature_K if "temperature" in chosen else None,
            drift=0.001 * self.max_drift_meV_atom if "drift" in chosen else None,
        )

    def bath(self) -> Thermostat | None:
        """The thermostat, None for constant energy."""
        if self.thermostat == "berendsen":
            return Berendsen(self.temperature_K, self.thermostat_fs)
        if self.thermostat == "langevin":
            return Langevin(self.temperature_K, self.thermostat_fs, self.seed)
        return None


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
    model: ForceField,
    start: Frame,
    protocol: MDProtocol,
    *,
    skin_A: float = 2.0,
    max_atoms: int = 4096,
    trajectory_every: int | None = None,
    progress: bool = True,
    label: str = "dynamics",
) -> Trajectories:
    """Run the protocol on a force field; traces are sampled about a thousand times.

    Raises:
        SettingError: the starting geometry does not go with the protocol.
    """
    return molecular_dynamics(
        model,
        start,
        initial_momenta(start, protocol),
        n_steps=protocol.n_steps,
        timestep_fs=protocol.timestep_fs,
        thermostat=protocol.bath(),
        limits=protocol.limits(start),
        skin_A=skin_A,
        max_atoms=max_atoms,
        sample_every=max(1, protocol.n_steps // 1000),
        trajectory_every=trajectory_every,
        progress=progress,
        label=label,
    )
