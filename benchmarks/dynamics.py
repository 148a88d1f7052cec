"""Speed of many replicas beside ASE, one after another, and beside torch-sim's batched integrator.

    python benchmarks/dynamics.py                               # ethanol by GFN2-xTB, the demo's models
    python benchmarks/dynamics.py --xyz train_300K.xyz          # another molecule: the first frame's
    python benchmarks/dynamics.py model.num_features=32         # overrides as of `mlip-sweep`
    python benchmarks/dynamics.py --mode compile                # both sides compiled

A model is trained for a moment, so that molecules stay whole, and then drives all engines from the same positions and
momenta, without criteria of failure. ASE's NVTBerendsen takes the calculator of the model's own library: for NequIP
compiled by TorchScript, unless --mode eager. With --mode compile the calculators are compiled as their libraries do
it (AOTInductor for NequIP), and this project's model by torch.compile; compiling is not timed. torch-sim's
nvt_langevin drives the same model, beside this project's own Langevin dynamics. Engines take turns, A B C D A B C D; a
ratio is the median over turns. "steps" is what was timed of each replica, "ms a step" the time of a step of all.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from md_engines import ENGINES, Task, check, own_calculator
from rich.console import Console
from rich.progress import track
from rich.table import Table
from trained import trained

from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, initial_momenta, starting_geometry
from mlip_sweep.models.compiled import compile_potential

# Of each library's own calculator. This project's model is compiled in the last of them only.
MODES = {
    "eager": {"nequip": "eager", "mace": "eager"},
    "script": {"nequip": "torchscript", "mace": "eager"},
    "compile": {"nequip": "aotinductor", "mace": "compile"},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the run's config, such as model.num_features=32")
    parser.add_argument("--architectures", nargs="+", choices=("nequip", "mace"), default=["nequip", "mace"])
    parser.add_argument("--xyz", type=Path, help="training frames from a file that ASE reads, instead of ethanol")
    parser.add_argument("--replicas", type=int, default=30, help="default %(default)s")
    parser.add_argument("--steps", type=int, default=60, help="timesteps of the batched engines (default %(default)s)")
    parser.add_argument("--ase-steps", type=int, default=5, help="of each replica with ASE (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each engine (default %(default)s)")
    parser.add_argument("--temperature", type=float, default=300.0, help="K (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="of the training before (default %(default)s)")
    parser.add_argument("--mode", choices=MODES, default="script", help="of the models (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and velocities")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console()
    for architecture in given.architectures:
        with console.status(f"{architecture}: training"):
            task = make_task(given, architecture)
        difference = check(task)
        for engine in ENGINES.values():
            engine(task, 3)  # compiles, fills caches
        rates: dict[str, list[float]] = {name: [] for name in ENGINES}
        turns = [name for _ in range(given.repeats) for name in ENGINES]
        for name in track(turns, description=architecture, console=console, transient=True):
            steps = given.ase_steps if name.startswith("ASE") else given.steps
            rates[name].append(given.replicas * steps / ENGINES[name](task, steps))
        console.print(*summary(architecture, task, given, rates, difference), sep="\n")


def make_task(given: argparse.Namespace, architecture: str) -> Task:
    """Get the frames, train a model for a moment, draw momenta."""
    model, dataset = trained(
        architecture, xyz=given.xyz, epochs=given.epochs, seed=given.seed, overrides=given.overrides
    )
    start = starting_geometry(dataset)
    if start.pbc.any():
        raise SystemExit(f"{start.origin}: this benchmark is for molecules; give frames without a periodic cell")
    momenta = initial_momenta(
        start, MDProtocol(temperature_K=given.temperature, replicas=given.replicas, seed=given.seed)
    )
    molecule = Atoms(start.atomic_numbers, start.positions)
    calculator = own_calculator(model.eval(), architecture, MODES[given.mode][architecture], molecule)
    if given.mode == "compile":
        compile_potential(model, collate([graph(start, model.cutoff)] * given.replicas), training=False)
    return Task(model, start, momenta, given.temperature, calculator)


def summary(
    architecture: str, task: Task, given: argparse.Namespace, rates: dict[str, list[float]], difference: float
) -> tuple[Table, str]:
    """The table, and the ratios, one a line."""
    parameters = sum(p.numel() for p in task.model.parameters())
    title = (
        f"{architecture}, {parameters:,} parameters: {len(task.start)} atoms, {given.replicas} replicas, "
        f"{given.temperature:g} K, {given.threads} thread(s)"
    )
    table = Table(title=title)
    for column in ("engine", "steps", "ms a step", "replica steps/s", "least … most"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, each in rates.items():
        steps = given.repeats * (given.ase_steps if name.startswith("ASE") else given.steps)
        median = float(np.median(each))
        ms = f"{1000.0 * given.replicas / median:.2f}"
        table.add_row(name, str(steps), ms, f"{median:.0f}", f"{min(each):.0f} … {max(each):.0f}")
    how = MODES[given.mode][architecture]
    calculator = f"{type(task.calculator).__name__}, {how} (forces within {difference:.0e} eV/Å)"
    berendsen, ase, langevin, torch_sim = (np.array(each) for each in rates.values())
    return table, (
        f"{ratio(berendsen, ase)} the steps a second of ASE's NVTBerendsen with {calculator}\n"
        f"{ratio(langevin, torch_sim)} those of torch-sim's nvt_langevin with the same model\n"
    )


def ratio(own: np.ndarray, peer: np.ndarray) -> str:
    """Median, least and most over the turns."""
    each = own / peer
    return f"mlip-sweep takes {np.median(each):.2f}× ({each.min():.2f} … {each.max():.2f} of {len(each)} turns)"


if __name__ == "__main__":
    main()
