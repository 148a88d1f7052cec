"""How atoms move in one timestep: constant energy, Berendsen's thermostat, or Langevin's.

Every step is a first part, which ends at new positions, and a last half kick with the forces found there. For a
molecular dynamics at constant energy (velocity Verlet, `ase.md.verlet.VelocityVerlet`):

    p <- p + Δt/2 F;   r <- r + Δt p/m;   p <- p + Δt/2 F(r)

Berendsen et al., J. Chem. Phys. 81, 3684 (1984), https://doi.org/10.1063/1.448118, as in ASE's `NVTBerendsen` with its
default `fixcm=True`:

    p <- λ p,  λ² = 1 + (T₀/T − 1) Δt/τ,  0.9 ≤ λ ≤ 1.1;   p <- p + Δt/2 F;   p <- p − Σp/A;   r <- r + Δt p/m;   …

Langevin by the splitting BAOAB (Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013),
https://doi.org/10.1063/1.4802990), whose positions in a harmonic well have the exact variance at any timestep:

    p <- p + Δt/2 F;   r <- r + Δt/2 p/m;   p <- c p + √((1 − c²) m k_B T₀) ξ,  c = e^{−Δt/τ};   r <- r + Δt/2 p/m;   …

| symbol | name        | unit here                                                |
| ------ | ----------- | -------------------------------------------------------- |
| r      | positions   | Å, (R, A, 3), never wrapped into the cell                |
| p      | momenta     | ASE's: u · Å / (Å √(u/eV)), (R, A, 3)                    |
| m      | masses      | u, (A, 1)                                                |
| F      | forces      | eV/Å, (R, A, 3)                                          |
| Δt, τ  | timestep, … | fs in the settings, ASE's unit Å √(u/eV) in the formulas |
| T      | temperature | K, = 2 E_kin / (3 A k_B), as ASE counts it               |
| ξ      | noise       | standard normal, (R, A, 3)                               |
"""

import math
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from ase import units
from torch import Tensor

STREAM: Final = zlib.crc32(b"noise")  # so that no other use of the same seed draws the same numbers
DRAWN_AT_ONCE: Final = 16  # timesteps of noise


@dataclass(frozen=True)
class Berendsen:
    """Weak coupling to a bath at `temperature_K` with time constant `time_fs`."""

    temperature_K: float  # noqa: N815 (the unit)
    time_fs: float


@dataclass(frozen=True)
class Langevin:
    """Friction 1/`time_fs` and noise, the canonical ensemble at `temperature_K`; the centre of mass moves too.

    Replica k has a stream of noise of its own, from (seed, k): neither the device nor the other replicas change it.
    """

    temperature_K: float  # noqa: N815 (the unit)
    time_fs: float
    seed: int = 0


Thermostat = Berendsen | Langevin


def kinetic_temperature(momenta: Tensor, masses: Tensor) -> Tensor:
    """Temperature of each replica, (R, 1, 1) K, over 3 A degrees of freedom as in ASE."""
    return (momenta.square() / masses).sum((1, 2), keepdim=True) / (3 * len(masses) * units.kB)


class Integrator:
    """The first part of a timestep, up to the new positions, and the half kick that ends it.

    Args:
        thermostat: None for constant energy.
        timestep_fs: Δt, fs.
        masses: (A, 1) u; its device is that of the dynamics.
        replicas: R.
    """

    def __init__(self, thermostat: Thermostat | None, timestep_fs: float, masses: Tensor, replicas: int) -> None:
        self.thermostat = thermostat
        self.dt = timestep_fs * units.fs
        self.masses = masses
        if isinstance(thermostat, Langevin):
            self._decay = math.exp(-timestep_fs / thermostat.time_fs)
            width = (1.0 - self._decay**2) * units.kB * thermostat.temperature_K
            self._noise = _Noise(thermostat.seed, replicas, (width * masses).sqrt())

    def move(self, positions: Tensor, momenta: Tensor, forces: Tensor) -> tuple[Tensor, Tensor]:
        """Positions at the end of the step and momenta before its last half kick."""
        bath = self.thermostat
        if isinstance(bath, Berendsen):
            # At rest T₀/T is infinite and λ is 1.1, as in ASE: the momenta stay zero until forces act.
            ratio = bath.temperature_K / kinetic_temperature(momenta, self.masses) - 1.0
            squared = 1.0 + ratio * (self.dt / (bath.time_fs * units.fs))
            momenta = momenta * squared.sqrt().clamp(0.9, 1.1)
        momenta = self.kick(momenta, forces)
        if isinstance(bath, Langevin):
            positions = positions + 0.5 * self.dt * momenta / self.masses
            momenta = self._decay * momenta + self._noise.draw()
            return positions + 0.5 * self.dt * momenta / self.masses, momenta
        if isinstance(bath, Berendsen):
            momenta = momenta - momenta.mean(dim=1, keepdim=True)
        return positions + self.dt * momenta / self.masses, momenta

    def kick(self, momenta: Tensor, forces: Tensor) -> Tensor:
        """Momenta after half a timestep of forces."""
        return momenta + 0.5 * self.dt * forces

    def keep(self, kept: Tensor) -> None:
        """Let go of every replica that is False in `kept`, (R,) bool; the others move up."""
        if isinstance(self.thermostat, Langevin):
            self._noise.keep(kept)


class _Noise:
    """Normal numbers for the momenta of R replicas, each from a stream of its own, brought to the device in blocks.

    Args:
        seed: of the streams.
        replicas: R.
        width: standard deviation, (A, 1).
    """

    def __init__(self, seed: int, replicas: int, width: Tensor) -> None:
        self._streams = [np.random.default_rng([seed, STREAM, k]) for k in range(replicas)]
        self._width = width
        self._block = width.new_empty((0, replicas, len(width), 3))
        self._next = 0

    def draw(self) -> Tensor:
        """Noise of the next timestep, (R, A, 3)."""
        if self._next == len(self._block):
            shape = (DRAWN_AT_ONCE, len(self._width), 3)
            drawn = torch.from_numpy(np.stack([rng.standard_normal(shape) for rng in self._streams], axis=1))
            self._block = self._width * drawn.to(self._width.device)
            self._next = 0
        self._next += 1
        return self._block[self._next - 1]

    def keep(self, kept: Tensor) -> None:
        """As `Integrator.keep`."""
        self._streams = [stream for stream, stays in zip(self._streams, kept.tolist(), strict=True) if stays]
        self._block = self._block[:, kept]
