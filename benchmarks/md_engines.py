"""The same potential driven by four engines: this project's, twice, ASE's, and torch-sim's.

Each engine is a function of (task, steps) that runs the dynamics and returns its seconds; those of the batched engines
include the forces of the start, one calculation more than they have steps. Peers drive the same weights: what they
compute is compared with the model's own forces before anything is timed.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_sim
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from ase.md.nvtberendsen import NVTBerendsen
from numpy.typing import NDArray

from mlip_sweep.data.frames import Frame
from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.failure import UNLIMITED
from mlip_sweep.measurement.dynamics.integrators import Berendsen, Langevin, Thermostat
from mlip_sweep.models.calculator import PotentialCalculator
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.torch_sim_model import TorchSimModel

TIME_CONSTANT_FS = 250.0


@dataclass(frozen=True)
class Task:
    """What all of them simulate.

    Attributes:
        model: in evaluation mode.
        start: geometry of every replica, without a cell.
        momenta: (R, A, 3), ASE units.
        temperature_K: of the thermostats.
        calculator: of `model`, for ASE.
    """

    model: Potential
    start: Frame
    momenta: NDArray[np.float64]
    temperature_K: float  # noqa: N815 (the unit)
    calculator: Calculator

    def atoms(self, replica: int) -> Atoms:
        """One replica for the peers."""
        return Atoms(self.start.atomic_numbers, self.start.positions, momenta=self.momenta[replica])


def own_berendsen(task: Task, steps: int) -> float:
    """All replicas at once by `molecular_dynamics`."""
    return _own(task, steps, Berendsen(task.temperature_K, TIME_CONSTANT_FS))


def own_langevin(task: Task, steps: int) -> float:
    """The same with BAOAB, the scheme of torch-sim's integrator."""
    return _own(task, steps, Langevin(task.temperature_K, TIME_CONSTANT_FS))


def _own(task: Task, steps: int, thermostat: Thermostat) -> float:
    begin = time.perf_counter()
    found = molecular_dynamics(
        task.model,
        task.start,
        task.momenta,
        n_steps=steps,
        thermostat=thermostat,
        limits=UNLIMITED,
        progress=False,
    )
    seconds = time.perf_counter() - begin
    if found.failed.any():
        raise SystemExit("a replica's numbers are not finite: train longer (--epochs), or choose a lower --temperature")
    return seconds


def ase_berendsen(task: Task, steps: int) -> float:
    """One replica after another by ASE's NVTBerendsen."""
    seconds = 0.0
    for replica in range(len(task.momenta)):
        atoms = task.atoms(replica)
        atoms.calc = task.calculator
        atoms.get_forces()  # those of the start are kept: the clock sees one calculation a step
        dynamics = NVTBerendsen(atoms, units.fs, temperature_K=task.temperature_K, taut=TIME_CONSTANT_FS * units.fs)
        begin = time.perf_counter()
        dynamics.run(steps)
        seconds += time.perf_counter() - begin
    return seconds


def torch_sim_langevin(task: Task, steps: int) -> float:
    """All replicas at once by torch-sim's nvt_langevin, which finds neighbours anew at every step."""
    replicas = [task.atoms(k) for k in range(len(task.momenta))]
    driven = TorchSimModel(task.model, compute_stress=False)
    state = torch_sim.io.atoms_to_state(replicas, driven.device, driven.dtype)
    settings = {
        "n_steps": steps,
        "temperature": task.temperature_K,
        "timestep": 0.001,  # ps
        "gamma": torch.tensor(1.0 / (TIME_CONSTANT_FS * units.fs), dtype=driven.dtype),
    }
    if hasattr(torch_sim, "Integrator"):  # since 0.4
        settings |= {"integrator": torch_sim.Integrator.nvt_langevin}
        state.rng = 0
    else:
        settings |= {"integrator": torch_sim.nvt_langevin, "seed": 0}
    begin = time.perf_counter()
    torch_sim.integrate(state, driven, **settings)
    return time.perf_counter() - begin


ENGINES: dict[str, Callable[[Task, int], float]] = {
    "mlip-sweep, Berendsen": own_berendsen,
    "ASE, Berendsen": ase_berendsen,
    "mlip-sweep, Langevin": own_langevin,
    "torch-sim, Langevin": torch_sim_langevin,
}


def own_calculator(model: Potential, architecture: str, mode: str, example: Atoms) -> Calculator:
    """The ASE calculator of the model's own library, with the model's weights.

    Args:
        model: in evaluation mode.
        architecture: "nequip" or "mace".
        mode: "eager", or how it is compiled: NequIP by "torchscript" or "aotinductor", as `nequip-compile --mode` does,
            MACE by "compile", its own `compile_mode`.
        example: a molecule to compile with.

    Energies lack the constant shift of an atom, which moves nothing.
    """
    return _nequip_calculator(model, mode, example) if architecture == "nequip" else _mace_calculator(model, mode)


def check(task: Task) -> float:
    """Largest difference between the forces of the calculator and the model's own at the start, eV/Å."""
    atoms = task.atoms(0)
    atoms.calc = task.calculator
    theirs = atoms.get_forces()
    atoms.calc = PotentialCalculator(task.model)
    return float(np.abs(theirs - atoms.get_forces()).max())


def _nequip_calculator(model: Potential, mode: str, example: Atoms) -> Calculator:
    from e3nn.util.jit import script
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.integrations.ase import NequIPCalculator
    from nequip.model import NequIPGNNModel

    symbols = [chemical_symbols[z] for z in model.atomic_numbers]
    ours = {"_target_", "cutoff", "atomic_numbers", "dtype"}
    settings = {name: value for name, value in model.hyperparameters.items() if name not in ours}
    precision = model.precision
    network = NequIPGNNModel(model_dtype=precision, type_names=symbols, r_max=model.cutoff, **settings).eval()
    network.load_state_dict(model.network.state_dict())
    transforms = [ChemicalSpeciesToAtomTypeMapper(symbols), NeighborListTransform(model.cutoff)]
    driven = {"eager": lambda: network, "torchscript": lambda: script(network)}.get(
        mode, lambda: _exported(network, example, transforms)
    )()
    scale = float(model.rescaling.scale)
    return NequIPCalculator(driven.eval(), device="cpu", energy_units_to_eV=scale, transforms=transforms)


def _exported(network: torch.nn.Module, example: Atoms, transforms: list[Any]) -> torch.nn.Module:
    """A nequip model as `nequip-compile --mode aotinductor` makes it, for molecules: energy and forces, no stress."""
    from nequip.data import AtomicDataDict, from_ase
    from nequip.nn.compile import DictInputOutputWrapper
    from nequip.utils.aot import aot_export_model

    inputs = [AtomicDataDict.POSITIONS_KEY, AtomicDataDict.EDGE_INDEX_KEY, AtomicDataDict.ATOM_TYPE_KEY]
    outputs = [AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY]
    data = from_ase(example)
    for transform in transforms:
        data = transform(data)
    lengths = {"node": ("num_nodes", 10**5), "edge": ("num_edges", 10**6)}
    sizes = {kind: torch.export.Dim(name, min=2, max=most) for kind, (name, most) in lengths.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = aot_export_model(
            network,
            "cpu",
            inputs,
            outputs,
            {name: data[name] for name in inputs},
            {"graph": torch.export.Dim.STATIC, **sizes},
            f"{folder}/model.nequip.pt2",
        )
        return DictInputOutputWrapper(torch._inductor.aoti_load_package(path), inputs, outputs)


def _mace_calculator(model: Potential, mode: str) -> Calculator:
    from mace.calculators import MACECalculator

    settings = {"compile_mode": "default"} if mode == "compile" else {}
    precision = model.precision
    scale = float(model.rescaling.scale)
    return MACECalculator(
        models=[model.network], device="cpu", default_dtype=precision, energy_units_to_eV=scale, **settings
    )
